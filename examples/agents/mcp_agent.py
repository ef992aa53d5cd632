"""A tiny agent on the host that uses MCP tools and requests its reward when it is done.

    pip install ".[hud]"    # in a checkout
    pytest --harbor-dataset=examples/tasks --harbor-task=hello-world --harbor-adapt=hud --harbor-agent-where=host \
        --harbor-agent-command="python3 \"$PWD/examples/agents/mcp_agent.py\""

A real agent would let a model choose from `session.list_tools()`; this one follows a rule for one task.
"""

import asyncio
import json
import os
import re

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

SCENARIO = os.environ["HARBOR_MCP_SCENARIO"]


async def work(session):
    """Write the file that the instruction shows as an indented block, and return the reward."""
    instruction = (await session.get_prompt(SCENARIO)).messages[0].content.text
    path = re.search(r"`(/[^`]+)`", instruction)
    content = re.findall(r"^    (.+)$", instruction, re.MULTILINE)
    if not path or not content:
        print("I don't know how to do this.")
        return 0.0

    result = await session.call_tool("edit", {"command": "create", "path": path[1], "file_text": "\n".join(content)})
    print(result.content[0].text)
    evaluation = await session.read_resource(SCENARIO)
    return json.loads(evaluation.contents[0].text)["reward"]


async def main():
    """Connect to the trial's MCP server and work on the task."""
    async with (
        streamable_http_client(os.environ["HARBOR_MCP_URL"]) as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        print("My reward is", await work(session))


asyncio.run(main())

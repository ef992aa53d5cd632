"""Drives a container with HUD's own library; runs in an environment that has hud-python 0.5.41.

Reads from standard input {"run": words of `docker run -i`, "name": the environment's name, "steps": a list of lists}
and writes one line of JSON with what each step gave: {"text": ...} or {"error": ...}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import hud
from hud.environment import Environment
from hud.eval.task import Task


async def _step(env: Any, name: str, step: list[Any]) -> Any:
    kind, *rest = step
    if kind == "tools":
        return sorted(tool.name for tool in await env.list_tools())
    if kind == "set up":
        return await env.run_scenario_setup(f"{name}:run-task", {"task_id": rest[0]} if rest else {})
    if kind == "grade":
        await env.submit("run-task", "done")
        return (await env.run_scenario_evaluate(f"{name}:run-task")).model_dump()
    if kind == "rows":
        return [Task(**row).model_dump(mode="json", exclude_none=True) for row in rest[0]]
    if kind == "row":
        task = Task(env=env, scenario=rest[0]["scenario"], args=rest[0]["args"])
        async with hud.eval(task, trace=False, quiet=True) as context:
            for call in rest[1:]:
                await context.call_tool("bash", command=call)
            await context.submit("done")
        return {"prompt": context.prompt, "reward": context.reward}
    result = await env.call_tool(kind, **rest[0])
    if result.isError:
        raise RuntimeError(result.content[0].text)
    return "".join(content.text for content in result.content if content.type == "text")


async def main() -> None:
    """Do the steps in one session."""
    plan = json.load(sys.stdin)
    env = Environment("client")
    env.connect_mcp_config({"container": {"command": "docker", "args": plan["run"]}})
    results: list[dict[str, Any]] = []

    async def take(step: list[Any]) -> None:
        try:
            results.append({"text": await _step(env, plan["name"], step)})
        except Exception as error:
            results.append({"error": str(error)})

    if plan["steps"][0][0] == "row":
        await take(plan["steps"][0])
    else:
        async with env:
            for step in plan["steps"]:
                await take(step)
    print(json.dumps(results))


asyncio.run(main())

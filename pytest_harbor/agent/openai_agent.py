"""The built-in agent `openai`, which is also the example for users' own agents."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pytest_harbor._util.choices import OPENAI
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.agent.callable import CallableAgent
from pytest_harbor.task import Task


class OpenAIAgent:
    """An agent on the host whose tools act in the environment; see `pytest_harbor/agent/openai.py`.

    Args:
        name: the agent's name.

    """

    where = "host"
    calls_models = True

    def __init__(self, name: str = OPENAI) -> None:
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """Return None: it can work on any task."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Let a model work until it is done or runs out of time or turns."""
        # Imported here, because importing the client takes about a second.
        from pytest_harbor.agent.openai import solve

        return CallableAgent(solve, self.name).run(context)

    @staticmethod
    def missing_setting(variables: Mapping[str, str]) -> str:
        """Return which setting is missing from the environment variables and how to set it, or an empty string."""
        if variables.get("OPENAI_MODEL") or os.environ.get("OPENAI_MODEL"):
            return ""
        return "no model is set; give --harbor-model=NAME"

    @staticmethod
    def unmet_requirement(variables: Mapping[str, str]) -> str:
        """Return what is wrong with the model's server in the environment variables, with the fix, or ""."""
        url, key = (variables.get(name) or os.environ.get(name, "") for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"))
        if not url and not key:
            return "no model server is set; set OPENAI_API_KEY, or OPENAI_BASE_URL for your own server"
        if url and not re.match(r"https?://[^/]", url):
            return f"OPENAI_BASE_URL={url} is not a URL; use http://HOST:PORT/v1 or https://HOST/v1"
        return ""

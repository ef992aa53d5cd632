"""The agent `openai`: the example for users' own agents, as one that comes along."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pytest_harbor._util.choices import OPENAI
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.agent.callable import CallableAgent
from pytest_harbor.task import Task


class OpenAIAgent:
    """Works on the host, with tools that reach into the environment; see `pytest_harbor/agent/openai.py`.

    Args:
        name: the agent's name.

    """

    where = "host"

    def __init__(self, name: str = OPENAI) -> None:
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """It can be tried on any task."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Let a model work until it is done, or out of time or turns."""
        # Its client takes a second to import, which is not the agent's.
        from pytest_harbor.agent.openai import solve

        return CallableAgent(solve, self.name).run(context)

    @staticmethod
    def missing_setting(variables: Mapping[str, str]) -> str:
        """Return what an agent with these variables cannot work without, and the fix; empty where it has all."""
        if variables.get("OPENAI_MODEL") or os.environ.get("OPENAI_MODEL"):
            return ""
        return "no model was named; give --harbor-model=NAME"

"""The built-in agent `openai`, which is also the example for users' own agents."""

from __future__ import annotations

import os
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

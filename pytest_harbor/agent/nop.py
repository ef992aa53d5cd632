"""The agent `nop`, which does nothing: any reward it gets is one that the task gives away."""

from __future__ import annotations

from pytest_harbor._util.choices import NOP
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.task import Task


class NopAgent:
    """An agent that does nothing.

    Args:
        name: the agent's name.

    """

    calls_models = False

    def __init__(self, name: str = NOP) -> None:
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """Return None: it can leave any task alone."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Do nothing."""
        return AgentReport()

"""The agent that does nothing: what it earns, a task gives away."""

from __future__ import annotations

from pytest_harbor._util.choices import NOP
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.task import Task


class NopAgent:
    """Does nothing.

    Args:
        name: the agent's name.

    """

    calls_models = False

    def __init__(self, name: str = NOP) -> None:
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """Any task can be left alone."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Return at once."""
        return AgentReport()

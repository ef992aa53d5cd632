"""The agent `oracle`, which runs the task's own solution."""

from __future__ import annotations

from pytest_harbor._util.choices import ORACLE
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.agent.command import run_line
from pytest_harbor.environment.uploads import folder_uploads
from pytest_harbor.task import Task
from pytest_harbor.task.variables import resolve_variables

SOLUTION = "/solution"


class OracleAgent:
    """An agent that uploads solution/ and runs solve.sh, as Harbor's oracle does.

    The exit code is reported and does not affect the outcome.
    """

    calls_models = False

    def __init__(self, name: str = ORACLE) -> None:
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """Return the reason to skip a task without a solution."""
        return None if task.has_solution else "the task has no solution/solve.sh for the oracle to run"

    def run(self, context: AgentContext) -> AgentReport:
        """Run the solution."""
        uploads, notes = folder_uploads(context.task, "solution", SOLUTION)
        context.environment.upload(uploads)
        for note in notes:
            context.log(f"harbor: {note}\n".encode())
        own = resolve_variables(context.task.config.solution.env, "[solution].env")
        variables = {"DEBIAN_FRONTEND": "noninteractive", **context.variables, **own}
        return run_line(f"({SOLUTION}/solve.sh)", context, variables)

"""An agent that is a command line run in the environment."""

from __future__ import annotations

from pytest_harbor._util.choices import COMMAND
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.environment import Process
from pytest_harbor.errors import CannotExecute
from pytest_harbor.task import Task

MISSING_FIX = (
    "install the agent with --harbor-agent-setup, copy it with --harbor-agent-files, or run it on this machine with "
    "--harbor-agent-where=host"
)

WORKDIR_FIX = "check --harbor-agent-workdir and the workdir of the task; the directory must exist in the environment"


class CommandAgent:
    """An agent that runs a command line in the environment.

    Args:
        line: the command line, run by bash, or by sh if there is no bash.
        name: the agent's name.

    """

    def __init__(self, line: str, name: str = COMMAND) -> None:
        self.line = line
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """Return None: a command can work on any task."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Run the command as the agent's user in the agent's working directory.

        Raises:
            CannotExecute: the program, the working directory or the user does not exist.

        """
        try:
            return run_line(self.line, context, dict(context.variables))
        except CannotExecute as error:
            if "command not found" in error.fact or error.fact.endswith(": no such file"):
                error.fix = MISSING_FIX
            elif context.workdir in error.fact:
                error.fix = WORKDIR_FIX
            raise


def run_line(line: str, context: AgentContext, variables: dict[str, str]) -> AgentReport:
    """Run a command line as the agent's user, in its working directory and with its time limit."""
    started: list[Process] = []
    result = context.environment.exec(
        line,
        user=context.user,
        cwd=context.workdir,
        env=variables,
        timeout=context.timeout,
        output=context.log,
        on_start=started.append,
    )
    return AgentReport(
        exit_code=None if result.timed_out else result.exit_code,
        timed_out=result.timed_out,
        first_process=started[0] if started else None,
    )

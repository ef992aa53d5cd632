"""The agent protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_harbor._util.logs import LogFile
from pytest_harbor.environment import Environment, Process
from pytest_harbor.task import Task


@dataclass(frozen=True)
class AgentContext:
    """The input of one agent run.

    Attributes:
        task: the task; its instruction is `task.instruction`.
        environment: the environment to work in.
        variables: environment variables for the agent's processes.
        host_variables: additional environment variables for its processes on the host.
        user: the user in the environment; None for the image's user.
        workdir: the working directory in the environment.
        timeout: the time limit in seconds.
        log: receives the agent's output.
        directory: the trial's directory on the host, where the agent may leave files.
        excluded_seconds: returns the seconds so far that do not count against the timeout, because the agent was
            waiting for grading that it had requested.

    """

    task: Task
    environment: Environment
    variables: dict[str, str]
    user: str | None
    workdir: str
    timeout: float
    log: LogFile
    directory: Path
    excluded_seconds: Callable[[], float] = float
    host_variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentReport:
    """How an agent run ended.

    Attributes:
        exit_code: the exit code; None if there is none, such as after a timeout.
        timed_out: whether the agent ran out of time. The caller then kills its processes in the environment.
        first_process: the agent's first process in the environment; every process since then belongs to the agent.
        note: anything else a reader should know, in one line.

    """

    exit_code: int | None = 0
    timed_out: bool = False
    first_process: Process | None = None
    note: str = ""


class Agent(Protocol):
    """The protocol of agents.

    Three attributes are optional: `where` is `host` for an agent that runs a program on the host; `calls_models` is
    False for an agent that never calls a model, and True for one that always does; `unmet_requirement(variables)`
    returns what the host lacks for the agent with these environment variables, and how to fix it, or an empty string.
    """

    @property
    def name(self) -> str:
        """The name used in results and baselines."""

    def skip_reason(self, task: Task) -> str | None:
        """Return the reason to skip a task that this agent cannot work on, or None."""

    def run(self, context: AgentContext) -> AgentReport:
        """Work on the task until it is done or the time is up.

        Raises:
            CannotExecute: the agent could not be started.
            EnvironmentLost: the environment ended in the meantime.
            InfrastructureError: something else around the agent failed.

        """


def runs_on_host(agent: Agent) -> bool:
    """Return True if an agent runs a program on the host rather than in the environment."""
    return getattr(agent, "where", "") == "host"


def may_call_models(agent: Agent) -> bool:
    """Return True unless an agent declares that it never calls a model."""
    return bool(getattr(agent, "calls_models", True))


def always_calls_models(agent: Agent) -> bool:
    """Return True if an agent declares that it calls a model for every task."""
    return getattr(agent, "calls_models", None) is True


def unmet_requirement(agent: Agent, variables: Mapping[str, str]) -> str:
    """Return what the host lacks for an agent, with the fix, or an empty string.

    Args:
        agent: the agent.
        variables: environment variables that are set for it.

    """
    check: Callable[[Mapping[str, str]], str] | None = getattr(agent, "unmet_requirement", None)
    return check(variables) if check is not None else ""

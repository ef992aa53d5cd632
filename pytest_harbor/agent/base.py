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
    """What an agent gets for one trial.

    Attributes:
        task: the task; its instruction is `task.instruction`.
        environment: where it works.
        variables: environment variables of the agent, of what it runs in the environment.
        host_variables: further variables, of what it runs on the host.
        user: who it is in the environment; None for the image's user.
        workdir: where it works in the environment.
        timeout: seconds it has.
        log: takes its output.
        directory: a directory of the trial on the host, for what the agent wants to leave there.
        excluded_seconds: seconds so far that are not the agent's, as it waits for a grading that it asked for.

    """

    task: Task
    environment: Environment
    variables: Mapping[str, str]
    user: str | None
    workdir: str
    timeout: float
    log: LogFile
    directory: Path
    excluded_seconds: Callable[[], float] = float
    host_variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentReport:
    """How an agent ended.

    Attributes:
        exit_code: its exit code; None when it has none, as after a timeout.
        timed_out: whether its time ran out. Whoever runs the trial then kills what it left in the environment.
        first_process: the first process it had in the environment: what began with it or later is the agent's.
        note: what a reader should know beyond that, in one line.

    """

    exit_code: int | None = 0
    timed_out: bool = False
    first_process: Process | None = None
    note: str = ""


class Agent(Protocol):
    """What works on a task.

    An agent that runs a program on the host has an attribute `where` with the value `host`; one that surely calls no
    model has an attribute `calls_models` that is false.
    """

    @property
    def name(self) -> str:
        """The name that results and baselines are kept under."""

    def skip_reason(self, task: Task) -> str | None:
        """Return why this agent cannot be run on a task, which skips it; None when it can."""

    def run(self, context: AgentContext) -> AgentReport:
        """Work on the task until done or out of time.

        Raises:
            CannotExecute: the agent could not be started at all.
            EnvironmentLost: the environment ended meanwhile.
            InfrastructureError: something else around the agent failed.

        """


def runs_on_host(agent: Agent) -> bool:
    """Tell whether an agent runs a program on the host, and nothing of its own in the environment."""
    return getattr(agent, "where", "") == "host"


def may_call_models(agent: Agent) -> bool:
    """Tell whether an agent may call a model."""
    return bool(getattr(agent, "calls_models", True))

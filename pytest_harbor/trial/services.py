"""What accompanies an agent's work: a server for it, say, whose address it gets as a variable."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_harbor.agent import Agent, AgentContext
from pytest_harbor.task import Task
from pytest_harbor.trial.hooks import TrialHooks
from pytest_harbor.trial.result import TrialResult


@dataclass(frozen=True)
class ServiceContext:
    """What a service gets for one trial.

    Attributes:
        agent: who works.
        work: what the agent gets; its variables are complete when its work begins, not yet when a service is opened.
        result: what the trial has come to so far; a service may add to its warnings, and to what it alone knows of.
        hooks: where others step in.
        graded: tells whether grading has begun, which an agent may ask for while it works.
        grade: ends the agent's work and grades it now, once, and returns the result so far. It may be called from any
            thread, and raises what grading raises.

    """

    agent: Agent
    work: AgentContext
    result: TrialResult
    hooks: TrialHooks
    graded: Callable[[], bool]
    grade: Callable[[], TrialResult]


@dataclass(frozen=True)
class AgentVariables:
    """Variables that a service has for an agent.

    Attributes:
        environment: for what the agent runs in the environment.
        host: for what it runs on the host, on top of all others.

    """

    environment: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)


class AgentService(Protocol):
    """Accompanies the work of agents. One object serves all trials of a process, several at a time."""

    def admit(self, task: Task, variables: Mapping[str, str]) -> None:
        """Look at the variables that everything in an environment is to have, before it is started.

        Raises:
            InfrastructureError: they must not be there.

        """

    def admit_setup(self, text: str, files: Sequence[tuple[Path, str]]) -> None:
        """Look at an agent's set-up and the agent files, before an image or an environment has anything of them.

        Raises:
            InfrastructureError: they must not be there.

        """

    def close(self) -> None:
        """Let go of whatever it holds, at the end of a run."""

    def open(self, context: ServiceContext) -> AbstractContextManager[AgentVariables]:
        """Accompany one agent from the beginning of its work to its end.

        Returns:
            A context manager; it gives variables for the agent, none where it has nothing for this one. When it is
            left, nothing of the service remains, neither here nor in the environment.

        Raises:
            InfrastructureError: it cannot be had. When raised at the end: the agent could not work because of this.

        """


class Grading:
    """Grading that may be asked for while the agent still works: done once, in the thread of whoever asks first.

    Args:
        grade: grades, and returns what makes the outcome the trial's result.

    """

    def __init__(self, grade: Callable[[], Callable[[], TrialResult]]) -> None:
        self._grade = grade
        self._lock = threading.Lock()
        self._concluding = threading.Lock()
        self._closed = False
        self._result: TrialResult | None = None
        self._began: float | None = None
        self._ended: float | None = None
        self.error: BaseException | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        if self._began is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._began

    @property
    def begun(self) -> bool:
        """Whether anybody has asked for it."""
        return self._began is not None

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self._result is not None

    def ask(self) -> TrialResult:
        """Grade, unless that is done or going on, and return the result when there is one.

        Raises:
            InfrastructureError: grading failed.
            TimeoutError: it is too late.

        """
        with self._lock:
            if self._began is None:
                if self._closed:
                    raise TimeoutError("the trial is over")
                self._began = time.monotonic()
                try:
                    conclude = self._grade()
                    with self._concluding:
                        if self._closed:
                            raise TimeoutError("the trial was over before grading ended")
                        self._result = conclude()
                except BaseException as error:
                    self.error = error
                finally:
                    self._ended = time.monotonic()
            if self.error is not None:
                raise self.error
            assert self._result is not None
            return self._result

    def settle(self) -> None:
        """Wait for what goes on; nothing begins any more."""
        with self._lock:
            self._closed = True

    def abandon(self) -> None:
        """Have what goes on change no result any more, and wait for nothing."""
        with self._concluding:
            self._closed = True


@contextlib.contextmanager
def open_services(
    services: Sequence[AgentService],
    agent: Agent,
    work: AgentContext,
    result: TrialResult,
    hooks: TrialHooks,
    grading: Grading,
) -> Iterator[AgentVariables]:
    """Have services accompany an agent's work; gives their variables.

    A grading that goes on when the work ends well is waited for, and then the services end.
    """
    variables: dict[str, str] = {}
    host: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for service in services:
            context = ServiceContext(agent, work, result, hooks, lambda: grading.begun, grading.ask)
            given = stack.enter_context(service.open(context))
            variables.update(given.environment)
            host.update(given.host)
        try:
            yield AgentVariables(variables, host)
            grading.settle()
        except BaseException:
            grading.abandon()
            raise

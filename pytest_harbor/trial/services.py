"""Services for agents, such as the model proxy, and grading at an agent's request."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.agent import Agent, AgentContext
from pytest_harbor.task import Task
from pytest_harbor.trial.hooks import TrialHooks
from pytest_harbor.trial.result import TrialResult


@dataclass(frozen=True)
class ServiceContext:
    """One trial, as a service sees it.

    Attributes:
        agent: the agent.
        work: the agent's context; its environment variables are complete when the agent starts, but not yet when a
            service is opened.
        result: the result so far; a service may add warnings, and the fields that only it knows.
        hooks: hooks to call.
        graded: returns True once grading has started, which an agent may request while it works.
        grade: ends the agent's work, grades it, once, and returns the result so far. It may be called from any thread,
            and raises what grading raises.
        model_calls: whether the agent called a model for this task in an earlier run; None if that is not known.

    """

    agent: Agent
    work: AgentContext
    result: TrialResult
    hooks: TrialHooks
    graded: Callable[[], bool]
    grade: Callable[[], TrialResult]
    model_calls: bool | None = None


@dataclass(frozen=True)
class AgentVariables:
    """Environment variables that a service gives an agent.

    Attributes:
        environment: for what the agent runs in the environment.
        host: for what it runs on the host, where they take precedence.

    """

    environment: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)


class AgentService(Protocol):
    """A service for agents. One object serves all trials of a process, several at a time."""

    def admit(self, task: Task, variables: Mapping[str, str]) -> None:
        """Check the environment variables of an environment before it is started.

        Raises:
            InfrastructureError: one of them must not reach the environment, such as a real API key.

        """

    def admit_setup(self, text: str, files: Sequence[tuple[Path, str]]) -> None:
        """Check an agent's setup and files before they reach an image or an environment.

        Raises:
            InfrastructureError: something in them must not get there, such as a real API key.

        """

    def close(self) -> None:
        """Release all resources, at the end of a run."""

    def open(self, context: ServiceContext) -> AbstractContextManager[AgentVariables]:
        """Serve one agent while it works.

        Returns:
            A context manager that gives the agent's environment variables, possibly none. On exit it removes everything
            that the service started, here and in the environment.

        Raises:
            InfrastructureError: the service is not available; if raised on exit, the agent could not work because of
                that.

        """


class Grading:
    """Grading that may be requested while the agent still works. It runs once, in the thread of the first request.

    Args:
        grade: grades, and returns a function that turns the outcome into the trial's result.

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
        """Seconds that grading has taken so far."""
        if self._began is None:
            return 0.0
        return (self._ended or monotonic()) - self._began

    @property
    def begun(self) -> bool:
        """Whether grading was requested."""
        return self._began is not None

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self._result is not None

    def ask(self) -> TrialResult:
        """Return the result of grading; the first call grades, and others wait for it.

        Raises:
            InfrastructureError: grading failed.
            TimeoutError: the trial is over.

        """
        with self._lock:
            if self._began is None:
                if self._closed:
                    raise TimeoutError("the trial is over")
                self._began = monotonic()
                try:
                    conclude = self._grade()
                    with self._concluding:
                        if self._closed:
                            raise TimeoutError("the trial was over before grading ended")
                        self._result = conclude()
                except BaseException as error:
                    self.error = error
                finally:
                    self._ended = monotonic()
            if self.error is not None:
                raise self.error
            assert self._result is not None
            return self._result

    def settle(self) -> None:
        """Wait for grading in progress, and refuse new requests."""
        with self._lock:
            self._closed = True

    def abandon(self) -> None:
        """Keep grading in progress from changing the result, without waiting for it."""
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
    model_calls: bool | None = None,
) -> Iterator[AgentVariables]:
    """Open services for an agent while it works; gives the environment variables that they add.

    If the agent ends normally while grading is in progress, grading ends first, and then the services.
    """
    variables: dict[str, str] = {}
    host: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for service in services:
            context = ServiceContext(agent, work, result, hooks, lambda: grading.begun, grading.ask, model_calls)
            given = stack.enter_context(service.open(context))
            variables.update(given.environment)
            host.update(given.host)
        try:
            yield AgentVariables(variables, host)
            grading.settle()
        except BaseException:
            grading.abandon()
            raise

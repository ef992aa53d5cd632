"""An agent that is a Python callable: `(task, environment)`, sync or async."""

from __future__ import annotations

import contextlib
import inspect
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pytest_harbor._util.logs import LogFile
from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.agent.command import WORKDIR_FIX
from pytest_harbor.environment import ExecResult
from pytest_harbor.environment.user_environment import UserEnvironment
from pytest_harbor.errors import (
    CannotExecute,
    EnvironmentLost,
    InfrastructureError,
    UnmetRequirement,
)
from pytest_harbor.task import Task


class AgentTimeout(Exception):
    """The agent is out of time: its environment rejects further calls."""


class AgentEnvironment(UserEnvironment):
    """The environment of a callable agent: its methods act as the agent's user, with its environment variables.

    Once the agent is out of time, they raise AgentTimeout.

    Attributes:
        name: the container's name, for your own programs.
        variables: the agent's environment variables, HARBOR_TASK_NAME and so on, for programs on the host.
        workdir: the agent's working directory.
        directory: a directory on the host for files to keep with the trial; create it if it does not exist.

    """

    def __init__(self, context: AgentContext) -> None:
        super().__init__(
            context.environment,
            user=context.user,
            workdir=context.workdir,
            variables=context.variables,
            output=context.log,
        )
        self._deadline = monotonic() + context.timeout
        self._revoked = False
        self.lost: EnvironmentLost | None = None
        self.variables = {**context.variables, **context.host_variables}
        self.directory = context.directory / "host"

    def log(self, data: bytes | str) -> None:
        """Append text or bytes to the agent's log."""
        self._log(data.encode("utf-8", "replace") if isinstance(data, str) else data)

    def revoke(self) -> None:
        """Reject further calls."""
        self._revoked = True

    def _remaining(self) -> float:
        remaining = self._deadline - monotonic()
        if self._revoked or remaining <= 0:
            raise AgentTimeout("the agent is out of time")
        return remaining

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        try:
            yield
        except EnvironmentLost as error:
            self.lost = error
            raise


class AsyncAgentEnvironment:
    """AgentEnvironment for `async def` agents: the same methods, awaitable and safe to run concurrently."""

    def __init__(self, environment: AgentEnvironment) -> None:
        self._environment = environment
        self.name = environment.name
        self.variables = environment.variables
        self.workdir = environment.workdir
        self.directory = environment.directory
        self.log = environment.log

    async def exec(self, command: str | Sequence[str], **options: Any) -> ExecResult:
        """See AgentEnvironment.exec."""
        result: ExecResult = await _asyncio().to_thread(self._environment.exec, command, **options)
        return result

    async def upload(self, source: str | Path, target: str) -> None:
        """See AgentEnvironment.upload."""
        await _asyncio().to_thread(self._environment.upload, source, target)

    async def download(self, source: str, target: str | Path) -> None:
        """See AgentEnvironment.download."""
        await _asyncio().to_thread(self._environment.download, source, target)


class CallableAgent:
    """An agent that calls a Python callable on the host.

    An exception from the callable is a failure of the agent: it is logged, and the environment is graded. A callable
    that runs out of time cannot be stopped from outside; its environment rejects further calls, and an async callable
    is cancelled.

    Args:
        function: takes a Task and an AgentEnvironment (AsyncAgentEnvironment if it is async).
        name: the agent's name; empty for the function's name.

    """

    def __init__(self, function: Callable[..., Any], name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def skip_reason(self, task: Task) -> str | None:
        """Return None: a callable can work on any task."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Call the function in a thread and wait for it until the time limit."""
        # Also checks the configured user and working directory: later, a missing one is the agent's own doing.
        try:
            first = context.environment.exec(["true"], user=context.user, cwd=context.workdir).process
        except CannotExecute as error:
            if context.workdir in error.fact:
                error.fix = WORKDIR_FIX
            raise
        environment = AgentEnvironment(context)
        outcome = _CallOutcome()
        thread = threading.Thread(
            target=self._call,
            args=(context, environment, outcome),
            name=f"harbor-agent-{self.name}",
            daemon=True,
        )
        thread.start()
        try:
            finished = outcome.done.wait(context.timeout)
        finally:
            environment.revoke()
        if environment.lost is not None:
            raise environment.lost
        if not finished or isinstance(outcome.error, AgentTimeout):
            return AgentReport(None, timed_out=True, first_process=first)
        if outcome.error is None:
            return AgentReport(0, first_process=first)
        if isinstance(outcome.error, SystemExit):
            # The main() of a command-line program often ends with sys.exit().
            return AgentReport(_exit_code(outcome.error), first_process=first)
        if isinstance(outcome.error, InfrastructureError) or not isinstance(outcome.error, Exception):
            raise outcome.error
        _log_traceback(context.log, outcome.error)
        # The model proxy knows more, and decides by itself.
        if "OPENAI_API_KEY" not in context.host_variables and (failure := _model_failure(outcome.error)):
            raise failure from outcome.error
        return AgentReport(1, first_process=first, note=f"raised {type(outcome.error).__name__}: {outcome.error}")

    def _call(self, context: AgentContext, environment: AgentEnvironment, outcome: _CallOutcome) -> None:
        try:
            result = self._invoke(context, environment)
            if result is not None:
                environment.log(f"{result}\n")
        except BaseException as error:
            outcome.error = error
        finally:
            outcome.done.set()

    def _invoke(self, context: AgentContext, environment: AgentEnvironment) -> Any:
        function = self.function
        call = getattr(function, "__call__", None)  # noqa: B004 - finds an async __call__
        if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)):
            result = function(context.task, environment)
            if not inspect.isawaitable(result):
                return result
            raise TypeError("a sync callable returned an awaitable: declare it with async def")

        async def bounded() -> Any:
            work = function(context.task, AsyncAgentEnvironment(environment))
            return await _asyncio().wait_for(work, context.timeout)

        try:
            return _asyncio().run(bounded())
        except _asyncio().TimeoutError as error:
            if monotonic() >= environment._deadline:
                raise AgentTimeout("the agent is out of time") from error
            raise


def _asyncio() -> Any:
    """Return asyncio, imported only for async agents, because each worker of a run would pay for the import."""
    import asyncio

    return asyncio


class _CallOutcome:
    """The outcome of a call in a thread."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None


def _exit_code(error: SystemExit) -> int:
    """Return the exit code that Python would use for a SystemExit."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _model_failure(error: Exception) -> InfrastructureError | None:
    """Return the infrastructure error that an exception of OpenAI's or Anthropic's client stands for, if it does.

    Clients built on them, such as litellm, derive their exceptions from theirs.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.split(".")[0] in ("openai", "anthropic")}
    status = getattr(error, "status_code", 0)
    if not kinds or not ("APIConnectionError" in kinds or status in _MODEL_FAILURES or status in range(500, 600)):
        return None
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    lasts = status in (401, 402, 403, 404)
    return (UnmetRequirement if lasts else InfrastructureError)(
        f"a model call failed and the agent raised {type(error).__name__}: {error}{cause}",
        "check the model's name, the URL (does it end with /v1?) and the key" if lasts or status == 0 else "",
    )


# HTTP statuses that mean a wrong name, URL or key, or a busy server.
_MODEL_FAILURES = (401, 402, 403, 404, 408, 409, 429)


def _log_traceback(log: LogFile, error: Exception) -> None:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    log("".join(lines).encode("utf-8", "replace"))

"""An agent that is a Python callable: `(task, environment)`, sync or async."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_harbor._util.logs import LogFile
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.environment import ExecResult, Upload
from pytest_harbor.errors import EnvironmentLost, InfrastructureError
from pytest_harbor.task import Task

TICK = 0.05


class AgentTimeout(Exception):
    """The agent's time is over: its environment takes no more calls."""


class AgentEnvironment:
    """The environment as a callable agent sees it: as the agent's user, in its working directory, with its variables.

    Attributes:
        name: name of the container, for programs of your own.
        variables: the agent's variables, HARBOR_TASK_NAME and so on, as a program on the host needs them.
        workdir: the agent's working directory.
        directory: a directory on the host for files that are kept with the trial; it may have to be made.
        log: takes bytes or text for the agent's log.

    """

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._environment = context.environment
        self._deadline = time.monotonic() + context.timeout
        self._revoked = False
        self.lost: EnvironmentLost | None = None
        self.name = context.environment.name
        self.variables = {**context.variables, **context.host_variables}
        self.workdir = context.workdir
        self.directory = context.directory / "host"

    def exec(
        self,
        command: str | Sequence[str],
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        log: bool = True,
    ) -> ExecResult:
        """Run a command and return its exit code and output.

        Args:
            command: a line for bash, or the words of one program.
            timeout: seconds, at most what the agent has left.
            cwd: where; the agent's working directory when None.
            env: variables on top of the agent's.
            user: who; the agent's user when None.
            log: whether its output goes to the agent's log, as it comes.

        Raises:
            AgentTimeout: the agent's time is over.
            CannotExecute: there is no such command; `exit_code` 127 comes only from a shell that ran.

        """
        left = self._left()
        with self._watch_for_loss():
            return self._environment.exec(
                command,
                user=user or self._context.user,
                cwd=cwd or self.workdir,
                env={**self._context.variables, **(env or {})},
                timeout=left if timeout is None else min(timeout, left),
                output=self._context.log if log else None,
            )

    def upload(self, source: str | Path, target: str) -> None:
        """Copy a file or a directory from the host to an absolute path in the environment."""
        self._left()
        root = Path(source)
        if not root.exists():
            raise FileNotFoundError(f"{root} does not exist")
        uploads = [Upload(target, root)]
        if root.is_dir():
            uploads += [
                Upload(f"{target}/{path.relative_to(root).as_posix()}", path) for path in sorted(root.rglob("*"))
            ]
        with self._watch_for_loss():
            self._environment.upload(uploads)

    def download(self, source: str, target: str | Path) -> None:
        """Copy a file, or what is below a directory, from the environment to a path on the host.

        Raises:
            FileNotFoundError: there is nothing at that path.

        """
        self._left()
        with self._watch_for_loss():
            is_directory = self._environment.exec(["test", "-d", source], user="0", cwd="/").exit_code == 0
            if is_directory:
                self._environment.download(source, Path(target))
            else:
                self._environment.read_file(source, Path(target))

    def log(self, data: bytes | str) -> None:
        """Add to the agent's log."""
        self._context.log(data.encode("utf-8", "replace") if isinstance(data, str) else data)

    def revoke(self) -> None:
        """Take no more calls."""
        self._revoked = True

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if self._revoked or left <= 0:
            raise AgentTimeout("the agent's time is over")
        return left

    @contextlib.contextmanager
    def _watch_for_loss(self) -> Any:
        try:
            yield
        except EnvironmentLost as error:
            self.lost = error
            raise


class AsyncAgentEnvironment:
    """AgentEnvironment for `async def` agents: the same methods, awaitable, several at a time if you like."""

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
    """Runs a Python callable on the host.

    An exception of the callable is its own failure: it is logged, and what it left is graded. A callable that is out of
    time cannot be stopped from outside; its environment refuses further calls, an async one is cancelled.

    Args:
        function: takes a Task and an AgentEnvironment (AsyncAgentEnvironment if it is async).
        name: the agent's name; the function's when empty.

    """

    def __init__(self, function: Callable[..., Any], name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def skip_reason(self, task: Task) -> str | None:
        """A callable can be tried on any task."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Call the function in a thread and wait for it, at most as long as the agent has."""
        first = context.environment.exec(["true"], user="0", cwd="/").process
        environment = AgentEnvironment(context)
        ending = _Ending()
        thread = threading.Thread(
            target=self._call,
            args=(context, environment, ending),
            name=f"harbor-agent-{self.name}",
            daemon=True,
        )
        thread.start()
        try:
            finished = ending.event.wait(context.timeout)
        finally:
            environment.revoke()
        if environment.lost is not None:
            raise environment.lost
        if not finished or isinstance(ending.error, AgentTimeout):
            return AgentReport(None, timed_out=True, first_process=first)
        if ending.error is None:
            return AgentReport(0, first_process=first)
        if isinstance(ending.error, SystemExit):
            # The main() of a command-line program ends like this.
            return AgentReport(_exit_code(ending.error), first_process=first)
        if isinstance(ending.error, InfrastructureError) or not isinstance(ending.error, Exception):
            raise ending.error
        _log_traceback(context.log, ending.error)
        return AgentReport(1, first_process=first, note=f"raised {type(ending.error).__name__}: {ending.error}")

    def _call(self, context: AgentContext, environment: AgentEnvironment, ending: _Ending) -> None:
        try:
            result = self._invoke(context, environment)
            if result is not None:
                environment.log(f"{result}\n")
        except BaseException as error:
            ending.error = error
        finally:
            ending.event.set()

    def _invoke(self, context: AgentContext, environment: AgentEnvironment) -> Any:
        function = self.function
        call = getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
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
            if time.monotonic() >= environment._deadline:
                raise AgentTimeout("the agent's time is over") from error
            raise


def _asyncio() -> Any:
    """Return asyncio, which is not imported for agents that are not async: every worker of a run would pay for it."""
    import asyncio

    return asyncio


class _Ending:
    """How a call in a thread ended."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.error: BaseException | None = None


def _exit_code(error: SystemExit) -> int:
    """Return what Python itself would make of a SystemExit."""
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _log_traceback(log: LogFile, error: Exception) -> None:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    log("".join(lines).encode("utf-8", "replace"))

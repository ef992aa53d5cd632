"""The shell that runs the scripts of an agent's tools in a trial's environment."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pytest_harbor.agent import AgentContext
from pytest_harbor.environment import Process, Upload
from pytest_harbor.errors import CannotExecute, InfrastructureError
from pytest_harbor.hud.tools import OutputBuffer, ShellResult, ToolError

T = TypeVar("T")

# Maximum number of concurrent calls; others wait.
CALLS = 64
# Marks the agent's own processes on the host, which are killed with it. Scripts do not get it, so that services that
# they start stay alive.
TRIAL_ID = "HARBOR_TRIAL_ID"
# Seconds to wait for killed calls to end.
KILL_TIMEOUT = 5.0


class EnvironmentShell:
    """Runs scripts as the agent's user, in its working directory and with its environment variables.

    Each call runs in a thread, as a script may take any time. A canceled call's script is killed.

    Args:
        work: the agent's context; its environment variables may still change.

    Attributes:
        stop_reason: why scripts are no longer accepted; empty while they are.
        failure: the first infrastructure error of a script.

    """

    def __init__(self, work: AgentContext) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(CALLS, thread_name_prefix="harbor-tool")
        self._changed = threading.Condition()
        self._calls: set[_Call] = set()
        self.stop_reason = ""
        self.failure: InfrastructureError | None = None

    async def __call__(self, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        """Run a script; see pytest_harbor.hud.tools.Shell.

        Raises:
            ToolError: the script cannot be run.

        """
        call = _Call()
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._run, call, script, stdin, timeout)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._pool.submit(self._kill, call)
            # Retrieve the result, so that asyncio does not warn about an exception that nobody retrieved.
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    def stop(self, reason: str) -> None:
        """Reject further scripts and kill the running ones; wait a few seconds until they are dead."""
        with self._changed:
            self.stop_reason = reason
            calls = set(self._calls)
        for call in calls:
            self._kill(call)
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, KILL_TIMEOUT)

    def run_cleanup(self, script: str) -> None:
        """Run a script after stop(), and ignore its errors."""
        with contextlib.suppress(InfrastructureError):
            self._exec(_Call(), script, KILL_TIMEOUT)

    def close(self, wait: bool) -> None:
        """Shut down the threads; do not wait for a script that could not be killed, which ends with its environment."""
        self._pool.shutdown(wait=wait and not self._calls, cancel_futures=True)

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """Run a function in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _run(self, call: _Call, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        with self._changed:
            if self.stop_reason:
                raise ToolError(self.stop_reason)
            self._calls.add(call)
        try:
            return self._run_with_input(call, script, stdin, timeout) if stdin else self._exec(call, script, timeout)
        except CannotExecute as error:
            raise ToolError(f"no command can be run in the environment: {error.fact}") from error
        except InfrastructureError as error:
            self.failure = self.failure or error
            raise ToolError(f"the environment failed: {error.fact}") from error
        finally:
            with self._changed:
                self._calls.discard(call)
                self._changed.notify_all()

    def _run_with_input(self, call: _Call, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        """Run a script that reads an uploaded file, as commands in an environment have no standard input."""
        environment = self._work.environment
        directory = f"/.harbor-{secrets.token_hex(8)}"
        environment.upload([Upload(directory, None, 0o711), Upload(f"{directory}/input", stdin, 0o644)])
        try:
            return self._exec(call, f"exec <{directory}/input\n{script}", timeout)
        finally:
            with contextlib.suppress(InfrastructureError):
                environment.exec(["rm", "-rf", directory], user="0", cwd="/")

    def _exec(self, call: _Call, script: str, timeout: float | None) -> ShellResult:
        buffer = OutputBuffer()
        result = self._work.environment.exec(
            ["/bin/sh", "-c", script],
            user=self._work.user,
            cwd=self._work.workdir,
            env=self._variables(),
            timeout=timeout,
            output=buffer.add,
            on_start=call.started,
        )
        return buffer.result(None if result.timed_out else result.exit_code)

    def _variables(self) -> Mapping[str, str]:
        return {name: value for name, value in self._work.variables.items() if name != TRIAL_ID}

    def _kill(self, call: _Call) -> None:
        """Kill a call's script, once it has started."""
        with contextlib.suppress(InfrastructureError):
            if call.has_started.wait(KILL_TIMEOUT) and call in self._calls and call.process is not None:
                self._work.environment.kill(call.process)


class _Call:
    """A script that is running, or about to be started."""

    def __init__(self) -> None:
        self.has_started = threading.Event()
        self.process: Process | None = None

    def started(self, process: Process) -> None:
        self.process = process
        self.has_started.set()

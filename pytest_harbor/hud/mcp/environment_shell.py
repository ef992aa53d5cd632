"""The shell of an agent's tools that runs scripts in the environment of a trial."""

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
from pytest_harbor.hud.tools.tools import Kept, ShellResult, ToolError

T = TypeVar("T")

# Calls that run at the same time; a further one waits.
CALLS = 64
# By this a host knows the agent's own processes, which end with it; a service that it has started here does not.
TRIAL_ID = "HARBOR_TRIAL_ID"
# Seconds that calls get to end when they are killed.
KILL_PATIENCE = 5.0


class EnvironmentShell:
    """Runs scripts as the agent's user, in its working directory and with its variables.

    A call runs in a thread, as a script may take as long as it likes. One whose caller gives it up is killed.

    Args:
        work: what the agent got; its variables may still change.

    Attributes:
        refusal: why no script is run any more; empty while they are.
        failure: the first thing that failed around a script, which no agent can help.

    """

    def __init__(self, work: AgentContext) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(CALLS, thread_name_prefix="harbor-tool")
        self._changed = threading.Condition()
        self._calls: set[_Call] = set()
        self.refusal = ""
        self.failure: InfrastructureError | None = None

    async def __call__(self, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        """Run a script; see pytest_harbor.hud.tools.tools.Shell.

        Raises:
            ToolError: it cannot be run.

        """
        call = _Call()
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._run, call, script, stdin, timeout)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._pool.submit(self._kill, call)
            # What it comes to is of no interest, and must not be complained about either.
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    def stop(self, why: str) -> None:
        """Refuse further scripts and kill those that run; when this returns, they are dead, or beyond reach."""
        with self._changed:
            self.refusal = why
            calls = set(self._calls)
        for call in calls:
            self._kill(call)
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, KILL_PATIENCE)

    def run_last(self, script: str) -> None:
        """Run a script after stop(), whatever becomes of it."""
        with contextlib.suppress(InfrastructureError):
            self._exec(_Call(), script, KILL_PATIENCE)

    def close(self, wait: bool) -> None:
        """Let go of the threads, and wait for them; one whose script is beyond reach ends with its environment."""
        self._pool.shutdown(wait=wait and not self._calls, cancel_futures=True)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do something in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _run(self, call: _Call, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        with self._changed:
            if self.refusal:
                raise ToolError(self.refusal)
            self._calls.add(call)
        try:
            return self._run_staged(call, script, stdin, timeout) if stdin else self._exec(call, script, timeout)
        except CannotExecute as error:
            raise ToolError(f"nothing can be run in the environment: {error.fact}") from error
        except InfrastructureError as error:
            self.failure = self.failure or error
            raise ToolError(f"the environment failed: {error.fact}") from error
        finally:
            with self._changed:
                self._calls.discard(call)
                self._changed.notify_all()

    def _run_staged(self, call: _Call, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        """Run a script whose input goes there as a file, as a command of an environment has no input of its own."""
        environment = self._work.environment
        stage = f"/.harbor-{secrets.token_hex(8)}"
        environment.upload([Upload(stage, None, 0o711), Upload(f"{stage}/input", stdin, 0o644)])
        try:
            return self._exec(call, f"exec <{stage}/input\n{script}", timeout)
        finally:
            with contextlib.suppress(InfrastructureError):
                environment.exec(["rm", "-rf", stage], user="0", cwd="/")

    def _exec(self, call: _Call, script: str, timeout: float | None) -> ShellResult:
        kept = Kept()
        result = self._work.environment.exec(
            ["/bin/sh", "-c", script],
            user=self._work.user,
            cwd=self._work.workdir,
            env=self._variables(),
            timeout=timeout,
            output=kept.add,
            on_start=call.begin,
        )
        return kept.result(None if result.timed_out else result.exit_code)

    def _variables(self) -> Mapping[str, str]:
        return {name: value for name, value in self._work.variables.items() if name != TRIAL_ID}

    def _kill(self, call: _Call) -> None:
        """Kill what a call runs, once it has begun."""
        with contextlib.suppress(InfrastructureError):
            if call.begun.wait(KILL_PATIENCE) and call in self._calls and call.process is not None:
                self._work.environment.kill(call.process)


class _Call:
    """A script that runs, or is about to."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.process: Process | None = None

    def begin(self, process: Process) -> None:
        self.process = process
        self.begun.set()

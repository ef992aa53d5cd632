"""The state of a container that serves its own tasks: setup, the agent's tool calls, grading.

Standard library only: this module is part of every env.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_harbor._util.text import plural
from pytest_harbor._util.users import NoSuchUser, User, find_user
from pytest_harbor.environment.entrypoint import HANDOVER_TIMEOUT, handover_fix
from pytest_harbor.hud.in_container.grading import grade
from pytest_harbor.hud.in_container.processes import (
    POLL_INTERVAL,
    CommandNotStarted,
    ExecContext,
    Processes,
    RunningCommand,
)
from pytest_harbor.hud.in_container.sealed import (
    SealedTask,
    SealError,
    block_modified_imports,
    protect_process,
    seal_tasks,
)
from pytest_harbor.hud.tools import OutputBuffer, ShellResult, ToolError
from pytest_harbor.task.variables import MissingVariable, resolve_variables
from pytest_harbor.trial.backoff import Backoff

TASKS = Path("/harbor/tasks")
# The image's configuration, recorded when it was built; see pytest_harbor.hud.convert.dockerfile_tail.
RECORD = Path("/hud/image.json")
# More than an agent calls at once.
THREADS = 64
# The defaults of task.toml, as in pytest_harbor.task.schema; times in seconds.
VERIFIER_TIMEOUT = 600.0
COLLECT_TIMEOUT = 60.0
HEALTHCHECK = {
    "interval_sec": 5.0,
    "timeout_sec": 30.0,
    "start_period_sec": 0.0,
    "start_interval_sec": 5.0,
    "retries": 3,
}
# Delay in seconds between the end of the input and the exit of the server.
LAST_ANSWER = 1.0


class Container:
    """This container, with its tasks, its processes and the state of grading.

    Args:
        names: the names of the image's tasks.

    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._threads = ThreadPoolExecutor(THREADS, "command")
        self._processes = Processes()
        self._running: set[RunningCommand] = set()
        self._starting = asyncio.Lock()
        self._serving = False
        self._entrypoint: Sequence[str] = ()
        self._keep_alive: Sequence[str] = ()
        self._image = ExecContext(None, "/", {})
        self._common = self._agent = self._verifier = self._image
        self._tasks: dict[str, SealedTask] = {}
        self._task = ""
        self._grading: asyncio.Task[dict[str, Any]] | None = None

    @contextlib.asynccontextmanager
    async def lifespan(self, _server: object = None) -> AsyncIterator[dict[str, Any]]:
        """Hide the tests from the agent while a server runs; exit if they cannot be hidden."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # The container is no longer needed, so wait for nothing.
            loop.add_signal_handler(number, os._exit, 128 + number)
        loop.add_signal_handler(signal.SIGCHLD, self._processes.reap_orphans)
        threading.Thread(target=_exit_with_input, daemon=True).start()
        try:
            self._open()
        except SealError as error:
            _log(str(error))
            os._exit(1)
        self._serving = True
        yield {}

    def _open(self) -> None:
        variables = _initial_variables()
        self._image = ExecContext(None, str(Path.cwd()), variables)
        if RECORD.exists():
            record = json.loads(RECORD.read_text(encoding="utf-8"))
            uid, gid, groups = record["user"]
            # Environment variables added by whoever started the container, such as keys, are not for the agent.
            variables = {name: value for name, value in variables.items() if name in record["variables"]}
            variables["HOME"] = record["home"]
            self._image = ExecContext(User(uid, gid, tuple(groups), record["home"]), record["workdir"], variables)
            self._seal(record)
        self._common = self._agent = self._verifier = self._image

    def _seal(self, record: dict[str, Any]) -> None:
        self._entrypoint, self._keep_alive = record["entrypoint"], record["keep_alive"]
        revealing = protect_process()
        if os.geteuid() != 0:
            raise SealError("this image must be started as root; do not override its user")
        self._tasks = seal_tasks(TASKS, self._names, RECORD.parent)
        block_modified_imports()
        if revealing and self._tasks:
            _log(f"this container has {', '.join(revealing)}: an agent that runs as root can read the tests")

    async def setup(self, name: str) -> str:
        """Start a task and return its instruction.

        Raises:
            ValueError: there is no such task, or it cannot be started here.

        """
        if name not in self._names:
            raise ValueError(f"there is no task {name!r}; choose from {', '.join(map(repr, self._names))}")
        if not self._serving:
            raise ValueError("tasks can only be run in the image that was built for them")
        if name not in self._tasks:
            raise ValueError("this container was already started once, which removed its tasks; start a new one")
        if self._grading and name != self._task:
            raise ValueError(f"this container was graded for {self._task!r}; start a new one for another task")
        if not self._grading:
            self._agent, self._verifier = self._contexts(self._tasks[name])
            self._task = name
            await self._start_service()
            await self._await_health(self._tasks[name].table("environment"))
        return self._tasks[name].instruction

    def _contexts(self, task: SealedTask) -> tuple[ExecContext, ExecContext]:
        """Return the contexts of the agent and of the tests."""
        environment, verifier = task.table("environment"), task.table("verifier")
        try:
            own = _variables(environment, "[environment].env")
            workdir = environment.get("workdir") or self._image.workdir
            self._common = replace(self._image, workdir=workdir, variables={**self._image.variables, **own})
            tests = _variables(verifier, "[verifier].env")
            return self._as(task.table("agent"), own), self._as(verifier, {**own, **tests})
        except MissingVariable as error:
            raise ValueError(f"{error}; pass it to the container: docker run -e {error.name}=…") from error
        except NoSuchUser as error:
            raise ValueError(str(error)) from error

    def _as(self, table: dict[str, Any], variables: dict[str, str]) -> ExecContext:
        """Return the context of the user that a table names; the image's own user by default."""
        context = self._common
        if "user" in table:
            user = find_user(str(table["user"]))
            context = replace(context, user=user, variables={**context.variables, "HOME": user.home})
        return replace(context, variables={**context.variables, **variables})

    async def shell(self, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        """Run a script of the tools; see pytest_harbor.hud.tools.Shell."""
        if self._grading:
            raise ToolError("the task has been graded; no more work is possible")
        await self._start_service()
        buffer = OutputBuffer()
        # An agent that removed its working directory must be able to create it again.
        context = self._agent if os.path.isdir(self._agent.workdir) else replace(self._agent, workdir="/")
        try:
            code = await self._run(["/bin/sh", "-c", script], context, stdin, buffer, timeout)
        except CommandNotStarted as error:
            raise ToolError(str(error)) from error
        return buffer.result(code)

    async def _run(
        self, words: Sequence[str], context: ExecContext, stdin: bytes, buffer: OutputBuffer, timeout: float | None
    ) -> int | None:
        output, stdout = os.pipe()
        try:
            command = self._processes.start(words, context, stdin=stdin, stdout=stdout)
        except CommandNotStarted:
            os.close(output)
            raise
        finally:
            os.close(stdout)
        self._running.add(command)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, command.wait, output, buffer.add, timeout)
        except asyncio.CancelledError:
            self._threads.submit(command.kill)
            raise
        finally:
            self._running.discard(command)

    async def _start_service(self) -> None:
        """Start the image's ENTRYPOINT, once, and wait until it runs its arguments."""
        async with self._starting:
            if not self._entrypoint:
                return
            words, self._entrypoint = self._entrypoint, ()
            try:
                service = self._processes.start([*words, *self._keep_alive], self._common, stdout=2)
            except CommandNotStarted as error:
                _log(f"the image's ENTRYPOINT could not be started: {error}")
                return
            ended = self._threads.submit(service.wait, None, lambda _: None, None)
            deadline = time.monotonic() + HANDOVER_TIMEOUT
            while time.monotonic() < deadline and not _is_running(self._keep_alive):
                if ended.done():
                    _log(f"the image's ENTRYPOINT exited with code {ended.result()}; {handover_fix(words)}")
                    return
                await asyncio.sleep(POLL_INTERVAL)

    async def _await_health(self, environment: dict[str, Any]) -> None:
        if "healthcheck" not in environment:
            return
        check = {**HEALTHCHECK, **environment["healthcheck"]}
        backoff = Backoff(
            check["interval_sec"], check["start_period_sec"], check["start_interval_sec"], int(check["retries"])
        )
        while True:
            buffer = OutputBuffer()
            words = self._common.shell_words(check["command"])
            code = await self._run(words, self._common, b"", buffer, check["timeout_sec"])
            if code == 0:
                return
            pause = backoff.failed()
            if pause is None:
                output = buffer.result(code).output.decode("utf-8", "replace").strip()[-400:]
                end = "timed out" if code is None else f"exited with code {code}"
                failures = plural(backoff.failures, "time")
                raise ValueError(f"the healthcheck failed {failures}; the last attempt {end}: {output}")
            await asyncio.sleep(pause)

    async def grade(self) -> dict[str, Any]:
        """Run the tests of the current task, once, and return the fields of HUD's EvaluationResult."""
        if self._grading is None:
            self._grading = asyncio.create_task(self._grade())
        return await asyncio.shield(self._grading)

    async def _grade(self) -> dict[str, Any]:
        for command in list(self._running):
            # The agent has submitted its answer: commands that still run no longer count.
            command.kill()
        task = self._tasks[self._task]
        verifier = task.table("verifier")
        notes = [note for hook in verifier.get("collect") or [] if (note := await self._collect(hook))]
        timeout = float(verifier.get("timeout_sec", VERIFIER_TIMEOUT))
        loop = asyncio.get_running_loop()
        result: dict[str, Any] = await loop.run_in_executor(
            self._threads, grade, task.tests, self._verifier, self._agent.user, timeout, self._processes
        )
        result["info"]["warnings"] += notes
        _log(f"{self._task}: {result['content']}")
        return result

    async def _collect(self, hook: dict[str, Any]) -> str:
        """Run an entry of [[verifier.collect]]; return a warning if it failed, else an empty string."""
        command = str(hook.get("command"))
        if hook.get("service", "main") != "main":
            return f"[[verifier.collect]] for service {hook['service']} was skipped: only main exists here"
        try:
            context = self._as(hook, {})
            words, timeout = context.shell_words(command), hook.get("timeout_sec", COLLECT_TIMEOUT)
            code = await self._run(words, context, b"", OutputBuffer(), timeout)
        except (CommandNotStarted, NoSuchUser) as error:
            return f"collect hook {command!r}: {error}"
        end = "timed out" if code is None else f"exit code {code}"
        return f"collect hook {command!r}: {end}" if code != 0 else ""


def _exit_with_input() -> None:
    """Exit this process when its client is gone, whatever it is doing."""
    poll = select.poll()
    # Without an event to wait for, only a hang-up is reported.
    poll.register(0, 0)
    if any(event & select.POLLHUP for _, event in poll.poll()):
        # The server exits by itself if it is idle; otherwise, it gets a moment to send a last answer.
        time.sleep(LAST_ANSWER)
        os._exit(0)


def _initial_variables() -> dict[str, str]:
    """Return the environment variables that this process was started with; Python adds one for the locale."""
    entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in entries if b"=" in entry)


def _variables(table: dict[str, Any], place: str) -> dict[str, str]:
    return resolve_variables(env_strings(table.get("env") or {}), place)


def env_strings(values: dict[str, Any]) -> dict[str, str]:
    """Return the values of an env table as strings."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


def _is_running(words: Sequence[str]) -> bool:
    """Return True if there is a process with this command line."""
    command_line = b"".join(os.fsencode(word) + b"\0" for word in words)
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline" if name.isdigit() else "", "rb") as file:
            if file.read(4096) == command_line:
                return True
    return False


def _log(text: str) -> None:
    """Write a line to the container's log, on standard error: standard output belongs to MCP."""
    print(f"harbor: {text}", file=sys.stderr, flush=True)

"""The state of a container that serves itself: from a task's set-up through the agent's tool calls to its reward.

Standard library only: the text of this module is part of every env.py.
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

from pytest_harbor._util.users import NoSuchUser, User, find_user
from pytest_harbor.environment.entrypoint import HANDOVER_TIMEOUT, handover_fix
from pytest_harbor.hud.in_container.grading import grade
from pytest_harbor.hud.in_container.processes import TICK, CannotRun, Place, Processes, Running
from pytest_harbor.hud.in_container.sealed import HeldTask, Unsealed, close_to_others, import_as_built, take_tasks
from pytest_harbor.hud.tools.tools import Kept, ShellResult, ToolError
from pytest_harbor.task.variables import MissingVariable, resolve_variables
from pytest_harbor.trial.backoff import Retries

TASKS = Path("/harbor/tasks")
# What the image was built with; see pytest_harbor.hud.convert.dockerfile_tail.
RECORD = Path("/hud/image.json")
# More than an agent calls at once.
THREADS = 64
# What task.toml means where it says nothing, as in pytest_harbor.task.schema; times in seconds.
VERIFIER_TIMEOUT = 600.0
COLLECT_TIMEOUT = 60.0
HEALTHCHECK = {
    "interval_sec": 5.0,
    "timeout_sec": 30.0,
    "start_period_sec": 0.0,
    "start_interval_sec": 5.0,
    "retries": 3,
}
# Seconds between the end of the input and that of the server.
LAST_ANSWER = 1.0


class Container:
    """This container and what is done in it.

    Args:
        names: the tasks that the image was made for.

    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._threads = ThreadPoolExecutor(THREADS, "command")
        self._processes = Processes()
        self._running: set[Running] = set()
        self._starting = asyncio.Lock()
        self._served = False
        self._entrypoint: Sequence[str] = ()
        self._keep_alive: Sequence[str] = ()
        self._image = Place(None, "/", {})
        self._common = self._agent = self._verifier = self._image
        self._tasks: dict[str, HeldTask] = {}
        self._task = ""
        self._graded: asyncio.Task[dict[str, Any]] | None = None

    @contextlib.asynccontextmanager
    async def served(self, _server: object = None) -> AsyncIterator[dict[str, Any]]:
        """Hold what must not be in the agent's reach, while a server runs; where that cannot be, none does."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Nothing of this container is wanted any more, so nothing is waited for.
            loop.add_signal_handler(number, os._exit, 128 + number)
        loop.add_signal_handler(signal.SIGCHLD, self._processes.bury)
        threading.Thread(target=_end_with_input, daemon=True).start()
        try:
            self._open()
        except Unsealed as error:
            _say(str(error))
            os._exit(1)
        self._served = True
        yield {}

    def _open(self) -> None:
        given = _given_variables()
        self._image = Place(None, str(Path.cwd()), given)
        if RECORD.exists():
            record = json.loads(RECORD.read_text(encoding="utf-8"))
            uid, gid, groups = record["user"]
            # What was given at the start of the container, keys for instance, is for whoever started it.
            variables = {name: value for name, value in given.items() if name in record["variables"]}
            variables["HOME"] = record["home"]
            self._image = Place(User(uid, gid, tuple(groups), record["home"]), record["workdir"], variables)
            self._seal(record)
        self._common = self._agent = self._verifier = self._image

    def _seal(self, record: dict[str, Any]) -> None:
        self._entrypoint, self._keep_alive = record["entrypoint"], record["keep_alive"]
        revealing = close_to_others()
        if os.geteuid() != 0:
            raise Unsealed("this image must be started as root, which its own configuration does")
        self._tasks = take_tasks(TASKS, self._names, RECORD.parent)
        import_as_built()
        if revealing and self._tasks:
            _say(f"this container has {', '.join(revealing)}: an agent that is root in it can read the tests")

    async def set_up(self, name: str) -> str:
        """Begin a task and return its instruction.

        Raises:
            ValueError: there is no such task, or it cannot be begun here.

        """
        if name not in self._names:
            raise ValueError(f"there is no task {name!r}; there are {', '.join(map(repr, self._names))}")
        if not self._served:
            raise ValueError("tasks can only be run in the image that was built for them")
        if name not in self._tasks:
            raise ValueError("the tasks were taken out of this container when it was started first; start a new one")
        if self._graded and name != self._task:
            raise ValueError(f"this container was graded for {self._task!r}; start a new one for another task")
        if not self._graded:
            self._agent, self._verifier = self._places(self._tasks[name])
            self._task = name
            await self._start_service()
            await self._await_health(self._tasks[name].table("environment"))
        return self._tasks[name].instruction

    def _places(self, task: HeldTask) -> tuple[Place, Place]:
        """Return where the agent works and where the tests run."""
        environment, verifier = task.table("environment"), task.table("verifier")
        try:
            own = _variables(environment, "[environment].env")
            workdir = environment.get("workdir") or self._image.workdir
            self._common = replace(self._image, workdir=workdir, variables={**self._image.variables, **own})
            tests = _variables(verifier, "[verifier].env")
            return self._as(task.table("agent"), own), self._as(verifier, {**own, **tests})
        except MissingVariable as error:
            raise ValueError(f"{error}; give it to the container: docker run -e {error.name}=…") from error
        except NoSuchUser as error:
            raise ValueError(str(error)) from error

    def _as(self, table: dict[str, Any], own: dict[str, str]) -> Place:
        """Return the place of the user that a table names, the image's own by default."""
        place = self._common
        if "user" in table:
            user = find_user(str(table["user"]))
            place = replace(place, user=user, variables={**place.variables, "HOME": user.home})
        return replace(place, variables={**place.variables, **own})

    async def shell(self, script: str, stdin: bytes, timeout: float | None) -> ShellResult:
        """Run a script of the tools; see pytest_harbor.hud.tools.tools.Shell."""
        if self._graded:
            raise ToolError("the task has been graded; there is nothing more to do")
        await self._start_service()
        kept = Kept()
        # An agent that has removed the working directory must be able to make it again.
        place = self._agent if os.path.isdir(self._agent.workdir) else replace(self._agent, workdir="/")
        try:
            code = await self._run(["/bin/sh", "-c", script], place, stdin, kept, timeout)
        except CannotRun as error:
            raise ToolError(str(error)) from error
        return kept.result(code)

    async def _run(
        self, words: Sequence[str], place: Place, stdin: bytes, kept: Kept, timeout: float | None
    ) -> int | None:
        output, stdout = os.pipe()
        try:
            running = self._processes.start(words, place, stdin=stdin, stdout=stdout)
        except CannotRun:
            os.close(output)
            raise
        finally:
            os.close(stdout)
        self._running.add(running)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, running.wait, output, kept.add, timeout)
        except asyncio.CancelledError:
            self._threads.submit(running.kill)
            raise
        finally:
            self._running.discard(running)

    async def _start_service(self) -> None:
        """Start what the image's ENTRYPOINT starts, once, and wait until it has come to its last command."""
        async with self._starting:
            if not self._entrypoint:
                return
            words, self._entrypoint = self._entrypoint, ()
            try:
                service = self._processes.start([*words, *self._keep_alive], self._common, stdout=2)
            except CannotRun as error:
                _say(f"the ENTRYPOINT of the image cannot be started: {error}")
                return
            ended = self._threads.submit(service.wait, None, lambda _: None, None)
            deadline = time.monotonic() + HANDOVER_TIMEOUT
            while time.monotonic() < deadline and not _runs(self._keep_alive):
                if ended.done():
                    _say(f"the ENTRYPOINT has ended with {ended.result()}: {handover_fix(words)}")
                    return
                await asyncio.sleep(TICK)

    async def _await_health(self, environment: dict[str, Any]) -> None:
        if "healthcheck" not in environment:
            return
        check = {**HEALTHCHECK, **environment["healthcheck"]}
        retries = Retries(
            check["interval_sec"], check["start_period_sec"], check["start_interval_sec"], int(check["retries"])
        )
        while True:
            kept = Kept()
            words = self._common.shell_words(check["command"])
            code = await self._run(words, self._common, b"", kept, check["timeout_sec"])
            if code == 0:
                return
            pause = retries.failed()
            if pause is None:
                said = kept.result(code).output.decode("utf-8", "replace").strip()[-400:]
                how = "timed out" if code is None else f"ended with {code}"
                raise ValueError(f"the healthcheck failed {retries.failures} times; the last one {how}: {said}")
            await asyncio.sleep(pause)

    async def grade(self) -> dict[str, Any]:
        """Run the tests of the task that was set up, once, and return the fields of HUD's EvaluationResult."""
        if self._graded is None:
            self._graded = asyncio.create_task(self._grade())
        return await asyncio.shield(self._graded)

    async def _grade(self) -> dict[str, Any]:
        for running in list(self._running):
            # The agent has given its answer: what it still waits for counts no more.
            running.kill()
        task = self._tasks[self._task]
        verifier = task.table("verifier")
        notes = [note for hook in verifier.get("collect") or [] if (note := await self._collect(hook))]
        timeout = float(verifier.get("timeout_sec", VERIFIER_TIMEOUT))
        loop = asyncio.get_running_loop()
        result: dict[str, Any] = await loop.run_in_executor(
            self._threads, grade, task.tests, self._verifier, self._agent.user, timeout, self._processes
        )
        result["info"]["warnings"] += notes
        _say(f"{self._task}: {result['content']}")
        return result

    async def _collect(self, hook: dict[str, Any]) -> str:
        """Run an entry of [[verifier.collect]] and return what went wrong."""
        command = str(hook.get("command"))
        if hook.get("service", "main") != "main":
            return f"[[verifier.collect]] for service {hook['service']} was left out: there is only main"
        try:
            place = self._as(hook, {})
            code = await self._run(
                place.shell_words(command), place, b"", Kept(), hook.get("timeout_sec", COLLECT_TIMEOUT)
            )
        except (CannotRun, NoSuchUser) as error:
            return f"collect hook {command!r}: {error}"
        how = "timed out" if code is None else f"exit code {code}"
        return f"collect hook {command!r}: {how}" if code != 0 else ""


def _end_with_input() -> None:
    """End this process when nobody is left who could ask for something, whatever it is doing."""
    poll = select.poll()
    # Without an event to wait for, only the end of the other side is reported.
    poll.register(0, 0)
    if any(event & select.POLLHUP for _, event in poll.poll()):
        # By itself it ends when nothing is asked for any more; a last answer may be on its way.
        time.sleep(LAST_ANSWER)
        os._exit(0)


def _given_variables() -> dict[str, str]:
    """Return the variables that this process was started with: Python itself adds one for the locale."""
    entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in entries if b"=" in entry)


def _variables(table: dict[str, Any], place: str) -> dict[str, str]:
    return resolve_variables(texts(table.get("env") or {}), place)


def texts(values: dict[str, Any]) -> dict[str, str]:
    """Return the values of an env table as texts."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


def _runs(words: Sequence[str]) -> bool:
    """Tell whether a process with these arguments is there."""
    wanted = b"".join(os.fsencode(word) + b"\0" for word in words)
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline" if name.isdigit() else "", "rb") as file:
            if file.read(4096) == wanted:
                return True
    return False


def _say(text: str) -> None:
    """Say something to whoever reads the container's log: standard output belongs to MCP."""
    print(f"harbor: {text}", file=sys.stderr, flush=True)

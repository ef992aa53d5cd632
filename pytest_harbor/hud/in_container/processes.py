"""Running commands in the container that this process serves, as the users of its image.

Standard library only: the text of this module is part of every env.py.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_harbor._util.users import User

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHUNK = 1 << 16
# What a pipe can hold when a command ends, and no more: something in the background may go on writing for ever.
LAST_CHUNKS = 17
# How often to look whether a command has ended, in seconds, where no file descriptor tells it.
TICK = 0.02
# More than enough to stop a tree of processes that forks as fast as it can.
KILL_ROUNDS = 50


class CannotRun(Exception):
    """A command could not be started; the message says why."""


@dataclass(frozen=True)
class Place:
    """As whom, where and with which variables commands run.

    Attributes:
        user: the user; None for the one that this process runs as.
        workdir: the working directory.
        variables: the environment variables.

    """

    user: User | None
    workdir: str
    variables: Mapping[str, str]

    def shell_words(self, line: str) -> list[str]:
        """Return the words that run a command line: with bash, with sh where there is no bash."""
        bash = shutil.which("bash", path=self.variables.get("PATH", os.defpath))
        return [bash or "/bin/sh", "-c", line]


class Processes:
    """The processes of this container: those that are started here, and orphans, which are buried."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: set[int] = set()

    def start(self, words: Sequence[str], place: Place, *, stdin: bytes = b"", stdout: int) -> Running:
        """Start a command in a session of its own.

        Args:
            words: the program and its arguments.
            place: where, and as whom.
            stdin: what it reads on its standard input.
            stdout: the descriptor that takes its output and its errors.

        Raises:
            CannotRun: it could not be started.

        """
        user = place.user
        source = os.memfd_create("stdin")
        try:
            with os.fdopen(os.dup(source), "wb") as file:
                file.write(stdin)
            os.lseek(source, 0, os.SEEK_SET)
            # Until it is known as one of ours, nobody may bury it.
            with self._lock:
                process = subprocess.Popen(
                    list(words),
                    stdin=source,
                    stdout=stdout,
                    stderr=stdout,
                    cwd=place.workdir,
                    env=dict(place.variables),
                    user=user.uid if user else None,
                    group=user.gid if user else None,
                    extra_groups=sorted({user.gid, *user.groups}) if user else None,
                    umask=0o022,
                    start_new_session=True,
                )
                self._own.add(process.pid)
        except OSError as error:
            raise CannotRun(f"{error.filename or words[0]}: {error.strerror or error}") from error
        finally:
            os.close(source)
        return Running(process, self)

    def forget(self, pid: int) -> None:
        """Take note that the end of a command has been taken note of."""
        with self._lock:
            self._own.discard(pid)

    def bury(self) -> None:
        """Take note of the end of processes whose parents have ended before them."""
        with self._lock:
            me = str(os.getpid())
            for pid, state, parent, _ in _processes():
                if state == "Z" and parent == me and int(pid) not in self._own:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(int(pid), os.WNOHANG)


class Running:
    """A command that was started."""

    def __init__(self, process: subprocess.Popen[bytes], processes: Processes) -> None:
        self.pid = process.pid
        self._process = process
        self._processes = processes

    def wait(self, output: int | None, take: Callable[[bytes], None], timeout: float | None) -> int | None:
        """Wait until it ends, not until everything that it started lets go of its output.

        Args:
            output: the descriptor that its output comes from, or None; it is closed.
            take: takes the output piece by piece.
            timeout: seconds after which the command and everything below it are killed; None waits for ever.

        Returns:
            Its exit code, of 128 and more where a signal ended it; None when its time ran out.

        """
        deadline = None if timeout is None else time.monotonic() + timeout
        in_time = True
        with contextlib.ExitStack() as closing:
            selector = closing.enter_context(selectors.DefaultSelector())
            tick = None
            try:
                end = os.pidfd_open(self.pid)
                closing.callback(os.close, end)
                selector.register(end, selectors.EVENT_READ)
            except OSError:
                tick = TICK
            if output is not None:
                closing.callback(os.close, output)
                os.set_blocking(output, False)
                selector.register(output, selectors.EVENT_READ)
            while self._process.poll() is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    in_time = False
                    self.kill()
                    break
                for key, _ in selector.select(left if tick is None else min(tick, left or tick)):
                    if key.fd == output and not _drain(output, take):
                        selector.unregister(output)
            code = self._process.wait()
            self._processes.forget(self.pid)
            if output is not None:
                for _ in range(LAST_CHUNKS):
                    if not _drain(output, take, wait=False):
                        break
        if not in_time:
            return None
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """Kill it and everything below it."""
        for _ in range(KILL_ROUNDS):
            found = below(self.pid)
            if not found:
                return
            # Stopped first, so that none forks meanwhile.
            _signal(found, signal.SIGSTOP)
            _signal(below(self.pid), signal.SIGKILL)


def below(pid: int) -> list[int]:
    """Return a process, what it started, and what is left of its session; the dead are left out."""
    top = str(pid)
    rows = {row[0]: row for row in _processes() if row[1] not in "ZX"}
    found = []
    for row in rows.values():
        at: tuple[str, str, str, str] | None = row
        while at is not None:
            if top in (at[0], at[3]):
                found.append(int(row[0]))
                break
            at = rows.get(at[2])
    return found


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _processes() -> list[tuple[str, str, str, str]]:
    """Return the processes: id, state, parent and session."""
    rows = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
                rows.append((name, fields[0].decode(), fields[1].decode(), fields[3].decode()))
    return rows


def _drain(descriptor: int, take: Callable[[bytes], None], *, wait: bool = True) -> bool:
    """Take what there is, and return whether there may be more: later, or at once when that is not waited for."""
    try:
        data = os.read(descriptor, CHUNK)
    except BlockingIOError:
        return wait
    except OSError:
        return False
    if data:
        take(data)
    return bool(data)

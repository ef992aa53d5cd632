"""Run commands in this process's own container, as the users of its image.

Standard library only: this module is part of every env.py.
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
# Reads after a command has ended: as much as a pipe can hold, since a background process may write forever.
LAST_CHUNKS = 17
# Interval in seconds to check for the end of a command, on kernels without pidfd_open.
POLL_INTERVAL = 0.02
# More than enough to stop a process tree that forks as fast as it can.
KILL_ROUNDS = 50


class CommandNotStarted(Exception):
    """A command could not be started; the message says why."""


@dataclass(frozen=True)
class ExecContext:
    """The user, directory and environment variables of commands.

    Attributes:
        user: the user; None for this process's own.
        workdir: the working directory.
        variables: the environment variables.

    """

    user: User | None
    workdir: str
    variables: Mapping[str, str]

    def shell_words(self, line: str) -> list[str]:
        """Return the words to run a command line in bash, or in sh if there is no bash."""
        bash = shutil.which("bash", path=self.variables.get("PATH", os.defpath))
        return [bash or "/bin/sh", "-c", line]


class Processes:
    """The processes of this container: starts commands, and reaps orphans."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: set[int] = set()

    def start(self, words: Sequence[str], context: ExecContext, *, stdin: bytes = b"", stdout: int) -> RunningCommand:
        """Start a command in its own session.

        Args:
            words: the program and its arguments.
            context: the user, directory and environment variables.
            stdin: the content of its standard input.
            stdout: the file descriptor for its standard output and standard error.

        Raises:
            CommandNotStarted: it could not be started.

        """
        user = context.user
        source = os.memfd_create("stdin")
        try:
            with os.fdopen(os.dup(source), "wb") as file:
                file.write(stdin)
            os.lseek(source, 0, os.SEEK_SET)
            # Until it is in self._own, reap_orphans() must not run.
            with self._lock:
                process = subprocess.Popen(
                    list(words),
                    stdin=source,
                    stdout=stdout,
                    stderr=stdout,
                    cwd=context.workdir,
                    env=dict(context.variables),
                    user=user.uid if user else None,
                    group=user.gid if user else None,
                    extra_groups=sorted({user.gid, *user.groups}) if user else None,
                    umask=0o022,
                    start_new_session=True,
                )
                self._own.add(process.pid)
        except OSError as error:
            raise CommandNotStarted(f"{error.filename or words[0]}: {error.strerror or error}") from error
        finally:
            os.close(source)
        return RunningCommand(process, self)

    def forget(self, pid: int) -> None:
        """Forget a command that has been reaped."""
        with self._lock:
            self._own.discard(pid)

    def reap_orphans(self) -> None:
        """Reap processes that were orphaned and have ended."""
        with self._lock:
            me = str(os.getpid())
            for pid, state, parent, _ in _processes():
                if state == "Z" and parent == me and int(pid) not in self._own:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(int(pid), os.WNOHANG)


class RunningCommand:
    """A command that was started."""

    def __init__(self, process: subprocess.Popen[bytes], processes: Processes) -> None:
        self.pid = process.pid
        self._process = process
        self._processes = processes

    def wait(self, output: int | None, on_output: Callable[[bytes], None], timeout: float | None) -> int | None:
        """Wait until the command ends, even if its background processes still hold its output open.

        Args:
            output: the file descriptor to read its output from, which will be closed; or None.
            on_output: called with each piece of the output.
            timeout: seconds until the command and its descendants are killed; None for no limit.

        Returns:
            The exit code, 128 plus the signal's number if a signal killed it; None if it timed out.

        """
        deadline = None if timeout is None else time.monotonic() + timeout
        in_time = True
        with contextlib.ExitStack() as closing:
            selector = closing.enter_context(selectors.DefaultSelector())
            interval = None
            try:
                end = os.pidfd_open(self.pid)
                closing.callback(os.close, end)
                selector.register(end, selectors.EVENT_READ)
            except OSError:
                interval = POLL_INTERVAL
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
                for key, _ in selector.select(left if interval is None else min(interval, left or interval)):
                    if key.fd == output and not _read_chunk(output, on_output):
                        selector.unregister(output)
            code = self._process.wait()
            self._processes.forget(self.pid)
            if output is not None:
                for _ in range(LAST_CHUNKS):
                    if not _read_chunk(output, on_output, wait=False):
                        break
        if not in_time:
            return None
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """Kill the command and its descendants."""
        for _ in range(KILL_ROUNDS):
            found = process_tree(self.pid)
            if not found:
                return
            # Stop them first, so that none forks in the meantime.
            _signal(found, signal.SIGSTOP)
            _signal(process_tree(self.pid), signal.SIGKILL)


def process_tree(pid: int) -> list[int]:
    """Return a process, its descendants and the members of its session, without zombies."""
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
    """Return the id, state, parent and session of every process."""
    rows = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
                rows.append((name, fields[0].decode(), fields[1].decode(), fields[3].decode()))
    return rows


def _read_chunk(descriptor: int, on_output: Callable[[bytes], None], *, wait: bool = True) -> bool:
    """Read a chunk of output; return False at its end.

    Args:
        descriptor: the non-blocking file descriptor to read.
        on_output: called with the output.
        wait: whether an empty pipe is not the end, as there may be output later.

    """
    try:
        data = os.read(descriptor, CHUNK)
    except BlockingIOError:
        return wait
    except OSError:
        return False
    if data:
        on_output(data)
    return bool(data)

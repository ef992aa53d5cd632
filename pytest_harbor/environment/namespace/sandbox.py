"""A sandbox: namespaces with a root of their own, controlled through a socket; `inside.init` is the other end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pytest_harbor._util.unpatched import Socket, monotonic, socketpair
from pytest_harbor.environment.namespace.launcher import NULL
from pytest_harbor.environment.namespace.reply import Reply
from pytest_harbor.environment.namespace.sandbox_config import SandboxConfig
from pytest_harbor.errors import EngineUnavailable, EnvironmentLost, StartError

CHUNK = 1 << 18
START_TIMEOUT = 60.0  # seconds
LONGEST_POLL = 3600.0  # seconds

FIX = "use Docker (--harbor-environment=docker), or run as root outside a container"


def processes_of(pid: int) -> list[int]:
    """Return a sandbox's processes on the host: the supervisor, whose pid is given, and its child, init."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        children = ""
    return [pid, *map(int, children.split())]


class Sandbox:
    """A running sandbox.

    Args:
        config: its configuration.

    Attributes:
        pid: the pid of its supervisor on the host.

    Raises:
        EngineUnavailable: the kernel does not allow this process to create namespaces.
        StartError: its file system cannot be assembled.

    """

    def __init__(self, config: SandboxConfig) -> None:
        init_config = config.prepare()
        self.name = config.hostname
        self._host, inner = socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Nothing is ever sent here. The other end closes when the last process of the sandbox has exited.
        self._lifeline, held = socketpair()
        with inner, held:
            config.launcher.launch(inner.fileno(), held.fileno())
        try:
            self._host.settimeout(START_TIMEOUT)
            self._host.send(json.dumps(init_config).encode())
            started = json.loads(self._host.recv(1 << 16) or b'{"error": "it exited without a message", "step": ""}')
            self._host.settimeout(None)
        except OSError as error:
            started = {"error": str(error), "step": ""}
        if "error" in started:
            self.close()
            reason = str(started["error"])
            if started["step"] == "namespaces":
                raise EngineUnavailable(f"the kernel does not allow this process to create namespaces ({reason})", FIX)
            raise StartError(f"its file system cannot be assembled ({reason})", _file_system_fix(reason))
        self.pid = int(started["pid"])

    def is_running(self) -> bool:
        """Return True if any of its processes is running."""
        return self._lifeline.fileno() >= 0 and not select.select([self._lifeline], [], [], 0)[0]

    def close(self) -> None:
        """End everything in it, and wait until it has cleaned up."""
        self._host.close()
        if self._lifeline.fileno() >= 0:
            self._lifeline.recv(1)
            self._lifeline.close()

    def run(
        self,
        argv: Sequence[str],
        take: Callable[[bytes], bool],
        *,
        user: str,
        cwd: str,
        variables: Mapping[str, str],
        deadline: Callable[[], float] | None,
    ) -> int | None:
        """Run a program.

        Args:
            argv: the program and its arguments.
            take: receives output, and returns True to stop waiting for the program.
            user: the user to run it as.
            cwd: its working directory.
            variables: all of its environment variables.
            deadline: returns when it must have ended, on the monotonic clock; None for no deadline.

        Returns:
            Its exit code, -1 if `take` returned True, or None if the deadline passed.

        Raises:
            CannotExecute: it cannot be started.
            EnvironmentLost: the sandbox is gone.

        """
        fields = {"argv": list(argv), "user": user, "cwd": cwd, "variables": dict(variables)}
        output, inner = os.pipe()
        try:
            reply = self._request("run", inner, **fields)
        finally:
            os.close(inner)
        try:
            code, open_output = _relay_output(output, reply, take, deadline, self.lost_error)
            if open_output:
                # Processes that the program left behind keep running and may keep writing.
                self._drain(output)
            return code
        finally:
            os.close(output)
            reply.close()

    def start_service(
        self, argv: Sequence[str], log: Path, *, user: str, cwd: str, variables: Mapping[str, str]
    ) -> None:
        """Start a program that keeps running; its output goes to a file on the host."""
        with log.open("ab") as file:
            self._request(
                "serve", file.fileno(), argv=list(argv), user=user, cwd=cwd, variables=dict(variables)
            ).close()

    def await_process(self, argv: Sequence[str], seconds: float) -> bool:
        """Wait until a process with these arguments runs; return False if the service exits without one."""
        return self._call("await", argv=list(argv), seconds=seconds) == 0

    def kill_all(self) -> None:
        """Kill every process in it except init."""
        self._call("kill")

    def make_directory(self, path: str, owner: str = "") -> None:
        """Create a directory and its missing parents."""
        self._call("mkdir", path=path, owner=owner)

    def is_directory(self, path: str) -> bool:
        """Return True if a path, with links followed, is a directory."""
        return self._call("isdir", path=path) == 0

    def exists(self, path: str) -> bool:
        """Return True if a file, link or directory exists."""
        return self._call("exists", path=path) == 0

    def listen(self) -> socket.socket:
        """Return a socket that listens on an unused port of the sandbox's own loopback interface."""
        here, inner = socketpair()
        with here, inner:
            self._request("listen", inner.fileno()).wait(self.lost_error)
            _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
        return Socket(fileno=descriptors[0])

    def put(self, archive: IO[bytes] | int, prefix: str = "", owner: str = "", mode: int = -1, name: str = "") -> None:
        """Unpack a tar archive in it.

        Args:
            archive: a file, which is read from its beginning, or a descriptor to read from.
            prefix: the directory to unpack into.
            owner: `user:group` for everything; empty for the archive's own.
            mode: permission bits for everything; -1 for the archive's own.
            name: a new name for the only file in the archive; empty for its own.

        Raises:
            CannotExecute: something cannot be written.

        """
        if isinstance(archive, int):
            reply = self._request("put", archive, prefix=prefix, owner=owner, mode=mode, name=name)
        else:
            with as_descriptor(archive) as descriptor:
                reply = self._request("put", descriptor, prefix=prefix, owner=owner, mode=mode, name=name)
        reply.wait(self.lost_error)

    def get(self, paths: Sequence[str], *, contents: bool = False) -> Iterator[bytes]:
        """Return files and directories as a tar archive, in pieces; for the arguments, see open().

        Raises:
            FileNotFoundError: a path does not exist.
            CannotExecute: it cannot be read.

        """
        output, reply = self.open(paths, contents=contents)
        file = os.fdopen(output, "rb", buffering=0)
        try:
            first = file.read(CHUNK)
            if not first:
                reply.wait(self.lost_error)
        except BaseException:
            file.close()
            reply.close()
            raise
        return _pieces(first, file, reply, self.lost_error)

    def open(self, paths: Sequence[str], *, contents: bool = False) -> tuple[int, Reply]:
        """Return a descriptor to read a tar archive of files and directories from, and the reply to wait for after it.

        Args:
            paths: absolute paths.
            contents: whether the paths are patterns, and of a directory only the entries are archived.

        """
        output, inner = os.pipe()
        try:
            return output, self._request("get", inner, paths=list(paths), contents=contents)
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(inner)

    def lost_error(self) -> EnvironmentLost:
        """Return the error for a sandbox that does not reply."""
        return EnvironmentLost(f"the environment {self.name} is gone", "check whether something else kills processes")

    def _call(self, action: str, **fields: Any) -> int:
        with NULL.open("wb") as null:
            return self._request(action, null.fileno(), **fields).wait(self.lost_error)

    def _drain(self, output: int) -> None:
        with contextlib.suppress(EnvironmentLost):
            self._request("drain", output).close()

    def _request(self, action: str, data: int, **fields: Any) -> Reply:
        body = os.memfd_create("request")
        reply, inner = os.pipe()
        try:
            with os.fdopen(os.dup(body), "wb") as file:
                file.write(json.dumps({"action": action, **fields}).encode())
            os.lseek(body, 0, os.SEEK_SET)
            socket.send_fds(self._host, [b"!"], [body, data, inner])
        except OSError as error:
            os.close(reply)
            raise self.lost_error() from error
        finally:
            os.close(body)
            os.close(inner)
        return Reply(reply)


def _relay_output(
    output: int,
    reply: Reply,
    take: Callable[[bytes], bool],
    deadline: Callable[[], float] | None,
    lost_error: Callable[[], Exception],
) -> tuple[int | None, bool]:
    """Relay output until the program exits; return its exit code, and whether the output is still open."""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(reply.descriptor, select.POLLIN)
    os.set_blocking(output, False)
    open_output = True
    exited = False
    while True:
        left = None if deadline is None else max(0.0, deadline() - monotonic())
        # poll() itself waits for at most 24 days.
        ready = dict(poll.poll(0 if exited else None if left is None else min(left, LONGEST_POLL) * 1000))
        if output in ready:
            data = os.read(output, CHUNK)
            if not data:
                poll.unregister(output)
                open_output = False
            elif take(data):
                return -1, open_output
        elif exited:
            return reply.result(lost_error), open_output
        if reply.descriptor in ready and not exited and reply.read():
            exited = True
            poll.unregister(reply.descriptor)
        if left == 0 and not exited:
            return None, open_output


def _pieces(first: bytes, file: IO[bytes], reply: Reply, lost_error: Callable[[], Exception]) -> Iterator[bytes]:
    with contextlib.closing(reply), file:
        while first:
            yield first
            first = file.read(CHUNK)
        reply.wait(lost_error)


@contextlib.contextmanager
def as_descriptor(archive: IO[bytes]) -> Iterator[int]:
    """Provide a descriptor at an archive's first byte: the file's own if it is on disk, otherwise one in memory."""
    archive.seek(0)
    if getattr(archive, "_rolled", True):
        descriptor = os.dup(archive.fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        descriptor = os.memfd_create("archive")
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(archive.read())
        os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _file_system_fix(error: str) -> str:
    # The kernel's answer if a file system cannot hold the upper layer of an overlay.
    if "Invalid argument" in error:
        return "point XDG_CACHE_HOME at a directory on ext4, xfs, btrfs or tmpfs, or use Docker"
    return FIX

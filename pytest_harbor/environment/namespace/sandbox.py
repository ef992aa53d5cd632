"""One sandbox: namespaces with a root of their own, spoken to through a socket; see `inside.init` for the other end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pytest_harbor.environment.namespace.launcher import NOTHING
from pytest_harbor.environment.namespace.layout import Layout
from pytest_harbor.errors import CannotExecute, EngineUnavailable, EnvironmentLost, StartError

CHUNK = 1 << 18
START_PATIENCE = 60.0

FIX = "use Docker (--harbor-environment=docker), or run as root outside of a container"


def processes_of(pid: int) -> list[int]:
    """Return the processes of the host that a sandbox is: the one that owns it, and below it the first one inside."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        children = ""
    return [pid, *map(int, children.split())]


class Sandbox:
    """A running sandbox.

    Args:
        layout: what it is made of.

    Attributes:
        pid: the process that owns it on the host.

    Raises:
        EngineUnavailable: the kernel does not let this process make namespaces.
        StartError: its file system cannot be put together.

    """

    def __init__(self, layout: Layout) -> None:
        config = layout.prepare()
        self.name = layout.hostname
        self._host, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Nothing is ever sent here: its other end is closed when the last process of the sandbox has ended.
        self._life, ends = socket.socketpair()
        with inner, ends:
            layout.launcher.launch(inner.fileno(), ends.fileno())
        try:
            self._host.settimeout(START_PATIENCE)
            self._host.send(json.dumps(config).encode())
            said = json.loads(self._host.recv(1 << 16) or b'{"error": "it ended without a word", "step": ""}')
            self._host.settimeout(None)
        except OSError as error:
            said = {"error": str(error), "step": ""}
        if "error" in said:
            self.close()
            if said["step"] == "namespaces":
                raise EngineUnavailable(f"the kernel refuses namespaces to this process ({said['error']})", FIX)
            raise StartError(f"its file system cannot be put together ({said['error']})", _cure(str(said["error"])))
        self.pid = int(said["pid"])

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self._life.fileno() >= 0 and not select.select([self._life], [], [], 0)[0]

    def close(self) -> None:
        """End everything in it, and wait until it has cleared up."""
        self._host.close()
        if self._life.fileno() >= 0:
            self._life.recv(1)
            self._life.close()

    def run(
        self,
        argv: Sequence[str],
        take: Callable[[bytes], bool],
        *,
        user: str,
        cwd: str,
        variables: Mapping[str, str],
        deadline: float | None,
        now: Callable[[], float],
    ) -> int | None:
        """Run a program.

        Args:
            argv: its arguments.
            take: takes output, and tells whether that was all.
            user: who runs it.
            cwd: where.
            variables: all its variables.
            deadline: when it has to be over, None for never.
            now: the deadline's clock.

        Returns:
            Its exit code, -1 where `take` knows more, None when its time ran out.

        Raises:
            CannotExecute: it cannot be started.
            EnvironmentLost: the sandbox is gone.

        """
        fields = {"argv": list(argv), "user": user, "cwd": cwd, "variables": dict(variables)}
        output, inner = os.pipe()
        try:
            answer = self._ask("run", inner, **fields)
        finally:
            os.close(inner)
        try:
            code, holding = _pump(output, answer, take, deadline, now, self.lost)
            if holding:
                # What the command left running goes on, and may go on talking.
                self._drain(output)
            return code
        finally:
            os.close(output)
            answer.close()

    def serve(self, argv: Sequence[str], log: Path, *, user: str, cwd: str, variables: Mapping[str, str]) -> None:
        """Start a program that stays; its output goes to a file of the host."""
        with log.open("ab") as file:
            self._ask("serve", file.fileno(), argv=list(argv), user=user, cwd=cwd, variables=dict(variables)).close()

    def await_process(self, words: Sequence[str], seconds: float) -> bool:
        """Wait until a process with these arguments runs; False when what was to start it has ended before."""
        return self._do("await", words=list(words), seconds=seconds) == 0

    def kill_all(self) -> None:
        """Kill every process in it but its first."""
        self._do("kill")

    def make_directory(self, path: str, owner: str = "") -> None:
        """Make a directory and those above it, where they are missing."""
        self._do("mkdir", path=path, owner=owner)

    def is_directory(self, path: str) -> bool:
        """Tell whether a path leads to a directory."""
        return self._do("isdir", path=path) == 0

    def listen(self) -> socket.socket:
        """Return what listens at an unused port of the sandbox's own loopback."""
        here, inner = socket.socketpair()
        with here, inner:
            self._ask("listen", inner.fileno()).wait(self.lost)
            _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
        return socket.socket(fileno=descriptors[0])

    def put(self, archive: IO[bytes] | int, prefix: str = "", owner: str = "", mode: int = -1, name: str = "") -> None:
        """Unpack a tar.

        Args:
            archive: a file, taken from its beginning, or a descriptor that it comes out of.
            prefix: the directory to unpack in.
            owner: `user:group` of everything; the archive's own when empty.
            mode: permission bits of everything; the archive's own when -1.
            name: what the only file in it is called.

        Raises:
            CannotExecute: something of it cannot be put there.

        """
        if isinstance(archive, int):
            answer = self._ask("put", archive, prefix=prefix, owner=owner, mode=mode, name=name)
        else:
            with as_file(archive) as descriptor:
                answer = self._ask("put", descriptor, prefix=prefix, owner=owner, mode=mode, name=name)
        answer.wait(self.lost)

    def get(self, paths: Sequence[str], *, contents: bool = False) -> Iterator[bytes]:
        """Return what is at some paths as a tar, piece by piece.

        Raises:
            FileNotFoundError: there is nothing.

        """
        output, answer = self.open(paths, contents=contents)
        file = os.fdopen(output, "rb", buffering=0)
        try:
            first = file.read(CHUNK)
            if not first:
                answer.wait(self.lost)
        except BaseException:
            file.close()
            answer.close()
            raise
        return _pieces(first, file, answer, self.lost)

    def open(self, paths: Sequence[str], *, contents: bool = False) -> tuple[int, Answer]:
        """Return a descriptor from which what is at some paths comes as a tar, and what tells how it went."""
        output, inner = os.pipe()
        try:
            return output, self._ask("get", inner, paths=list(paths), contents=contents)
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(inner)

    def lost(self) -> EnvironmentLost:
        """Return what to say when nobody answers."""
        return EnvironmentLost(f"the environment {self.name} is gone", "see whether something else kills processes")

    def _do(self, what: str, **request: Any) -> int:
        with NOTHING.open("wb") as nothing:
            return self._ask(what, nothing.fileno(), **request).wait(self.lost)

    def _drain(self, output: int) -> None:
        with contextlib.suppress(EnvironmentLost):
            self._ask("drain", output).close()

    def _ask(self, do: str, data: int, **request: Any) -> Answer:
        body = os.memfd_create("request")
        answer, inner = os.pipe()
        try:
            with os.fdopen(os.dup(body), "wb") as file:
                file.write(json.dumps({"do": do, **request}).encode())
            os.lseek(body, 0, os.SEEK_SET)
            socket.send_fds(self._host, [b"!"], [body, data, inner])
        except OSError as error:
            os.close(answer)
            raise self.lost() from error
        finally:
            os.close(body)
            os.close(inner)
        return Answer(answer)


class Answer:
    """How a request went: one line of JSON, in its time."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._data = b""

    def read(self) -> bool:
        """Read what there is; True when that was all."""
        data = os.read(self.descriptor, 1 << 16)
        self._data += data
        return not data or data.endswith(b"\n")

    def result(self, lost: Callable[[], Exception]) -> int:
        """Return the exit code.

        Raises:
            FileNotFoundError: a path is missing.
            CannotExecute: it could not be done.

        """
        lines = self._data.splitlines()
        if not lines:
            raise lost()
        said = json.loads(lines[0])
        if said.get("missing"):
            raise FileNotFoundError(said["error"])
        if "error" in said:
            raise CannotExecute(said["error"])
        return int(said["exit"])

    def wait(self, lost: Callable[[], Exception]) -> int:
        """Wait for it, and return the exit code; see result()."""
        try:
            while not self.read():
                pass
            return self.result(lost)
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _pump(
    output: int,
    answer: Answer,
    take: Callable[[bytes], bool],
    deadline: float | None,
    now: Callable[[], float],
    lost: Callable[[], Exception],
) -> tuple[int | None, bool]:
    """Hand output over until a program has ended; return its exit code and whether something still holds its output."""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(answer.descriptor, select.POLLIN)
    os.set_blocking(output, False)
    holding = True
    ended = False
    while True:
        left = None if deadline is None else max(0.0, deadline - now())
        ready = dict(poll.poll(0 if ended else None if left is None else left * 1000))
        if output in ready:
            data = os.read(output, CHUNK)
            if not data:
                poll.unregister(output)
                holding = False
            elif take(data):
                return -1, holding
        elif ended:
            return answer.result(lost), holding
        if answer.descriptor in ready and not ended and answer.read():
            ended = True
            poll.unregister(answer.descriptor)
        if left == 0 and not ended:
            return None, holding


def _pieces(first: bytes, file: IO[bytes], answer: Answer, lost: Callable[[], Exception]) -> Iterator[bytes]:
    with contextlib.closing(answer), file:
        while first:
            yield first
            first = file.read(CHUNK)
        answer.wait(lost)


@contextlib.contextmanager
def as_file(archive: IO[bytes]) -> Iterator[int]:
    """Give a descriptor of an archive's first byte: its own where it is on disk, else one in memory."""
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


def _cure(error: str) -> str:
    if "Invalid argument" in error:
        return "point XDG_CACHE_HOME at a directory on ext4, xfs, btrfs or tmpfs, or use Docker"
    return FIX

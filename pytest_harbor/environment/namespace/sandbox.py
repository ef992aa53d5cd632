"""One sandbox: namespaces with a root of their own, spoken to through a socket; see `inside.init` for the other end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest_harbor
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.hostroot import HostRoot, slug
from pytest_harbor.environment.namespace.inside.cleanup import remove_group, remove_tree
from pytest_harbor.errors import CannotExecute, EngineUnavailable, EnvironmentLost, StartError

CHUNK = 1 << 18
NOTHING = Path(os.devnull)
START_PATIENCE = 60.0

# Nothing of the package but what runs inside is loaded there, nor anything that is installed beside it: it must be
# quick, and the files of what is not yet loaded are gone when the host's root is.
BOOTSTRAP = """
import sys, types
name, path = "", sys.argv[2]
for part in ("pytest_harbor", "environment", "namespace"):
    name = f"{name}.{part}" if name else part
    path += "/" + part
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module
from pytest_harbor.environment.namespace.inside.init import main
main()
"""
CURE = "use Docker (--harbor-environment=docker), or run as root outside of a container"


class Launcher:
    """A process that has loaded what sandboxes need, and starts each with a fork: quicker than an interpreter each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, *descriptors: int) -> None:
        """Start a sandbox that is spoken to through the first descriptor, and holds the others.

        Raises:
            StartError: no process can be started.

        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._begin()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"!"], descriptors)
            except OSError as error:
                raise StartError(f"no process can be started for an environment ({error.strerror})") from error

    def _begin(self) -> None:
        self._end()
        self._control, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        package = Path(pytest_harbor.__file__).parent.parent
        with inner, NOTHING.open("r+b") as nothing:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BOOTSTRAP, str(inner.fileno()), str(package)],
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                env={},
                cwd="/",
                pass_fds=[inner.fileno()],
                # A terminal's Ctrl-C is for pytest, which ends its sandboxes itself.
                start_new_session=True,
            )

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.wait()
        self._control = self._process = None

    def close(self) -> None:
        """End the process; sandboxes are not touched."""
        with self._lock:
            self._end()


@dataclass(frozen=True)
class Layout:
    """What a sandbox is made of.

    Attributes:
        launcher: what starts it.
        cache: the provider's directory.
        host: the host's root.
        layers: ids of layers, topmost first; the last hides what is private.
        place: directory of the sandbox itself, below the cache; what is written goes to `u` in it.
        hostname: name of the machine that it seems to be.
        groups: control groups that everything in it joins.
        remove: whether `place` goes with it, whatever happens to this process.

    """

    launcher: Launcher
    cache: Cache
    host: HostRoot
    layers: Sequence[str]
    place: Path
    hostname: str = "harbor"
    groups: Sequence[str] = field(default_factory=list)
    remove: bool = True

    def prepare(self) -> dict[str, Any]:
        """Make the directories and return what the first process must know."""
        at = self.place.relative_to(self.cache.root)
        (self.place / "root").mkdir(exist_ok=True)
        overlays = []
        for target in ("", *self.host.visible):
            name = slug(target)
            upper, work = self.place / "u" / name, self.place / "w" / name
            if not upper.exists():
                upper.mkdir(parents=True)
                _copy_directory(Path("/") / target, upper, owner=not self.host.user_namespace)
            work.mkdir(parents=True, exist_ok=True)
            lower = [f"l/{layer}/{name}" for layer in self.layers if (self.cache.layers / layer / name).is_dir()]
            if target:
                lower.append(f"/{target}")
            overlays.append({"target": target, "lower": lower, "upper": f"{at}/u/{name}", "work": f"{at}/w/{name}"})
        etc = self.place / "u" / "etc"
        for file, text in network_files(self.hostname).items():
            (etc / file).write_text(text, encoding="utf-8")
            (etc / file).chmod(0o644)
        return {
            "user_namespace": self.host.user_namespace,
            "directory": str(self.cache.root),
            "root": f"{at}/root",
            "overlays": overlays,
            "options": "userxattr" if self.host.user_namespace else "index=off,metacopy=off,redirect_dir=off",
            "hostname": self.hostname,
            "groups": list(self.groups),
            "remove": str(self.place) if self.remove else "",
        }

    def remove_all(self) -> None:
        """Remove what is left of the sandbox: its directory and its control groups."""
        for group in self.groups:
            remove_group(group)
        remove_tree(str(self.place))


def network_files(hostname: str) -> dict[str, str]:
    """Return the files of /etc that say where names are resolved, as every environment gets them anew."""
    resolver = ""
    with contextlib.suppress(OSError):
        resolver = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    hosts = f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return {"resolv.conf": resolver, "hosts": hosts, "hostname": f"{hostname}\n"}


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
                raise EngineUnavailable(f"the kernel refuses namespaces to this process ({said['error']})", CURE)
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


def _copy_directory(source: Path, target: Path, *, owner: bool) -> None:
    status = source.stat()
    if owner:
        os.chown(target, status.st_uid, status.st_gid)
    target.chmod(0o755 if str(source) == "/" else status.st_mode & 0o7777)


def _cure(error: str) -> str:
    if "Invalid argument" in error:
        return "point XDG_CACHE_HOME at a directory on ext4, xfs, btrfs or tmpfs, or use Docker"
    return CURE

"""The protocols of environments and their providers. Packages to the right of this one use only these."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Protocol

from pytest_harbor._util.process import is_alive, machine_id, process_token
from pytest_harbor.environment.tar.pack import Upload
from pytest_harbor.environment.tar.unpack import Extraction
from pytest_harbor.image import Image, ImageBackend

Output = Callable[[bytes], object]
"""Called with each piece of a command's output: standard output and standard error, in the order they arrive."""

CleanupScope = Literal["dead", "mine", "ended", "all"]
"""Whose environments to remove: those of dead processes on this machine, those of this process, all except those of
processes that run on this machine, or all."""


def is_in_scope(scope: CleanupScope, owner: str, machine: str) -> bool:
    """Return True if a scope includes an environment.

    Args:
        scope: whose environments to remove.
        owner: token of the process that created the environment.
        machine: id of the machine on which that process runs.

    """
    is_here = machine == machine_id()
    match scope:
        case "all":
            return True
        case "mine":
            return is_here and owner == process_token()
        case "dead":
            return is_here and not is_alive(owner)
        case "ended":
            return not is_here or not is_alive(owner)


@dataclass(frozen=True)
class Resources:
    """Resource limits of an environment: CPUs (fractions allowed), memory (MB) and GPUs; None means no limit."""

    cpus: float | None = None
    memory_mb: int | None = None
    gpus: int = 0


@dataclass(frozen=True)
class StartRequest:
    """A request to start an environment.

    Attributes:
        name: unique name of the environment, valid as a container name.
        task: the task's id, for labels and messages.
        run: id of the run that owns the environment.
        workdir: working directory; empty means the image's own.
        variables: environment variables of every process in it, including the image's ENTRYPOINT.
        network: whether it has a network besides loopback.
        uploads: files to put in place before any process runs.

    """

    name: str
    task: str
    run: str
    workdir: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    network: bool = True
    uploads: Sequence[Upload] = ()


@dataclass(frozen=True)
class Process:
    """A process in an environment, as in its /proc: the id, and the start time in clock ticks since boot."""

    pid: int
    started: int


@dataclass(frozen=True)
class ExecResult:
    """The result of a command: exit code, output (the middle of a long one omitted), and whether it timed out."""

    exit_code: int
    output: str
    timed_out: bool = False
    seconds: float = 0.0
    process: Process | None = None


class Environment(Protocol):
    """The running container (or embedded sandbox) of one trial.

    `notes` are facts for the reader of a result; `kept` are the targets of the request's uploads that existed and were
    kept; `proxies` are the environment variables of network proxies, which everything in the environment has unless the
    request overrides them.
    """

    id: str
    name: str
    provider: str
    image: Image
    workdir: str
    notes: tuple[str, ...]
    kept: tuple[str, ...]
    proxies: Mapping[str, str]

    def exec(
        self,
        command: str | Sequence[str],
        *,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        output: Output | None = None,
        prologue: str = "",
        on_start: Callable[[Process], None] | None = None,
    ) -> ExecResult:
        """Run a command and wait for it to end, even if processes it started still hold its output open.

        Args:
            command: a command line for bash (for sh if there is no bash), or the words of one program.
            user: name or number of the user that runs it; None means the image's user.
            cwd: working directory; None means the environment's.
            env: environment variables to add to the environment's own.
            timeout: seconds after which the command and its descendants are killed; None means never.
            output: called with all output as it arrives; the result holds a bounded part of it in any case.
            prologue: an sh script to run first, as the same user, with only system directories in PATH.
            on_start: called with the command's process before its first instruction.

        Raises:
            CannotExecute: the command cannot be started, or the prologue failed.
            EnvironmentLost: the environment is gone.
            EngineUnavailable: the engine does not answer.

        """

    def upload(self, uploads: Sequence[Upload]) -> list[str]:
        """Put files in place. Links on the way are followed only inside the environment.

        Returns:
            The targets that existed and were kept.

        """

    def save(self, directory: str) -> IO[bytes] | None:
        """Return a tar archive of a directory, with owners, modes and links; None if there is no such directory."""

    def restore(self, archive: IO[bytes], parent: str) -> None:
        """Unpack an archive from save() below another directory."""

    def download(self, source: str, destination: Path, reserved: frozenset[str] = frozenset()) -> Extraction:
        """Copy the contents of a directory to the host; hostile contents can do no harm.

        Args:
            source: absolute path in the environment.
            destination: directory on the host; created if missing.
            reserved: paths below destination that must not be touched.

        Raises:
            FileNotFoundError: the path does not exist in the environment.

        """

    def read_file(self, source: str, destination: Path) -> None:
        """Copy one regular file to a path on the host.

        Raises:
            FileNotFoundError: the path does not exist or is not a regular file.

        """

    def is_running(self) -> bool:
        """Return True if the environment is running."""

    def restart(self) -> None:
        """Start the environment again after it stopped, with its files unchanged.

        Raises:
            EnvironmentLost: it does not start again.

        """

    def kill(self, process: Process) -> bool:
        """Kill a process started by exec(), and its descendants; return True if all of them are known to be dead."""

    def kill_since(self, first: Process) -> str:
        """Kill a process and all that started after it, except processes of the image's own services.

        Returns:
            A phrase for a log on how it was done. All of these processes are dead by then.

        """

    def listen(self, on_connection: Callable[[socket.socket], None]) -> AbstractContextManager[str]:
        """Listen on a port that only programs in the environment can reach, without opening anything else to them.

        Args:
            on_connection: called with the stream socket of each new connection, in a thread of the provider that it
                must not block. It takes over the socket and closes this very object, since that is what gets cut.
                At most 128 connections are open at a time; further ones wait.

        Returns:
            A context manager that gives `host:port` as programs in the environment reach it, even if the environment
            has no network or its engine runs on another machine. On exit the port is closed and all connections are
            cut.

        Raises:
            InfrastructureError: the port cannot be provided.

        """

    def exec_prefix(self) -> str:
        """Return a command prefix that, used on the host, runs a command in the environment as root."""

    def stop(self) -> None:
        """Remove the environment and kill its processes without a grace period. A second call does nothing."""


class Provider(ImageBackend, Protocol):
    """A source of environments."""

    name: str

    def describe(self) -> str:
        """Return a phrase for the run's header.

        Raises:
            EngineUnavailable: the engine does not answer.

        """

    def start(self, image: Image, request: StartRequest) -> Environment:
        """Start an environment.

        Raises:
            StartError: it does not start; the message gives the engine's reason.
            EngineUnavailable: the engine does not answer.

        """

    def remove_owned(self, scope: CleanupScope) -> list[str]:
        """Remove environments created by pytest-harbor, and return their names."""

    def count_owned(self) -> int:
        """Return the number of environments created by pytest-harbor."""

    def remove_images(self) -> list[str]:
        """Remove the images built by pytest-harbor, and return their names."""

    def close(self) -> None:
        """Close connections, without touching environments."""

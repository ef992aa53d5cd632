"""What a provider and the environments it makes can do. Nothing to the right of here knows which provider it is."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pytest_harbor.environment.tar.pack import Upload
from pytest_harbor.environment.tar.unpack import Extraction
from pytest_harbor.image import Image, ImageBackend

Output = Callable[[bytes], None]
"""Takes a command's output (standard output and error, as they come) piece by piece."""

CleanupScope = Literal["dead", "mine", "ended", "all"]
"""Whose environments: of processes of this machine that are dead, of this process, of all processes but those that live
on this machine, of everybody."""


@dataclass(frozen=True)
class Resources:
    """What an environment may use: CPUs (fractions allowed), memory (MB) and GPUs; None means no limit."""

    cpus: float | None = None
    memory_mb: int | None = None
    gpus: int = 0


@dataclass(frozen=True)
class StartRequest:
    """How to start an environment.

    Attributes:
        name: unique name of the environment; safe as a container name.
        task: id of the task, for labels and messages.
        run: id of the run that owns the environment.
        workdir: working directory; empty for the image's own.
        variables: environment variables of everything that runs in it, also of the image's ENTRYPOINT.
        network: whether there is more of a network than loopback.
        uploads: what is in place before anything runs.

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
    """A process of an environment, as its own /proc tells: its id, and its start in clock ticks since boot."""

    pid: int
    started: int


@dataclass(frozen=True)
class ExecResult:
    """What a command left: its exit code, its output (cut in the middle when long), whether its time ran out."""

    exit_code: int
    output: str
    timed_out: bool = False
    seconds: float = 0.0
    process: Process | None = None


class Environment(Protocol):
    """The running container (or embedded sandbox) of one trial."""

    id: str
    name: str
    provider: str
    image: Image
    workdir: str
    notes: tuple[str, ...]

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
        """Run a command and wait until it ends, not until everything it started lets go of its output.

        Args:
            command: a line for bash (sh where there is no bash), or the words of one program.
            user: who runs it, by name or number; the image's user when None.
            cwd: where; the environment's working directory when None.
            env: variables on top of the environment's own.
            timeout: seconds after which the command and everything below it are killed; None waits for ever.
            output: takes the whole output as it comes; the result holds a bounded part of it anyway.
            prologue: a script for sh that runs before, as the same user with a PATH of system directories only.
            on_start: called with the command's process before its first instruction.

        Raises:
            CannotExecute: the command could not be started, or its prologue failed.
            EnvironmentLost: the environment is gone.
            EngineUnavailable: so is the engine.

        """

    def upload(self, uploads: Sequence[Upload]) -> None:
        """Put files in place, as root, links in the way followed inside the environment only."""

    def download(self, source: str, destination: Path, reserved: frozenset[str] = frozenset()) -> Extraction:
        """Copy what is below a directory of the environment into a directory here; hostile contents are harmless.

        Args:
            source: absolute path in the environment.
            destination: directory on the host, made when missing.
            reserved: paths relative to destination that are left as they are.

        Raises:
            FileNotFoundError: there is no such path in the environment.

        """

    def read_file(self, source: str, destination: Path) -> None:
        """Copy one regular file of the environment to a path here.

        Raises:
            FileNotFoundError: there is no such file, or it is no regular file.

        """

    def is_running(self) -> bool:
        """Tell whether the environment still runs."""

    def restart(self) -> None:
        """Start an environment that stopped, files as they were.

        Raises:
            EnvironmentLost: it cannot be started again.

        """

    def kill(self, process: Process) -> bool:
        """Kill a process that exec() has started and everything below it; return whether all of it is surely dead."""

    def kill_since(self, first: Process) -> str:
        """Kill what began with a process or later, but not what the image's own services have started since.

        Returns:
            How it was done, in words for a log. When this returns, all of it is dead.

        """

    def listen(self, take: Callable[[socket.socket], None]) -> AbstractContextManager[str]:
        """Listen for programs of the environment at a port of their own, and open nothing else to them.

        Args:
            take: takes each connection, a stream socket, as soon as it is made; called in threads of the provider,
                which it must not hold up. Who takes a connection closes it, and this very object: it is what is cut.
                Of more than 128 connections at a time the others wait.

        Returns:
            A context manager; it gives `host:port` as programs of the environment reach it, also where the environment
            has no network, or its engine is another machine. When it is left, nobody listens there any more, and
            connections that were made through it are cut.

        Raises:
            InfrastructureError: it cannot be had.

        """

    def exec_prefix(self) -> str:
        """Return the words that, put before a command on the host, run it in the environment as root."""

    def stop(self) -> None:
        """Remove it by force, whatever runs in it, without a grace period. A second call does nothing."""


class Provider(ImageBackend, Protocol):
    """Makes environments."""

    name: str

    def describe(self) -> str:
        """Return a phrase for the run's header.

        Raises:
            EngineUnavailable: nothing answers.

        """

    def start(self, image: Image, request: StartRequest) -> Environment:
        """Start an environment.

        Raises:
            StartError: it does not start; the message has the engine's reason.
            EngineUnavailable: the engine does not answer.

        """

    def remove_owned(self, which: CleanupScope) -> list[str]:
        """Remove environments that this project has made, and return their names."""

    def count_owned(self) -> int:
        """Return how many environments of this project there are."""

    def remove_images(self) -> list[str]:
        """Remove the images that this project has built, and return their names."""

    def close(self) -> None:
        """Let go of connections. Environments are not touched."""

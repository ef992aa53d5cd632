"""The base class of environments that run commands through a shell script and transfer files as tar archives."""

from __future__ import annotations

import posixpath
import secrets
import shutil
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from pytest_harbor._util.logs import BoundedOutput
from pytest_harbor._util.text import one_line
from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.environment import shell_scripts as shell
from pytest_harbor.environment.base import ExecResult, Output, Process
from pytest_harbor.environment.tar.pack import Upload, pack
from pytest_harbor.environment.tar.unpack import Extraction, unpack
from pytest_harbor.errors import CannotExecute, InfrastructureError

# How long killing processes from inside may take, in seconds, before all are killed from outside.
KILL_TIMEOUT = 3.0
# How long a command may take to start, in seconds, regardless of its own timeout.
START_TIMEOUT = 30.0
# Saved archives up to this size, in bytes, are kept in memory.
SAVED_IN_MEMORY = 8 << 20


class ShellEnvironment(ABC):
    """The part of an environment that providers share; see pytest_harbor.environment.Environment for the methods."""

    name: str
    workdir: str
    # Whether a command has started: an environment that ends before that never started properly.
    _has_executed = False

    @abstractmethod
    def _run(
        self,
        argv: list[str],
        parser: shell.OutputParser,
        *,
        user: str | None,
        cwd: str,
        env: Mapping[str, str],
        timeout: float | None,
        start_timeout: float,
    ) -> int | None:
        """Run a program to its end and return its exit code; None if it timed out, or did not start in time."""

    @abstractmethod
    def _download_archive(self, source: str) -> Iterator[bytes]:
        """Return a tar archive of a path in pieces; raise FileNotFoundError if the path does not exist."""

    @abstractmethod
    def _put_archive(self, archive: IO[bytes], parent: str) -> None:
        """Unpack a tar archive in a directory."""

    @abstractmethod
    def _exists(self, path: str) -> bool:
        """Return True if a file, link or directory exists."""

    @abstractmethod
    def _kill_all(self) -> str:
        """Kill all processes from outside, restart the services, and return a phrase on how it was done."""

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
        """Run a command through LAUNCH."""
        started_at = monotonic()
        kept = BoundedOutput()

        def keep(data: bytes) -> None:
            kept.add(data)
            if output:
                output(data)

        def set_started(process: Process) -> None:
            self._has_executed = True
            if on_start:
                on_start(process)

        end = secrets.token_hex(8)
        parser = shell.OutputParser(end, keep, set_started)
        exit_code = self._run(
            shell.launch_command(command, end, prologue),
            parser,
            user=user,
            cwd=cwd or self.workdir,
            env=env or {},
            timeout=timeout,
            start_timeout=START_TIMEOUT,
        )
        if not parser.started:
            if exit_code is None:
                raise CannotExecute(f"the command did not start within {START_TIMEOUT:g} s")
            raise CannotExecute(
                one_line(parser.start_error, 400) or f"exit code {exit_code}, no output",
                exit_code=127 if exit_code == 127 else 126,
            )
        if exit_code is None and parser.process is not None:
            self._kill("below", parser.process.pid)
        return ExecResult(
            exit_code=-1 if exit_code is None else exit_code,
            output=kept.text(),
            timed_out=exit_code is None,
            seconds=monotonic() - started_at,
            process=parser.process,
        )

    def kill(self, process: Process) -> bool:
        """Kill from inside the environment."""
        return self._kill("below", process.pid)

    def kill_since(self, first: Process) -> str:
        """Kill from inside; if that fails, kill everything from outside."""
        if self._kill("since", first.started):
            return "its processes were killed"
        # The agent may have removed the shell or filled the process table.
        return self._kill_all()

    def _kill(self, mode: Literal["since", "below"], mark: int) -> bool:
        """Kill processes from inside; return True if all of them are known to be dead."""
        output = BoundedOutput()
        end = secrets.token_hex(8)
        try:
            code = self._run(
                shell.kill_command(mode, mark, end),
                shell.OutputParser(end, output.add),
                user="0",
                cwd="/",
                env={"PATH": shell.SYSTEM_PATH},
                timeout=KILL_TIMEOUT,
                start_timeout=KILL_TIMEOUT,
            )
        except InfrastructureError:
            return False
        return code == 0 and "none left" in output.text()

    def upload(self, uploads: Sequence[Upload]) -> list[str]:
        """Upload one archive, without what is to be kept."""
        kept: list[str] = []
        missing: set[str] = set()
        for upload in uploads:
            if upload.keep and posixpath.dirname(upload.target) not in missing and self._exists(upload.target):
                kept.append(upload.target)
            elif upload.keep:
                missing.add(upload.target)
        if wanted := [upload for upload in uploads if not (upload.keep and upload.target in kept)]:
            with pack(wanted) as archive:
                self._put_archive(archive, "/")
        return kept

    def save(self, directory: str) -> IO[bytes] | None:
        """Download an archive of the directory."""
        archive: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SAVED_IN_MEMORY)  # noqa: SIM115 - the caller's
        try:
            for piece in self._download_archive(directory):
                archive.write(piece)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                first = tar.next()
            if first is not None and first.isdir():
                return archive
        except FileNotFoundError:
            pass
        archive.close()
        return None

    def restore(self, archive: IO[bytes], parent: str) -> None:
        """Upload the archive."""
        self._put_archive(archive, parent)

    def download(self, source: str, destination: Path, reserved: frozenset[str] = frozenset()) -> Extraction:
        """Download one archive and unpack it."""
        return unpack(self._download_archive(source), destination, strip=1, reserved=reserved)

    def read_file(self, source: str, destination: Path) -> None:
        """Download an archive of the file and move it into place."""
        with tempfile.TemporaryDirectory() as scratch:
            unpack(self._download_archive(source), Path(scratch))
            found = [path for path in Path(scratch).iterdir() if path.is_file()]
            if not found:
                raise FileNotFoundError(f"{source} is not a regular file in {self.name}")
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(found[0], destination)

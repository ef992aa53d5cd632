"""What environments have in common that start every command through LAUNCH and hand out files as archives."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pytest_harbor._util.logs import BoundedOutput
from pytest_harbor._util.text import printable
from pytest_harbor.environment import shell_scripts as shell
from pytest_harbor.environment.base import ExecResult, Output, Process
from pytest_harbor.environment.tar.unpack import Extraction, unpack
from pytest_harbor.errors import CannotExecute, InfrastructureError

# How long the killing of processes from inside may take before everything is killed instead, in seconds.
KILL_PATIENCE = 3.0
# How long a command may take to begin, whatever its own time, in seconds.
BEGIN_PATIENCE = 30.0


class ShellEnvironment(ABC):
    """A part of an environment; see pytest_harbor.environment.Environment for what each method promises."""

    name: str
    workdir: str
    # Whether a command has begun in it: what ends before that has never started well.
    _executed = False

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
        patience: float,
    ) -> int | None:
        """Run a program to its end and return its exit code, None when its time, or ours for it to begin, ran out."""

    @abstractmethod
    def _archive(self, source: str) -> Iterator[bytes]:
        """Return an archive of a path, piece by piece; FileNotFoundError where there is none."""

    @abstractmethod
    def _kill_all(self) -> str:
        """Kill everything from outside, have the services start anew, and return how that was done."""

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
        began = time.monotonic()
        kept = BoundedOutput()

        def keep(data: bytes) -> None:
            kept.add(data)
            if output:
                output(data)

        def begun(process: Process) -> None:
            self._executed = True
            if on_start:
                on_start(process)

        end = secrets.token_hex(8)
        parser = shell.OutputParser(end, keep, begun)
        exit_code = self._run(
            shell.launch_command(command, end, prologue),
            parser,
            user=user,
            cwd=cwd or self.workdir,
            env=env or {},
            timeout=timeout,
            patience=BEGIN_PATIENCE,
        )
        if not parser.started:
            said = printable(" ".join(parser.start_error.split()))[:400] or f"exit code {exit_code}, no output"
            raise CannotExecute(f"it did not begin within {BEGIN_PATIENCE:g} s" if exit_code is None else said)
        if exit_code is None and parser.process is not None:
            self._kill("below", parser.process.pid)
        return ExecResult(
            exit_code=-1 if exit_code is None else exit_code,
            output=kept.text(),
            timed_out=exit_code is None,
            seconds=time.monotonic() - began,
            process=parser.process,
        )

    def kill(self, process: Process) -> bool:
        """Kill from inside."""
        return self._kill("below", process.pid)

    def kill_since(self, first: Process) -> str:
        """Kill from inside, or else everything from outside."""
        if self._kill("since", first.started):
            return "its processes were killed"
        # The agent may have removed the shell or filled the process table.
        return self._kill_all()

    def _kill(self, mode: Literal["since", "below"], mark: int) -> bool:
        """Kill processes from inside and return whether they are surely dead."""
        said = BoundedOutput()
        end = secrets.token_hex(8)
        try:
            code = self._run(
                shell.kill_command(mode, mark, end),
                shell.OutputParser(end, said.add),
                user="0",
                cwd="/",
                env={"PATH": shell.SYSTEM_PATH},
                timeout=KILL_PATIENCE,
                patience=KILL_PATIENCE,
            )
        except InfrastructureError:
            return False
        return code == 0 and "none left" in said.text()

    def download(self, source: str, destination: Path, reserved: frozenset[str] = frozenset()) -> Extraction:
        """Copy a directory with one archive."""
        return unpack(self._archive(source), destination, strip=1, reserved=reserved)

    def read_file(self, source: str, destination: Path) -> None:
        """Copy one file."""
        with tempfile.TemporaryDirectory() as scratch:
            unpack(self._archive(source), Path(scratch))
            found = [path for path in Path(scratch).iterdir() if path.is_file()]
            if not found:
                raise FileNotFoundError(f"{source} is no regular file in {self.name}")
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(found[0], destination)

"""Keeping the tests of tasks from an agent that shares the container with them.

At the start the tasks are taken out of the file system, into files without a name, and this process closes itself to
what others may learn of a process. That holds against an agent that is root too, as long as the container has no more
capabilities than an engine gives it by itself.

Standard library only: the text of this module is part of every env.py.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pytest_harbor.task.canary import strip_canary

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_DUMPABLE = 4
# With one of these, root reads any process's memory, or the engine's own copy of the image.
REVEALING = {2: "CAP_DAC_READ_SEARCH", 17: "CAP_SYS_RAWIO", 19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN"}


class Unsealed(Exception):
    """The tests cannot be kept from the agent; the message says why."""


@dataclass(frozen=True)
class HeldTask:
    """A task that is in no file system any more.

    Attributes:
        instruction: the text of instruction.md without canary lines.
        config: task.toml.
        tests: tests/ as a tar archive.

    """

    instruction: str
    config: dict[str, Any]
    tests: IO[bytes]

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of task.toml, empty where there is none."""
        value = self.config.get(name)
        return value if isinstance(value, dict) else {}


def close_to_others() -> list[str]:
    """Have no other process read memory, variables or open files of this one, and return what stands against it.

    Raises:
        Unsealed: the kernel refuses.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, *(ctypes.c_ulong(0) for _ in range(4))) != 0:
        raise Unsealed(f"this process cannot be closed to others: {os.strerror(ctypes.get_errno())}")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    there = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")), 16)
    return [name for number, name in REVEALING.items() if there >> number & 1]


def import_as_built() -> None:
    """Import no module any more whose file was changed after this moment, for it would run with what is held here."""
    began = time.time_ns()

    def get_data(loader: importlib.machinery.SourceFileLoader, path: str) -> bytes:
        with open(path, "rb") as file:
            data = file.read()
            # Nobody but the clock sets this time.
            if os.fstat(file.fileno()).st_ctime_ns > began:
                raise PermissionError(f"{path} was changed after the start")
        return data

    create = importlib.machinery.ExtensionFileLoader.create_module

    def create_module(loader: importlib.machinery.ExtensionFileLoader, spec: importlib.machinery.ModuleSpec) -> Any:
        if os.stat(loader.path).st_ctime_ns > began:
            raise ImportError(f"{loader.path} was changed after the start", name=spec.name, path=loader.path)
        return create(loader, spec)

    sys.dont_write_bytecode = True
    for kind in (importlib.machinery.SourceFileLoader, importlib.machinery.SourcelessFileLoader):
        kind.get_data = get_data  # type: ignore[assignment, method-assign]
    importlib.machinery.ExtensionFileLoader.create_module = create_module  # type: ignore[assignment, method-assign]


def take_tasks(directory: Path, names: Sequence[str], scratch: Path) -> dict[str, HeldTask]:
    """Take tasks out of the file system.

    Args:
        directory: where they are; it is removed, whatever else is in it.
        names: their directories.
        scratch: a directory of the same file system, where it can be written.

    Raises:
        Unsealed: they cannot be read or removed.

    """
    device = os.stat(scratch).st_dev
    try:
        if any(os.stat(folder).st_dev != device for folder, _, _ in os.walk(directory)):
            raise Unsealed(f"{directory} is mounted; it must be part of the image, as it is removed at the start")
        held = {name: _hold(directory / name, scratch) for name in names if (directory / name).is_dir()}
        shutil.rmtree(directory)
    except FileNotFoundError as error:
        if os.path.lexists(directory):
            raise Unsealed(f"{error.filename}: {error.strerror}") from error
        return {}
    except (OSError, ValueError) as error:
        raise Unsealed(f"{directory} cannot be taken out of the file system: {error}") from error
    return held


def _hold(task: Path, scratch: Path) -> HeldTask:
    import tomllib  # only the layer's own Python comes here, and it has this module

    # As on the host: a byte order mark and the line ends of Windows do not count.
    instruction = (task / "instruction.md").read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    config = tomllib.loads((task / "task.toml").read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
    tests = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - held as long as this process lives
    with tarfile.open(fileobj=tests, mode="w:") as archive:
        if (task / "tests").is_dir():
            _mend_line_ends(task / "tests" / "test.sh")
            archive.add(task / "tests", ".", filter=_for_everybody)
    return HeldTask(strip_canary(instruction), config, tests)


def _mend_line_ends(script: Path) -> None:
    """Give a script plain line ends: no kernel finds the interpreter `bash\\r`."""
    if stat.S_ISREG(os.lstat(script).st_mode):
        content = script.read_bytes()
        if b"\r\n" in content:
            script.write_bytes(content.replace(b"\r\n", b"\n"))


def _for_everybody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make an entry root's, ready to run or readable for any user, however strict a checkout was."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    if entry.isdir() or entry.mode & stat.S_IXUSR or entry.name == "./test.sh":
        entry.mode |= 0o555
    else:
        entry.mode |= 0o444
    return entry

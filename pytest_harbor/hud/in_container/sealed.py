"""Hide the tests from an agent that works in the same container.

When the server starts, it moves the tasks from the file system into unnamed files and protects its own process from
inspection. This holds even against an agent that runs as root, as long as the container has only an engine's default
capabilities.

Standard library only: this module is part of every env.py.
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
# With one of these, root can read any process's memory, or the engine's own copy of the image.
REVEALING_CAPABILITIES = {2: "CAP_DAC_READ_SEARCH", 17: "CAP_SYS_RAWIO", 19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN"}


class SealError(Exception):
    """The tests cannot be hidden from the agent; the message says why."""


@dataclass(frozen=True)
class SealedTask:
    """A task that is no longer in the file system.

    Attributes:
        instruction: the text of instruction.md without canary lines.
        config: the content of task.toml.
        tests: tests/ as a tar archive.

    """

    instruction: str
    config: dict[str, Any]
    tests: IO[bytes]

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of task.toml; empty if it does not exist."""
        value = self.config.get(name)
        return value if isinstance(value, dict) else {}


def protect_process() -> list[str]:
    """Prevent other processes from reading this one's memory, environment variables and open files.

    Returns:
        The container's capabilities that defeat this protection.

    Raises:
        SealError: the kernel does not allow it.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, *(ctypes.c_ulong(0) for _ in range(4))) != 0:
        raise SealError(f"this process cannot be protected: {os.strerror(ctypes.get_errno())}")
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    capabilities = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")), 16)
    return [name for number, name in REVEALING_CAPABILITIES.items() if capabilities >> number & 1]


def block_modified_imports() -> None:
    """Refuse to import modules whose file changes from now on: they would run in the process that holds the tests."""
    began = time.time_ns()

    def get_data(loader: importlib.machinery.SourceFileLoader, path: str) -> bytes:
        with open(path, "rb") as file:
            data = file.read()
            # Unlike st_mtime, this time cannot be set by a program.
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


def seal_tasks(directory: Path, names: Sequence[str], scratch: Path) -> dict[str, SealedTask]:
    """Move tasks out of the file system.

    Args:
        directory: the directory of the tasks, which is removed with everything in it.
        names: the names of the tasks' directories.
        scratch: a writable directory in the same file system.

    Raises:
        SealError: the tasks cannot be read or removed.

    """
    device = os.stat(scratch).st_dev
    try:
        if any(os.stat(parent).st_dev != device for parent, _, _ in os.walk(directory)):
            raise SealError(f"{directory} is mounted; it must be part of the image, as the server removes it")
        sealed = {name: _seal_task(directory / name, scratch) for name in names if (directory / name).is_dir()}
        shutil.rmtree(directory)
    except FileNotFoundError as error:
        if os.path.lexists(directory):
            raise SealError(f"{error.filename}: {error.strerror}") from error
        return {}
    except (OSError, ValueError) as error:
        raise SealError(f"{directory} cannot be moved out of the file system: {error}") from error
    return sealed


def _seal_task(task: Path, scratch: Path) -> SealedTask:
    import tomllib  # in the layer's Python, but not in every Python that can import this module

    # As on the host, ignore a byte order mark and Windows line ends.
    instruction = (task / "instruction.md").read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    config = tomllib.loads((task / "task.toml").read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
    tests = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - open as long as this process lives
    with tarfile.open(fileobj=tests, mode="w:") as archive:
        if (task / "tests").is_dir():
            _fix_line_ends(task / "tests" / "test.sh")
            archive.add(task / "tests", ".", filter=_readable_by_all)
    return SealedTask(strip_canary(instruction), config, tests)


def _fix_line_ends(script: Path) -> None:
    """Replace a script's Windows line ends: the kernel would look for an interpreter named `bash\\r`."""
    if stat.S_ISREG(os.lstat(script).st_mode):
        content = script.read_bytes()
        if b"\r\n" in content:
            script.write_bytes(content.replace(b"\r\n", b"\n"))


def _readable_by_all(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make an entry owned by root, and readable or executable by every user, whatever the checkout's umask was."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    if entry.isdir() or entry.mode & stat.S_IXUSR or entry.name == "./test.sh":
        entry.mode |= 0o555
    else:
        entry.mode |= 0o444
    return entry

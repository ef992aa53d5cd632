"""The files of a task directory: their digest, and the list of files to upload."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from pytest_harbor._util.files import Digest, file_digest
from pytest_harbor.task.document import read_text
from pytest_harbor.task.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

# Files that tools leave in a task directory; with them, the digests of two checkouts would differ.
IGNORED_NAMES = frozenset({"__pycache__", ".git", ".DS_Store"})

# What they say counts, not whether they are links: a conversion copies their targets.
_TEXTS = ("task.toml", "instruction.md")


def walk(
    top: Path, prefix: PurePosixPath, keep: Callable[[PurePosixPath, int], bool]
) -> Iterator[tuple[PurePosixPath, Path, int]]:
    """Yield the relative path, host path and mode of each entry that `keep` accepts; others are not entered."""
    waiting = [prefix]
    while waiting:
        below = waiting.pop()
        directory = top / below
        try:
            with os.scandir(directory) as scan:
                entries = [(entry.name, entry.stat(follow_symlinks=False).st_mode) for entry in scan]
        except OSError as error:
            raise TaskError(directory, f"cannot be read: {error.strerror or error}") from error
        for name, mode in entries:
            path = below / name
            if keep(path, mode):
                yield path, directory / name, mode
                if stat.S_ISDIR(mode):
                    waiting.append(path)


def content_digest(task: Path, environment: Path, exclude: Collection[str]) -> str:
    """Return the digest of a task's files; see Task.files_digest.

    Args:
        task: the task's directory.
        environment: the directory of its environment, which may be elsewhere.
        exclude: names of files at the top of the environment that do not count.

    Directories themselves do not count, because datasets are distributed with Git, which has no empty directories.
    """
    digest = Digest()
    for path, host in (*_own_files(task), *_tests(task), *_environment(environment, exclude)):
        try:
            status = host.stat() if str(path) in _TEXTS and host.is_file() else host.lstat()
            mode = status.st_mode
            if stat.S_ISLNK(mode):
                digest.add(os.fsencode(path), b"link", os.fsencode(host.readlink()))
            elif stat.S_ISREG(mode):
                digest.add(os.fsencode(path), file_kind(mode), file_digest(host))
        except OSError as error:
            raise TaskError(host, f"cannot be read: {error.strerror or error}") from error
    return digest.hex()


def file_kind(mode: int) -> bytes:
    """Return what a digest says of a file's mode; other bits depend on the umask at checkout."""
    return b"executable" if mode & stat.S_IXUSR else b"file"


def _own_files(task: Path) -> list[tuple[PurePosixPath, Path]]:
    """Return the files of a task that are neither tests, nor of the environment, nor irrelevant to a trial."""

    def keep(path: PurePosixPath, _mode: int) -> bool:
        top, *below = path.parts
        if not below and (top in ("environment", "tests") or top.upper().startswith("README")):
            return False
        is_solution = path.name == "solution" and (not below or (top == "steps" and len(below) == 2))
        return not is_solution and path.name not in IGNORED_NAMES

    return sorted((path, host) for path, host, _mode in walk(task, PurePosixPath(), keep))


def _tests(task: Path) -> list[tuple[PurePosixPath, Path]]:
    top = PurePosixPath("tests")
    return [(top / path, host) for path, host in upload_list(task, "tests") if IGNORED_NAMES.isdisjoint(path.parts)]


def _environment(directory: Path, exclude: Collection[str]) -> list[tuple[PurePosixPath, Path]]:
    def keep(path: PurePosixPath, _mode: int) -> bool:
        return path.name not in IGNORED_NAMES and str(path) not in exclude

    top = PurePosixPath("environment")
    found = walk(directory, PurePosixPath(), keep) if directory.is_dir() else ()
    return sorted((top / path, host) for path, host, _mode in found)


def readable_mode(mode: int) -> int:
    """Return permission bits with read access for every user, and execute access if the owner has it.

    A strict umask at checkout therefore does not matter.
    """
    mode_bits = stat.S_IMODE(mode)
    return mode_bits | (0o555 if mode_bits & stat.S_IXUSR or stat.S_ISDIR(mode) else 0o444)


def upload_list(task: Path, folder: str) -> list[tuple[PurePosixPath, Path]]:
    """Return the entries to upload from a folder of a task; see Task.upload_files."""
    ignored = _ignore_rules(task / ".harborignore")

    def keep(path: PurePosixPath, mode: int) -> bool:
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            return False  # a socket or FIFO cannot be uploaded
        # Rules such as "data/" match a directory only with the slash.
        return not ignored.match_file(f"{path}/" if stat.S_ISDIR(mode) else str(path))

    top = PurePosixPath(folder)
    if not (task / top).is_dir() or ignored.match_file(f"{top}/"):
        return []
    return sorted((path.relative_to(top), host) for path, host, _mode in walk(task, top, keep))


def _ignore_rules(path: Path) -> GitIgnoreSpec:
    lines = read_text(path).splitlines() if os.path.lexists(path) else []
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise TaskError(path, str(error)) from error

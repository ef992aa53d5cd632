"""Uploads of a task's tests/ and solution/, of agent files, and of what an agent's own code uploads."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from pytest_harbor.environment.tar.pack import Upload
from pytest_harbor.image.agent_files import agent_files
from pytest_harbor.task import Task
from pytest_harbor.task.files import readable_mode

SCRIPTS = {"tests": "test.sh", "solution": "solve.sh"}


def folder_uploads(task: Task, folder: Literal["tests", "solution"], target: str) -> tuple[list[Upload], list[str]]:
    """Return the uploads that put a folder of a task in place, and notes on what they change.

    The folder's script becomes executable (Terminal-Bench's scripts are not), and CRLF line endings become LF: no
    kernel finds the interpreter `bash\\r`.
    """
    uploads = [Upload(target, None, 0o755, keep=True)]
    notes = []
    for relative, path in task.upload_files(folder):
        destination = f"{target}/{relative}"
        if str(relative) == SCRIPTS[folder] and path.is_file():
            content = path.read_bytes()
            if b"\r\n" in content:
                content = content.replace(b"\r\n", b"\n")
                notes.append(f"{folder}/{relative} has CRLF line endings; it was run with LF")
            uploads.append(Upload(destination, content, 0o755))
        else:
            is_directory = path.is_dir() and not path.is_symlink()
            uploads.append(Upload(destination, path, _mode(path), keep=is_directory))
    return uploads, notes


def agent_uploads(files: Iterable[tuple[Path, str]]) -> list[Upload]:
    """Return the uploads that put all agent files in place, readable by every user.

    Raises:
        UnmetRequirement: a file cannot be read.

    """
    found = [file for source, target in files for file in agent_files(source, target)]
    return [Upload(file.target, file.path, file.mode, keep=file.path.is_dir()) for file in found]


def user_uploads(source: Path, target: str, owner: tuple[int, int]) -> list[Upload]:
    """Return the uploads of a file, or of a directory with everything below it, for a user of the environment.

    The user owns whatever does not exist yet, and may change it. Links are followed, except those that stay inside the
    directory; sockets and named pipes are excluded.

    Raises:
        OSError: the source cannot be read.

    """
    target = posixpath.normpath(target)
    parents = [Upload(str(parent), None, 0o755, owner, keep=True) for parent in PurePosixPath(target).parents][-2::-1]
    return [*parents, *_tree(source.resolve(strict=True), target, owner, ())]


def _tree(source: Path, target: str, owner: tuple[int, int], above: tuple[Path, ...]) -> Iterator[Upload]:
    """Yield the uploads of a resolved path; `above` are the directories that lead to it, outermost first."""
    if not source.is_dir():
        if source.is_file():
            yield Upload(target, source, readable_mode(source.stat().st_mode) | 0o200, owner)
        return
    yield Upload(target, None, readable_mode(source.stat().st_mode) | 0o700, owner, keep=True)
    above = (*above, source)
    for path in sorted(source.iterdir()):
        place = f"{target}/{path.name}"
        if not path.is_symlink():
            yield from _tree(path, place, owner, above)
            continue
        real = path.resolve()
        is_inside = real.is_relative_to(above[0]) and not path.readlink().is_absolute()
        if is_inside or not real.exists():
            yield Upload(place, path, owner=owner)
        elif real not in above and not above[0].is_relative_to(real):
            yield from _tree(real, place, owner, above)


def _mode(path: Path) -> int | None:
    return None if path.is_symlink() else readable_mode(path.stat().st_mode)

"""Uploads of a task's tests/ and solution/, of agent files, and of what an agent's own code uploads."""

from __future__ import annotations

import errno
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from pytest_harbor.environment.shell_scripts import LINE_ENDINGS_FIX, first_word
from pytest_harbor.environment.tar.pack import Upload
from pytest_harbor.image.agent_files import agent_files
from pytest_harbor.task import Task
from pytest_harbor.task.files import readable_mode

BOM = b"\xef\xbb\xbf"
_FIRST_LINE_BYTES = 4096
_SHELL = re.compile(rb"^\S*#!.*[/\s](ba|da|k|z)?sh\s")

SCRIPTS = {"tests": "test.sh", "solution": "solve.sh"}


def folder_uploads(task: Task, folder: Literal["tests", "solution"], target: str) -> tuple[list[Upload], list[str]]:
    """Return the uploads that put a folder of a task in place, and notes on what they change.

    The folder's script becomes executable (Terminal-Bench's scripts are not). In it, and in scripts next to it, CRLF
    line endings become LF, and a byte order mark is removed: no kernel finds the interpreter `bash\\r`.
    """
    uploads = [Upload(target, None, 0o755, keep=True)]
    notes = []
    for relative, path in task.upload_files(folder):
        destination = f"{target}/{relative}"
        is_main = str(relative) == SCRIPTS[folder] and path.is_file()
        problem = line_problem(path) if is_main or (path.is_file() and not path.is_symlink()) else ""
        if is_main and not problem and b"\r\n" in path.read_bytes():
            problem = "CRLF line endings"
        if problem:
            content = path.read_bytes().removeprefix(BOM).replace(b"\r\n", b"\n")
            them = "them" if problem.endswith("s") else "it"
            notes.append(f"{folder}/{relative} has {problem}; it ran without {them}")
            uploads.append(Upload(destination, content, 0o755 if is_main else _mode(path)))
        elif is_main:
            uploads.append(Upload(destination, path.resolve(), 0o755))
        else:
            is_directory = path.is_dir() and not path.is_symlink()
            uploads.append(Upload(destination, path, _mode(path), keep=is_directory))
    return uploads, notes


def line_problem(path: Path) -> str:
    """Return what keeps a script from being run as one: CRLF line endings or a byte order mark; empty if nothing does.

    A file is a script if it names its interpreter or is named as a shell script.
    """
    with path.open("rb") as file:
        first = file.readline(_FIRST_LINE_BYTES)
    is_script = first.removeprefix(BOM).startswith(b"#!") or path.suffix in (".sh", ".bash")
    if is_script and first.endswith(b"\r\n"):
        return "CRLF line endings"
    return "a byte order mark" if is_script and first.startswith(BOM) else ""


def line_fix(problem: str) -> str:
    """Return the fix of a line_problem()."""
    return LINE_ENDINGS_FIX if "CRLF" in problem else "save it as UTF-8 without one"


def fails_with(line: str, script: str, path: Path) -> bool:
    """Return True if a command line fails because of the line_problem() of a script that it names.

    Args:
        line: the command line.
        script: the script's path in it.
        path: the script.

    """
    if script not in line:
        return False
    with path.open("rb") as file:
        is_shell = path.suffix in (".sh", ".bash") or _SHELL.search(file.readline(_FIRST_LINE_BYTES))
    # Python and most other interpreters accept such lines if they are given the script, shells never do.
    return first_word(line) == script or bool(is_shell)


def agent_file_problems(files: Iterable[tuple[Path, str]], line: str) -> Iterator[tuple[str, str, bool]]:
    """Yield the path in the environment of each agent file that cannot be run as a script, why, and if a line fails."""
    for source, target in files:
        for file in agent_files(source, target):
            may_run = file.mode is not None and file.path.is_file() and (file.mode & 0o100 or file.path.suffix == ".sh")
            if may_run and (problem := line_problem(file.path)):
                yield file.target, problem, fails_with(line, file.target, file.path)


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
        OSError: the source cannot be read, or is neither a file nor a directory.

    """
    source = source.resolve(strict=True)
    if not (source.is_file() or source.is_dir()):
        raise OSError(errno.EINVAL, "it is neither a file nor a directory", str(source))
    target = posixpath.normpath(target)
    parents = [Upload(str(parent), None, 0o755, owner, keep=True) for parent in PurePosixPath(target).parents][-2::-1]
    return [*parents, *_tree(source, target, owner, ())]


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
        is_inside = real.is_relative_to(above[0]) and _stays_below(path, above[0])
        if is_inside or not real.exists():
            yield Upload(place, path, owner=owner)
        elif real not in above and not above[0].is_relative_to(real):
            yield from _tree(real, place, owner, above)


def _stays_below(link: Path, top: Path) -> bool:
    """Return True if a link never leaves a directory: its copy may have another name than `top`."""
    if not link.is_relative_to(top):
        return False
    leads_to = posixpath.normpath(link.parent.relative_to(top) / link.readlink())
    return not leads_to.startswith(("/", ".."))


def _mode(path: Path) -> int | None:
    return None if path.is_symlink() else readable_mode(path.stat().st_mode)

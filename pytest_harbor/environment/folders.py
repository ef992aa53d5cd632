"""A task's tests/ and solution/ as uploads: ready to run for any user of the environment."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

from pytest_harbor.environment.archive import Upload
from pytest_harbor.task import Task

SCRIPTS = {"tests": "test.sh", "solution": "solve.sh"}


def folder_uploads(task: Task, folder: Literal["tests", "solution"], target: str) -> tuple[list[Upload], list[str]]:
    """Return the uploads that put a folder of a task in place, and notes of what was changed on the way.

    Its script gets its run bit (Terminal-Bench's scripts have none) and, where it was written with CRLF, plain line
    ends: no kernel finds the interpreter `bash\\r`.
    """
    uploads = [Upload(target, None, 0o755)]
    notes = []
    for relative, path in task.upload_files(folder):
        place = f"{target}/{relative}"
        if str(relative) == SCRIPTS[folder] and path.is_file():
            content = path.read_bytes()
            if b"\r\n" in content:
                content = content.replace(b"\r\n", b"\n")
                notes.append(f"{folder}/{relative} has CRLF line ends; it was run with LF")
            uploads.append(Upload(place, content, 0o755))
        else:
            uploads.append(Upload(place, path, _readable(path)))
    return uploads, notes


def _readable(path: Path) -> int | None:
    """Return a mode that lets every user of the environment read a file, however strict a checkout was."""
    if path.is_symlink():
        return None
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode | (0o555 if mode & stat.S_IXUSR or path.is_dir() else 0o444)

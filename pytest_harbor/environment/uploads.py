"""Uploads of a task's tests/ and solution/ and of agent files, readable and executable for every user."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
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
    uploads = [Upload(target, None, 0o755)]
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
            uploads.append(Upload(destination, path, _mode(path)))
    return uploads, notes


def agent_uploads(files: Iterable[tuple[Path, str]]) -> list[Upload]:
    """Return the uploads that put all agent files in place, readable by every user.

    Raises:
        UnmetRequirement: a file cannot be read.

    """
    found = [file for source, target in files for file in agent_files(source, target)]
    return [Upload(file.target, file.path, file.mode) for file in found]


def _mode(path: Path) -> int | None:
    return None if path.is_symlink() else readable_mode(path.stat().st_mode)

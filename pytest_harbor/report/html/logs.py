"""The ends of a trial's logs, read from a directory into which an agent may have written."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_harbor.environment.output import printable

LINES = 300
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


@dataclass(frozen=True)
class LogEnd:
    """The end of a log.

    Attributes:
        text: its last lines, with nothing in it that is not printable.
        size: bytes of the whole file.
        whole: whether nothing is left out.

    """

    text: str
    size: int
    whole: bool


def read_end(directory: Path, name: str, limit: int) -> LogEnd | None:
    """Read the end of a log, following no link below the directory and waiting for no pipe.

    Args:
        directory: the trial's directory.
        name: the log's path in it.
        limit: how many bytes at most.

    Returns:
        None where there is no such regular file, or nothing in it.

    """
    try:
        data, size = _read(directory, PurePosixPath(name), limit)
    except OSError:
        return None
    if len(data) < size:
        # Begins with a whole line, or at least a whole character.
        _, _, rest = data.partition(b"\n")
        data = rest or data.lstrip(_CONTINUATION_BYTES)
    lines = printable(data.decode("utf-8", "replace")).rstrip().split("\n")
    text = "\n".join(lines[-LINES:])
    return LogEnd(text, size, whole=len(data) == size and len(lines) <= LINES) if text.strip() else None


def _read(directory: Path, name: PurePosixPath, limit: int) -> tuple[bytes, int]:
    with contextlib.ExitStack() as opened:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, place)
        for parent in name.parent.parts:
            place = os.open(parent, _READ | os.O_DIRECTORY, dir_fd=place)
            opened.callback(os.close, place)
        file = os.open(name.name, _READ, dir_fd=place)
        opened.callback(os.close, file)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{name} is no regular file")
        return os.pread(file, limit, max(0, status.st_size - limit)), status.st_size

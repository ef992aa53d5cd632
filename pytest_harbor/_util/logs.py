"""Command output of bounded size: no command can fill memory or disk."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_harbor._util.text import plural, printable

MIB = 1 << 20

MAX_LINES = 300
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


class BoundedOutput:
    """The beginning and the end of a stream of bytes.

    Args:
        head: bytes to keep from the beginning.
        tail: bytes to keep from the end.

    """

    def __init__(self, head: int = MIB // 2, tail: int = MIB // 2) -> None:
        self._head_limit = head
        self._tail_limit = tail
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.size = 0

    def add(self, data: bytes) -> bytes:
        """Add output, and return the part of it that belongs to the beginning."""
        self.size += len(data)
        first = data[: max(0, self._head_limit - len(self._head))]
        self._head += first
        rest = data[len(first) :]
        if rest:
            self._tail.append(rest[-self._tail_limit :])
            self._tail_size += len(self._tail[-1])
            while self._tail_size - len(self._tail[0]) >= self._tail_limit:
                self._tail_size -= len(self._tail.popleft())
        return first

    def rest(self) -> bytes:
        """Return what follows the beginning: a note if bytes were omitted, then the end."""
        tail = b"".join(self._tail)[-self._tail_limit :] if self._tail else b""
        omitted = self.size - len(self._head) - len(tail)
        note = f"\n[... {plural(omitted, 'byte')} omitted ...]\n".encode() if omitted else b""
        return note + tail

    def text(self) -> str:
        """Return the beginning and the end as text."""
        return (bytes(self._head) + self.rest()).decode("utf-8", "replace")


class LogFile:
    """A log file that can be followed while it is written; of a long log it keeps the beginning and the end.

    Several threads may write to it; the bytes of one call stay together.

    Args:
        path: the file; its directory is created.
        echo: called with all output as well, to show it live.

    """

    def __init__(self, path: Path, echo: object = None) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)
        self._bounds = BoundedOutput(head=16 * MIB, tail=MIB)
        self._echo = echo
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes written so far, including omitted ones."""
        return self._bounds.size

    def __call__(self, data: bytes) -> None:
        """Write output."""
        with self._lock:
            # An agent whose time ran out may still write; ignore it.
            if self._file.closed:
                return
            first = self._bounds.add(data)
            if first:
                self._file.write(first)
            if callable(self._echo):
                self._echo(data)

    def close(self) -> None:
        """Write the end and close the file."""
        with self._lock:
            if not self._file.closed:
                self._file.write(self._bounds.rest())
                self._file.close()

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class LogTail:
    """The end of a log.

    Attributes:
        text: its last lines, as printable text.
        size: bytes in the whole file.
        complete: whether the text is the whole log.

    """

    text: str
    size: int
    complete: bool


def read_tail(directory: Path, name: str, limit: int, lines: int = MAX_LINES) -> LogTail | None:
    """Read the end of a log without following links below the directory or blocking on a pipe.

    Args:
        directory: the trial's directory; an agent may have written to it.
        name: path of the log in the directory.
        limit: maximum number of bytes.
        lines: maximum number of lines.

    Returns:
        The end of the log, or None if there is no such regular file or it is blank.

    """
    try:
        data, size = read_last_bytes(directory, name, limit)
    except (OSError, ValueError):
        return None
    if len(data) < size:
        # Start at a whole line, or at least at a whole character.
        _, _, rest = data.partition(b"\n")
        data = rest or data.lstrip(_CONTINUATION_BYTES)
    found = printable(data.decode("utf-8", "replace")).rstrip().split("\n")
    text = "\n".join(found[-lines:])
    return LogTail(text, size, complete=len(data) == size and len(found) <= lines) if text.strip() else None


def read_last_bytes(directory: Path, name: str, limit: int) -> tuple[bytes, int]:
    """Return the last bytes of a file and its size, opened as safely as in read_tail().

    Raises:
        OSError: there is no such regular file, or it cannot be read.
        ValueError: the name is not a valid file name.

    """
    path = PurePosixPath(name)
    with contextlib.ExitStack() as opened:
        parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, parent)
        for part in path.parent.parts:
            parent = os.open(part, _READ | os.O_DIRECTORY, dir_fd=parent)
            opened.callback(os.close, parent)
        file = os.open(path.name, _READ, dir_fd=parent)
        opened.callback(os.close, file)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{name} is not a regular file")
        return os.pread(file, limit, max(0, status.st_size - limit)), status.st_size


def tail(path: Path | None, lines: int = 20, limit: int = 16_384) -> str:
    """Return the last lines of a log as printable text; empty if there is no log."""
    end = read_tail(path.parent, path.name, limit, lines) if path is not None else None
    return end.text if end else ""

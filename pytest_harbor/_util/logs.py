"""Output of bounded size: however much a command prints, neither memory nor disk fills."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_harbor._util.text import printable

MIB = 1 << 20

MAX_LINES = 300
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


class BoundedOutput:
    """Keeps the beginning and the end of a stream of bytes.

    Args:
        head: how many bytes of the beginning are kept.
        tail: how many bytes of the end are kept.

    """

    def __init__(self, head: int = MIB // 2, tail: int = MIB // 2) -> None:
        self._head_limit = head
        self._tail_limit = tail
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take more output."""
        self.write(data)

    def write(self, data: bytes) -> bytes:
        """Take more output; return the part of it that still belongs to the beginning."""
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
        """Return what follows the beginning: a note where something is left out, then the end."""
        tail = b"".join(self._tail)[-self._tail_limit :] if self._tail else b""
        left_out = self.size - len(self._head) - len(tail)
        note = f"\n[... {left_out:,} bytes left out ...]\n".encode() if left_out else b""
        return note + tail

    def text(self) -> str:
        """Return what is kept, as text."""
        return (bytes(self._head) + self.rest()).decode("utf-8", "replace")


class LogFile:
    """A log on disk that can be followed while it is written, and holds beginning and end of what was too long.

    Several threads may write to it; what each gives at once stays together.

    Args:
        path: the file; its directory is made.
        echo: takes every byte as well, for a person who watches.

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
        """Bytes taken so far."""
        return self._bounds.size

    def __call__(self, data: bytes) -> None:
        """Take more output."""
        with self._lock:
            # An agent that is out of time may go on talking; nobody listens.
            if self._file.closed:
                return
            first = self._bounds.write(data)
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
        text: its last lines, with nothing in it that is not printable.
        size: bytes of the whole file.
        whole: whether nothing is left out.

    """

    text: str
    size: int
    complete: bool


def read_tail(directory: Path, name: str, limit: int, lines: int = MAX_LINES) -> LogTail | None:
    """Read the end of a log, following no link below the directory and waiting for no pipe.

    Args:
        directory: the trial's directory, into which an agent may have written.
        name: the log's path in it.
        limit: how many bytes at most.
        lines: how many lines at most.

    Returns:
        None where there is no such regular file, or nothing in it.

    """
    try:
        data, size = read_last_bytes(directory, name, limit)
    except (OSError, ValueError):
        return None
    if len(data) < size:
        # Begins with a whole line, or at least a whole character.
        _, _, rest = data.partition(b"\n")
        data = rest or data.lstrip(_CONTINUATION_BYTES)
    found = printable(data.decode("utf-8", "replace")).rstrip().split("\n")
    text = "\n".join(found[-lines:])
    return LogTail(text, size, complete=len(data) == size and len(found) <= lines) if text.strip() else None


def read_last_bytes(directory: Path, name: str, limit: int) -> tuple[bytes, int]:
    """Return the last bytes of a file, and how many it has, as read_tail() reads it.

    Raises:
        OSError: there is no such regular file, or it cannot be read.
        ValueError: no file can have this name.

    """
    path = PurePosixPath(name)
    with contextlib.ExitStack() as opened:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, place)
        for parent in path.parent.parts:
            place = os.open(parent, _READ | os.O_DIRECTORY, dir_fd=place)
            opened.callback(os.close, place)
        file = os.open(path.name, _READ, dir_fd=place)
        opened.callback(os.close, file)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{name} is no regular file")
        return os.pread(file, limit, max(0, status.st_size - limit)), status.st_size


def tail(path: Path | None, lines: int = 20, limit: int = 16_384) -> str:
    """Return the last lines of a log of ours, readable; empty where there is none."""
    end = read_tail(path.parent, path.name, limit, lines) if path is not None else None
    return end.text if end else ""

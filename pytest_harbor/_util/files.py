"""Files: replaced in one step, and digested without ambiguity."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 1 << 20


def write_atomically(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Replace a file in one step, so that a reader sees the old content or the new, and never a part.

    Several processes may write the same file; the last one wins. The directory is created if needed, and text is
    written as UTF-8 with the line ends it has.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.

    """
    _check_regular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each writer, short enough for any file system.
    scratch = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        if isinstance(content, bytes):
            scratch.write_bytes(content)
        else:
            with scratch.open("w", encoding="utf-8", newline="") as file:
                file.writelines([content] if isinstance(content, str) else content)
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise


def write_output(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file that a user named, in one step. A symbolic link stays a link, and its target is replaced.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.

    """
    write_atomically(path.resolve(), content)


def check_writable(path: Path) -> None:
    """Check that write_output() can write a file, by creating a file near it, which leaves no trace.

    Raises:
        OSError: it could not be written.

    """
    path = path.resolve()
    _check_regular(path)
    place = path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    with tempfile.TemporaryFile(dir=place, prefix=f".{path.name[:100]}.", suffix=".tmp"):
        pass


def _check_regular(path: Path) -> None:
    """Refuse what a file must not replace: root could replace /dev/null for the whole machine."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


class Digest:
    """SHA-256 over a sequence of parts; each is preceded by its length, so no part can pass for the end of another."""

    def __init__(self) -> None:
        self._total = hashlib.sha256()

    def add(self, *parts: str | bytes) -> None:
        """Add parts, in order."""
        for part in parts:
            data = os.fsencode(part) if isinstance(part, str) else part
            self._total.update(b"%d:" % len(data) + data)

    def hex(self) -> str:
        """Return the digest as 64 hexadecimal digits."""
        return self._total.hexdigest()


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's content, 32 bytes, without holding the whole file in memory.

    Raises:
        OSError: the file cannot be read.

    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.digest()

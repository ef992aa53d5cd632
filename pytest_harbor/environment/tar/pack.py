"""Pack files into a tar archive for an environment; no host path is ever bind-mounted into one."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_harbor._util.text import escaped
from pytest_harbor.environment.tar.stream import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable

_MIB = 2**20
_IN_MEMORY_BYTES = 8 * _MIB
_SHOWN_CHARACTERS = 300


class UploadError(Exception):
    """A file cannot be uploaded to an environment; the message names the file and the reason."""


@dataclass(frozen=True)
class Upload:
    """One file, link or directory to place in an environment.

    Attributes:
        target: absolute POSIX path in the environment.
        source: a host path (the file, symbolic link or directory itself, never what is below or behind it),
            the content of a file, or None for an empty directory.
        mode: permission bits; None means the source's own, 0o644 for content and 0o755 for an empty
            directory. Set-uid and set-gid bits are dropped. A symbolic link has no mode.
        owner: user id and group id.
        keep: whether to leave what already exists at the target as it is, with its owner and mode.
    """

    target: str
    source: Path | bytes | None
    mode: int | None = None
    owner: tuple[int, int] = (0, 0)
    keep: bool = False


def pack(uploads: Iterable[Upload]) -> IO[bytes]:
    """Write uploads, in order, to a tar archive relative to "/".

    The format is PAX, so that long and non-ASCII names survive. Missing parent
    directories are not part of the archive; whoever unpacks it creates them. Symbolic links are stored as links,
    never followed. A file keeps its modification time in whole seconds; content gets time 0.

    Returns:
        The archive at position 0, on disk if it exceeds 8 MiB. The caller closes it.

    Raises:
        UploadError: a target is not an absolute path below "/", or a source has vanished, cannot be read,
            changes while it is being read, or is a socket, named pipe or device.
    """
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller's
    try:
        for upload in uploads:
            try:
                _pack_one(spool, upload)
            except (OSError, ValueError) as error:  # ValueError: a name that no encoding can represent
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise _cannot_upload(upload, reason or str(error)) from error
        spool.write(bytes(2 * BLOCK))
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool


def _pack_one(spool: IO[bytes], upload: Upload) -> None:
    parts = [part for part in upload.target.split("/") if part not in ("", ".")]
    if not upload.target.startswith("/") or not parts or ".." in parts or "\0" in upload.target:
        target = escaped(upload.target, _SHOWN_CHARACTERS)
        raise UploadError(f"{target} is not an absolute path below / in the environment")
    info = tarfile.TarInfo("/".join(parts))
    info.uid, info.gid = upload.owner
    if upload.source is None:
        info.type = tarfile.DIRTYPE
        info.mode = _permissions(upload.mode, 0o755)
        _write(spool, info)
    elif isinstance(upload.source, bytes):
        info.size = len(upload.source)
        info.mode = _permissions(upload.mode, 0o644)
        _write(spool, info, BytesIO(upload.source))
    else:
        _pack_path(spool, info, upload, upload.source)


def _pack_path(spool: IO[bytes], info: tarfile.TarInfo, upload: Upload, source: Path) -> None:
    status = source.lstat()
    info.mtime = int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        info.type = tarfile.SYMTYPE
        info.mode = 0o777
        info.linkname = str(source.readlink())
        _write(spool, info)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        info.mode = _permissions(upload.mode, status.st_mode)
        _write(spool, info)
    elif stat.S_ISREG(status.st_mode):
        _pack_file(spool, info, upload, source)
    else:
        raise _cannot_upload(upload, f"it is a {_special_kind(status.st_mode)}")


def _pack_file(spool: IO[bytes], info: tarfile.TarInfo, upload: Upload, source: Path) -> None:
    # The path may have changed since lstat: don't follow a link, and don't block on a pipe without a writer.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _cannot_upload(upload, "it is no longer a regular file")
        info.mtime = int(status.st_mtime)
        info.size = status.st_size
        info.mode = _permissions(upload.mode, status.st_mode)
        if not _write(spool, info, file):
            raise _cannot_upload(upload, "it shrank while it was being read")


def _write(spool: IO[bytes], info: tarfile.TarInfo, content: IO[bytes] | None = None) -> bool:
    """Write one member and return False if the content is shorter than `info.size`; anything longer is cut off."""
    spool.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
    left = info.size
    while content is not None and left and (piece := content.read(min(left, _MIB))):
        spool.write(piece)
        left -= len(piece)
    spool.write(bytes(-info.size % BLOCK))
    return not left


def _cannot_upload(upload: Upload, reason: str) -> UploadError:
    source = str(upload.source) if isinstance(upload.source, Path) else upload.target
    return UploadError(f"{escaped(source, _SHOWN_CHARACTERS)} cannot be uploaded: {reason}")


def _permissions(mode: int | None, default: int) -> int:
    # Keep the sticky bit: a shared directory such as /tmp needs it.
    return (default if mode is None else mode) & 0o1777


def _special_kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "socket"
    return "named pipe" if stat.S_ISFIFO(mode) else "device"

"""Tar streams to and from environments: the only way files cross the border, for nothing is bind-mounted.

What comes out of an environment was written by an untrusted agent: see `tarstream` for how it is read.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tarfile
import tempfile
import unicodedata
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_harbor._util.sizes import size_text
from pytest_harbor.environment.tar.stream import (
    BLOCK,
    DEVICES,
    DIRECTORY,
    LINKS,
    REGULAR,
    Member,
    Stopped,
    Stream,
    next_member,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_MIB = 2**20
_GIB = 2**30
_SPOOL_BYTES = 8 * _MIB
_NOTES = 1000
# A name in a note: long enough to recognise the file, short enough for a thousand of them in a report.
_SHOWN_CHARACTERS = 300
# Behind the end mark is padding (tar rounds up to 10 KiB); reading it lets a connection be used again.
_PADDING_BYTES = _MIB
# Linux's limit of a component; for the whole, what leaves room for the destination below PATH_MAX (4,096) and
# what shutil.rmtree, which recurses before Python 3.13, can remove.
_COMPONENT_BYTES = 255
_NAME_BYTES = 2048
_DEPTH = 100

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Errors that a member's name causes; others (a full disk, no permission) are the host's and reach the caller.
_NAME_ERRORS = {
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
}


class UploadError(Exception):
    """A file cannot be placed in an environment; the message names it and says why."""


@dataclass(frozen=True)
class Upload:
    """One file, link or directory to place in an environment.

    Attributes:
        target: absolute POSIX path in the environment.
        source: a host path (the file, symbolic link or directory itself, never what is below or behind it),
            the content of a file, or None for an empty directory.
        mode: permission bits; None means the source's own, 0o644 for content and 0o755 for an empty
            directory. Set-uid and set-gid bits are dropped. A symbolic link has no mode.
    """

    target: str
    source: Path | bytes | None
    mode: int | None = None


@dataclass(frozen=True)
class Limits:
    """How much of one download is written or read, whatever the archive holds.

    Attributes:
        file_bytes: bytes of one file; a longer one is cut, its head is kept.
        total_bytes: bytes of all files; a file that does not fit any more is skipped, a later one may fit.
        files: entries: every member, written or not, and every directory made for one. Reading ends there.
        stream_bytes: bytes of the archive itself, what is skipped included, because a sparse file of
            terabytes costs its owner nothing. Reading ends there.
    """

    file_bytes: int = 64 * _MIB
    total_bytes: int = 512 * _MIB
    files: int = 20_000
    stream_bytes: int = 8 * _GIB


_DEFAULT_LIMITS = Limits()


@dataclass
class Extraction:
    """What `unpack` wrote, and what it did not.

    Attributes:
        files: regular files written.
        bytes: bytes written into them.
        skipped: one note for each member left out or cut, as "agent/x: symbolic link to /etc/passwd" or
            "big.log: cut after 64 MiB (of 5 GiB)"; at most 1,000, then "... and N more". A note that begins
            with "archive: " comes first and says that reading ended early, so later files may be missing.
    """

    files: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)


def pack(uploads: Iterable[Upload]) -> IO[bytes]:
    """Write uploads, in their order, as a tar relative to "/".

    PAX, so that long and non-ASCII names pass; owned by root; parent directories are left to the engine.
    Symbolic links are written as links and never followed. A file keeps its time in whole seconds; content
    has time 0.

    Returns:
        The archive at position 0, on disk beyond 8 MiB. The caller closes it.

    Raises:
        UploadError: a target is not an absolute path below "/", or a source has vanished, cannot be read,
            changes while it is read, or is a socket, named pipe or device.
    """
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - the caller's
    try:
        for upload in uploads:
            try:
                _pack_one(spool, upload)
            except (OSError, ValueError) as error:  # ValueError: a name that no encoding can write
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise _refusal(upload, reason or str(error)) from error
        spool.write(bytes(2 * BLOCK))
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool


def unpack(
    chunks: Iterable[bytes],
    destination: Path,
    limits: Limits = _DEFAULT_LIMITS,
    *,
    strip: int = 0,
    reserved: Collection[str] = (),
) -> Extraction:
    """Write a tar stream of untrusted content below a directory.

    Regular files (mode 0o644) and directories (0o755) are made, nothing else: links, devices, pipes and
    sparse files are skipped. Absolute names become relative; a name with "..", control characters, bytes
    that are not UTF-8 or more than 255 bytes in a component is skipped. An earlier file or link of the same
    name is replaced, no link is followed, an earlier directory stays. Memory is bounded, whatever comes.

    Args:
        chunks: the archive, uncompressed; its `close()` is called at the end if it has one.
        destination: where to write; made if missing.
        limits: how much to write and read.
        strip: leading components of each name to remove. The engine's archive of /logs holds "logs/…".
        reserved: paths below the destination, after `strip`, that the host writes itself: a member of such
            a name or below it is skipped. Letter case does not matter: to some file systems it does not.

    Returns:
        What was written and notes of what was not. A broken or truncated archive is a note, not an error.

    Raises:
        OSError: the host cannot write (disk full, no permission on the destination).
        Exception: whatever reading from `chunks` raises, as a lost connection.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
        root = os.open(destination, _DIRECTORY_FLAGS)
        try:
            return _Unpacker(Stream(chunks, limits.stream_bytes), root, limits, strip, reserved).run()
        finally:
            os.close(root)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _pack_one(spool: IO[bytes], upload: Upload) -> None:
    parts = [part for part in upload.target.split("/") if part not in ("", ".")]
    if not upload.target.startswith("/") or not parts or ".." in parts or "\0" in upload.target:
        raise UploadError(f"{_shown(upload.target)} is not an absolute path below / in the environment")
    info = tarfile.TarInfo("/".join(parts))
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
        # The path may have become something else since: neither follow a link nor wait for a pipe's writer.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _refusal(upload, "it changed into another kind of file")
            info.mtime = int(status.st_mtime)
            info.size = status.st_size
            info.mode = _permissions(upload.mode, status.st_mode)
            if not _write(spool, info, file):
                raise _refusal(upload, "it became shorter while it was read")
    else:
        raise _refusal(upload, f"it is a {_special(status.st_mode)}")


def _write(spool: IO[bytes], info: tarfile.TarInfo, content: IO[bytes] | None = None) -> bool:
    """Write one member; False if the content was shorter than `info.size`. What is longer is left out."""
    spool.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
    left = info.size
    while content is not None and left and (piece := content.read(min(left, _MIB))):
        spool.write(piece)
        left -= len(piece)
    spool.write(bytes(-info.size % BLOCK))
    return not left


def _refusal(upload: Upload, reason: str) -> UploadError:
    what = str(upload.source) if isinstance(upload.source, Path) else upload.target
    return UploadError(f"{_shown(what)} cannot be uploaded: {reason}")


def _permissions(mode: int | None, default: int) -> int:
    # The sticky bit stays: a shared directory such as /tmp is none without it.
    return (default if mode is None else mode) & 0o1777


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "socket"
    return "named pipe" if stat.S_ISFIFO(mode) else "device"


class _Skipped(Exception):
    """This member is not written; the message is the reason."""


class _Unpacker:
    """One download: the counters of its limits, its notes, and the directory below which it writes."""

    def __init__(self, stream: Stream, root: int, limits: Limits, strip: int, reserved: Collection[str]) -> None:
        self._stream = stream
        self._root = root
        self._limits = limits
        self._strip = strip
        self._reserved = {tuple(_folded(part) for part in path.split("/")) for path in reserved}
        self._entries = 0
        self._unnoted = 0
        self._done = Extraction()

    def run(self) -> Extraction:
        first: list[str] = []
        try:
            while (member := next_member(self._stream)) is not None:
                self._count_entry()
                end = self._stream.offset + member.size
                self._add(member)
                self._stream.skip(end - self._stream.offset)
                self._stream.skip(-member.size % BLOCK)
            self._drain()
        except Stopped as stop:
            first.append(f"archive: {stop}")
        self._done.skipped[:0] = first
        if self._unnoted:
            self._done.skipped.append(f"... and {self._unnoted:,} more")
        return self._done

    def _drain(self) -> None:
        try:
            self._stream.drain(_PADDING_BYTES)
        except Stopped:
            return  # the limit was reached behind the end mark: nothing is missing

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > self._limits.files:
            raise Stopped(f"reading ended after {self._limits.files:,} entries; later files may be missing")

    def _note(self, name: str, reason: str) -> None:
        if len(self._done.skipped) < _NOTES:
            self._done.skipped.append(f"{_shown(name)}: {reason}")
        else:
            self._unnoted += 1

    def _add(self, member: Member) -> None:
        shown = member.name
        try:
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise _Skipped('".." in its name')
            kept = parts[self._strip :]
            if member.kind == DIRECTORY and not kept:
                return  # the root itself, or a directory that strip removes
            if not kept:
                raise _Skipped(f"no name without its first {self._strip} components" if parts else "no name")
            shown = "/".join(kept)
            _check_name(shown, kept)
            if member.problem is not None:
                raise _Skipped(member.problem)
            if member.kind in LINKS:
                raise _Skipped(f"{LINKS[member.kind]} to {_shown(member.link)}")
            if member.kind in DEVICES:
                raise _Skipped(DEVICES[member.kind])
            if self._is_reserved(kept, member.kind):
                raise _Skipped("reserved for the host's own file")
            names = [part.encode() for part in kept]
            if member.kind == DIRECTORY:
                os.close(self._directory(names))
            elif member.kind in REGULAR:
                self._file(shown, names, member.size)
            else:
                raise _Skipped("neither a file nor a directory")
        except _Skipped as skipped:
            self._note(shown, str(skipped))
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            self._note(shown, os.strerror(error.errno))

    def _is_reserved(self, parts: list[str], kind: bytes) -> bool:
        if not self._reserved:
            return False
        folded = tuple(_folded(part) for part in parts)
        if any(folded[: len(path)] == path for path in self._reserved):
            return True
        # A file in the place of a directory that the host's file needs.
        return kind != DIRECTORY and any(path[: len(folded)] == folded for path in self._reserved)

    def _directory(self, names: list[bytes]) -> int:
        """Open a directory below the root, made where missing, following no link on the way."""
        descriptor = os.dup(self._root)
        for name in names:
            try:
                child = self._child(descriptor, name)
            finally:
                os.close(descriptor)
            descriptor = child
        return descriptor

    def _child(self, parent: int, name: bytes) -> int:
        flags = _DIRECTORY_FLAGS | os.O_NOFOLLOW
        try:
            return os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            self._count_entry()
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise _Skipped(f"{_shown(name.decode())} is already there and not a directory") from None
            raise
        os.mkdir(name, 0o755, dir_fd=parent)
        child = os.open(name, flags, dir_fd=parent)
        os.fchmod(child, 0o755)  # whatever the umask
        return child

    def _file(self, shown: str, names: list[bytes], size: int) -> None:
        kept = min(size, self._limits.file_bytes)
        if self._done.bytes + kept > self._limits.total_bytes:
            raise _Skipped(f"{size_text(kept)} do not fit into {size_text(self._limits.total_bytes)} for all files")
        parent = self._directory(names[:-1])
        try:
            try:
                os.unlink(names[-1], dir_fd=parent)
            except FileNotFoundError:
                pass
            except IsADirectoryError:
                raise _Skipped("a directory of this name is already there") from None
            descriptor = os.open(names[-1], _FILE_FLAGS, 0o644, dir_fd=parent)
        finally:
            os.close(parent)
        self._done.files += 1
        before = self._done.bytes
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)  # whatever the umask
            try:
                for piece in self._stream.pieces(kept):
                    file.write(piece)
                    self._done.bytes += len(piece)
            except Stopped:
                self._note(shown, f"cut after {size_text(self._done.bytes - before)} (of {size_text(size)})")
                raise
        if kept < size:
            self._note(shown, f"cut after {size_text(kept)} (of {size_text(size)})")


def _check_name(name: str, parts: list[str]) -> None:
    if _UNSAFE.search(name):
        raise _Skipped("control characters or bytes that are not UTF-8 in its name")
    if len(name.encode()) > _NAME_BYTES or any(len(part.encode()) > _COMPONENT_BYTES for part in parts):
        raise _Skipped("its name is too long")
    if len(parts) > _DEPTH:
        raise _Skipped(f"more than {_DEPTH} directories deep")


def _folded(part: str) -> str:
    return unicodedata.normalize("NFC", part.casefold())


def _shown(text: str) -> str:
    """Make hostile text fit for a line of a report: escaped, so that no terminal obeys it, and shortened."""
    if len(text) > _SHOWN_CHARACTERS:
        text = text[: _SHOWN_CHARACTERS - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""Unpack tar streams that an untrusted agent may have written; see `stream` for how they are read."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_harbor._util.sizes import size_text
from pytest_harbor._util.text import escaped, plural
from pytest_harbor.environment.tar.stream import (
    BLOCK,
    DEVICES,
    DIRECTORY,
    LINKS,
    REGULAR,
    TarMember,
    TarStream,
    UnreadableArchive,
    next_member,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

_MIB = 2**20
_GIB = 2**30
_MAX_NOTES = 1000
# Characters of a name in a note: enough to recognize the file, and a thousand of them still fit in a report.
_SHOWN_CHARACTERS = 300
# tar pads an archive to 10 KiB after the end mark; reading the padding lets the connection be reused.
_PADDING_BYTES = _MIB
# Linux's limit for a component. The limit for a whole name leaves room for the destination below PATH_MAX (4,096);
# the depth is one that shutil.rmtree, which is recursive before Python 3.13, can remove.
_COMPONENT_BYTES = 255
_NAME_BYTES = 2048
_DEPTH = 100

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Errors that a member's name can cause. Others (disk full, permission denied) are the host's and reach the caller.
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


@dataclass(frozen=True)
class Limits:
    """Limits for one download, whatever the archive contains.

    Attributes:
        file_bytes: bytes per file; a longer file is cut, keeping its head.
        total_bytes: bytes of all files; a file that no longer fits is skipped, but a later, smaller one may fit.
        files: entries: every member, written or not, and every directory created for one. Reading ends there.
        stream_bytes: bytes of the archive itself, including what is skipped, because a sparse file of
            terabytes costs an agent nothing. Reading ends there.
    """

    file_bytes: int = 64 * _MIB
    total_bytes: int = 512 * _MIB
    files: int = 20_000
    stream_bytes: int = 8 * _GIB


_DEFAULT_LIMITS = Limits()


@dataclass
class Extraction:
    """The outcome of unpacking an archive.

    Attributes:
        files: number of regular files written.
        bytes: number of bytes written to them.
        skipped: one note per member that was skipped or cut, such as "agent/x: symbolic link to /etc/passwd" or
            "big.log: cut after 64 MiB (of 5 GiB)"; at most 1,000, then "... and N more". A note that begins
            with "archive: " comes first and says that reading ended early, so later files may be missing.
    """

    files: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)


def unpack(
    chunks: Iterable[bytes],
    destination: Path,
    limits: Limits = _DEFAULT_LIMITS,
    *,
    strip: int = 0,
    reserved: Collection[str] = (),
) -> Extraction:
    """Unpack an untrusted tar stream below a directory.

    Only regular files (mode 0o644) and directories (0o755) are created; links, devices, pipes and sparse files are
    skipped. Absolute names become relative. A name is skipped if it contains "..", control characters, bytes that
    are not UTF-8 or a component of more than 255 bytes. A member replaces an existing file or link of the same name;
    existing directories are kept, and no link is followed. Memory use is bounded for any input.

    Args:
        chunks: the uncompressed archive; its `close()`, if it has one, is called at the end.
        destination: where to write; created if missing.
        limits: how much to write and read.
        strip: number of leading components to remove from each name. The engine's archive of /logs holds "logs/…".
        reserved: paths below the destination, after `strip`, that the host itself writes: members with such
            a name, or below it, are skipped. Case is ignored, as some file systems do.

    Returns:
        What was written, with notes on what was not. A broken or truncated archive is a note, not an error.

    Raises:
        OSError: the host cannot write (disk full, no permission for the destination).
        Exception: whatever reading from `chunks` raises, such as a lost connection.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
        root = os.open(destination, _DIRECTORY_FLAGS)
        try:
            return _Unpacker(TarStream(chunks, limits.stream_bytes), root, limits, strip, reserved).run()
        finally:
            os.close(root)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


class _Skipped(Exception):
    """A member is not written; the message is the reason."""


class _Unpacker:
    """One download: its limits, counters and notes, and the directory to write to."""

    def __init__(self, stream: TarStream, root: int, limits: Limits, strip: int, reserved: Collection[str]) -> None:
        self._stream = stream
        self._root = root
        self._limits = limits
        self._strip = strip
        self._reserved = {tuple(_folded(part) for part in path.split("/")) for path in reserved}
        self._entries = 0
        self._omitted_notes = 0
        self._result = Extraction()

    def run(self) -> Extraction:
        early_end: list[str] = []
        try:
            while (member := next_member(self._stream)) is not None:
                self._count_entry()
                end = self._stream.offset + member.size
                self._add(member)
                self._stream.skip(end - self._stream.offset)
                self._stream.skip(-member.size % BLOCK)
            self._drain()
        except UnreadableArchive as error:
            early_end.append(f"archive: {error}")
        self._result.skipped[:0] = early_end
        if self._omitted_notes:
            self._result.skipped.append(f"... and {self._omitted_notes:,} more")
        return self._result

    def _drain(self) -> None:
        try:
            self._stream.drain(_PADDING_BYTES)
        except UnreadableArchive:
            return  # the limit was reached after the end mark: nothing is missing

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > self._limits.files:
            raise UnreadableArchive(f"reading ended after {self._limits.files:,} entries; later files may be missing")

    def _note(self, name: str, reason: str) -> None:
        if len(self._result.skipped) < _MAX_NOTES:
            self._result.skipped.append(f"{_shown(name)}: {reason}")
        else:
            self._omitted_notes += 1

    def _add(self, member: TarMember) -> None:
        shown = member.name
        try:
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise _Skipped('".." in its name')
            kept = parts[self._strip :]
            if member.kind == DIRECTORY and not kept:
                return  # the root itself, or a directory that strip removes
            if not kept:
                raise _Skipped(f"no name after stripping {plural(self._strip, 'component')}" if parts else "no name")
            shown = "/".join(kept)
            _check_name(shown, kept)
            self._check_kind(member, kept)
            names = [part.encode() for part in kept]
            if member.kind == DIRECTORY:
                os.close(self._open_directory(names))
            else:
                self._write_file(shown, names, member.size)
        except _Skipped as skipped:
            self._note(shown, str(skipped))
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            self._note(shown, os.strerror(error.errno))

    def _check_kind(self, member: TarMember, parts: list[str]) -> None:
        if member.problem is not None:
            raise _Skipped(member.problem)
        if member.kind in LINKS:
            raise _Skipped(f"{LINKS[member.kind]} to {_shown(member.link)}")
        if member.kind in DEVICES:
            raise _Skipped(DEVICES[member.kind])
        if self._is_reserved(parts, member.kind):
            raise _Skipped("reserved for the host's own file")
        if member.kind != DIRECTORY and member.kind not in REGULAR:
            raise _Skipped("neither a file nor a directory")

    def _is_reserved(self, parts: list[str], kind: bytes) -> bool:
        if not self._reserved:
            return False
        folded = tuple(_folded(part) for part in parts)
        if any(folded[: len(path)] == path for path in self._reserved):
            return True
        # A file must not take the place of a directory above a reserved path.
        return kind != DIRECTORY and any(path[: len(folded)] == folded for path in self._reserved)

    def _open_directory(self, names: list[bytes]) -> int:
        """Open a directory below the root, creating what is missing and following no link."""
        descriptor = os.dup(self._root)
        for name in names:
            try:
                child = self._open_child(descriptor, name)
            finally:
                os.close(descriptor)
            descriptor = child
        return descriptor

    def _open_child(self, parent: int, name: bytes) -> int:
        flags = _DIRECTORY_FLAGS | os.O_NOFOLLOW
        try:
            return os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            self._count_entry()
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise _Skipped(f"{_shown(name.decode())} already exists and is not a directory") from None
            raise
        os.mkdir(name, 0o755, dir_fd=parent)
        child = os.open(name, flags, dir_fd=parent)
        os.fchmod(child, 0o755)  # whatever the umask
        return child

    def _write_file(self, shown: str, names: list[bytes], size: int) -> None:
        kept = min(size, self._limits.file_bytes)
        if self._result.bytes + kept > self._limits.total_bytes:
            raise _Skipped(f"{size_text(kept)} do not fit in {size_text(self._limits.total_bytes)} for all files")
        parent = self._open_directory(names[:-1])
        try:
            try:
                os.unlink(names[-1], dir_fd=parent)
            except FileNotFoundError:
                pass
            except IsADirectoryError:
                raise _Skipped("a directory with this name already exists") from None
            descriptor = os.open(names[-1], _FILE_FLAGS, 0o644, dir_fd=parent)
        finally:
            os.close(parent)
        self._result.files += 1
        before = self._result.bytes
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)  # whatever the umask
            try:
                for piece in self._stream.pieces(kept):
                    file.write(piece)
                    self._result.bytes += len(piece)
            except UnreadableArchive:
                self._note(shown, f"cut after {size_text(self._result.bytes - before)} (of {size_text(size)})")
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
    """Return untrusted text shortened, and escaped so that no terminal obeys it."""
    return escaped(text, _SHOWN_CHARACTERS)

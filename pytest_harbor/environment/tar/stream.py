"""A reader for untrusted tar streams, in bounded memory and without recursion.

`tarfile` keeps every member and extended headers of any size in memory, recurses once per extended header, and
refuses different things in Python 3.10 and 3.13. This reader understands what engines write (ustar, PAX, GNU long
names) and classifies everything else, so that `unpack` can skip it with a note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_harbor._util.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 512
# Extended attributes of a file reach 64 KiB on Linux, names 4 KiB: no honest header is larger than this.
_EXTENDED_HEADER_BYTES = 2**20
# A member needs at most a global header, a PAX header, a long name and a long link.
_EXTENDED_HEADERS = 16
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_OCTAL = re.compile(rb"[0-7]*")
_RECORD_LENGTH = re.compile(rb"([0-9]{1,7}) ")
# Members of these kinds have no data, whatever their size field says (as in Go's archive/tar, which engines use).
LINKS = {b"1": "hard link", b"2": "symbolic link"}
DEVICES = {b"3": "character device", b"4": "block device", b"6": "named pipe"}
DIRECTORY = b"5"
REGULAR = frozenset((b"0", b"\0", b"7"))


class UnreadableArchive(Exception):
    """The rest of the archive cannot or must not be read; the message says why."""


class TarStream:
    """The bytes of an archive in order, however they are split into chunks."""

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self.offset = 0
        self._chunks = iter(chunks)
        self._limit = limit
        self._rest = memoryview(b"")

    def take(self, size: int) -> memoryview:
        """Return 1 to `size` bytes, or none at the end of the stream.

        Raises:
            UnreadableArchive: the limit is reached.

        """
        if self.offset >= self._limit:
            raise UnreadableArchive(f"reading ended after {size_text(self._limit)}; later files may be missing")
        while not len(self._rest):
            chunk = next(self._chunks, None)
            if chunk is None:
                return self._rest
            self._rest = memoryview(chunk)
        part = self._rest[: min(size, self._limit - self.offset)]
        self._rest = self._rest[len(part) :]
        self.offset += len(part)
        return part

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield exactly `size` bytes in pieces.

        Raises:
            UnreadableArchive: there are fewer.

        """
        while size > 0:
            part = self.take(size)
            if not len(part):
                raise UnreadableArchive(f"truncated at byte {self.offset:,}; later files may be missing")
            size -= len(part)
            yield part

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes; raise as pieces() does."""
        content = bytearray()
        for piece in self.pieces(size):
            content += piece
        return bytes(content)

    def skip(self, size: int) -> None:
        """Discard exactly `size` bytes; raise as pieces() does."""
        for _ in self.pieces(size):
            pass

    def header(self) -> bytes:
        """Return the next block.

        Raises:
            UnreadableArchive: the stream ends before the block, which means that the end mark is missing, or within it.

        """
        first = bytes(self.take(BLOCK))
        if not first:
            raise UnreadableArchive("it has no end mark, so it may be truncated; later files may be missing")
        return first + self.read(BLOCK - len(first))

    def drain(self, size: int) -> None:
        """Discard at most `size` bytes."""
        while size > 0 and (part := self.take(size)):
            size -= len(part)


@dataclass
class TarMember:
    """One entry of an archive. Its data, `size` bytes padded to a whole block, come next in the stream.

    Attributes:
        name: the name in the archive, unchecked; bytes that are not UTF-8 are lone surrogates.
        kind: the type flag: `DIRECTORY`, one of `REGULAR`, `LINKS` or `DEVICES`, or anything else.
        size: bytes of data.
        link: the target of a link, as unchecked as the name.
        problem: why the data is not the content of the file, or None.
    """

    name: str
    kind: bytes
    size: int
    link: str
    problem: str | None


@dataclass
class _ExtendedHeaders:
    """What the extended headers before a member say about it."""

    path: str | None = None
    link: str | None = None
    size: int | None = None
    problem: str | None = None

    def read_pax(self, payload: bytes) -> None:
        """Read the records "LENGTH KEY=VALUE\\n" of a PAX header; the last of equal keys counts."""
        position = 0
        while position < len(payload):
            match = _RECORD_LENGTH.match(payload, position)
            end = position + int(match[1]) if match else 0
            if match is None or not match.end() < end <= len(payload) or payload[end - 1 : end] != b"\n":
                self.problem = "its extended header is broken"
                return
            key, equals, value = payload[match.end() : end - 1].partition(b"=")
            position = end
            if not equals:
                self.problem = "its extended header is broken"
            elif key == b"path":
                self.path = _text(value)
            elif key == b"linkpath":
                self.link = _text(value)
            elif key == b"size":
                if _DECIMAL.fullmatch(value):
                    self.size = int(value)
                else:
                    self.problem = "its extended header is broken"
            elif key.startswith(b"GNU.sparse."):
                self.problem = "sparse file"
                if key == b"GNU.sparse.name":
                    self.path = _text(value)


def next_member(stream: TarStream) -> TarMember | None:
    """Read all headers up to the next member's data; return None at the end mark.

    Raises:
        UnreadableArchive: the archive is truncated or corrupt, or has too many extended headers.

    """
    extended = _ExtendedHeaders()
    for _ in range(_EXTENDED_HEADERS + 1):
        start = stream.offset
        block = stream.header()
        if not any(block):
            return None
        if _number(block[148:156]) != 256 + sum(block[:148]) + sum(block[156:]):
            raise UnreadableArchive(f"corrupt at byte {start:,}: not a tar header; later files may be missing")
        size = _number(block[124:136])
        if size is None:
            raise UnreadableArchive(f"corrupt at byte {start:,}: a size is not a number; later files may be missing")
        kind = block[156:157]
        if kind in (b"x", b"g", b"L", b"K"):
            _read_extended(extended, kind, size, stream)
        else:
            return _member(block, kind, size, extended, stream)
    raise UnreadableArchive(f"more than {_EXTENDED_HEADERS} extended headers in a row; later files may be missing")


def _read_extended(extended: _ExtendedHeaders, kind: bytes, size: int, stream: TarStream) -> None:
    if kind == b"g":
        # A path or size for all further members makes no sense, and nothing else in a global header matters here.
        stream.skip(size)
    elif size > _EXTENDED_HEADER_BYTES:
        stream.skip(size)
        extended.problem = f"its extended header of {size_text(size)} is too large"
    elif kind == b"x":
        extended.read_pax(stream.read(size))
    else:
        text = _text(stream.read(size).partition(b"\0")[0])
        if kind == b"L":
            extended.path = text
        else:
            extended.link = text
    stream.skip(-size % BLOCK)


def _member(block: bytes, kind: bytes, size: int, extended: _ExtendedHeaders, stream: TarStream) -> TarMember:
    name = _text(block[:100].partition(b"\0")[0])
    if block[257:263] == b"ustar\0" and block[345]:
        name = _text(block[345:500].partition(b"\0")[0]) + "/" + name
    link = _text(block[157:257].partition(b"\0")[0])
    problem = extended.problem
    if kind == b"S":
        problem = "sparse file"
        more = block[482]
        while more:
            more = stream.header()[504]
    if extended.path is not None:
        name = extended.path
    if kind == b"\0" and name.endswith("/"):
        kind = DIRECTORY  # how tar stored a directory before ustar
    if kind == DIRECTORY or kind in LINKS or kind in DEVICES:
        size = 0
    elif extended.size is not None:
        size = extended.size
    return TarMember(name, kind, size, link if extended.link is None else extended.link, problem)


def _number(data: bytes) -> int | None:
    """Decode a number in a header: octal text or, with the top bit set, base 256 (GNU); return None if neither."""
    if data[0] & 0x80:
        value = int.from_bytes(data, "big") - (0x80 << 8 * (len(data) - 1))
        # The next bit is the sign; an honest size has 63 bits.
        return None if data[0] & 0x40 or value >= 2**63 else value
    digits = data.partition(b"\0")[0].strip(b" ")
    return int(digits or b"0", 8) if _OCTAL.fullmatch(digits) else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

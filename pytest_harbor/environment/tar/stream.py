"""A reader of tar streams of untrusted content, in bounded memory and without recursion.

`tarfile` keeps every member and any size of extended header in memory, recurses once for each extended
header, and differs in what it refuses between Python 3.10 and 3.13. This reader knows what engines write
(ustar, PAX, GNU long names) and names the rest, so that `archive.unpack` can skip it with a note.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_harbor._util.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 512
# Extended attributes of one file reach 64 KiB on Linux, names 4 KiB: more than this is no honest header.
_EXTENSION_BYTES = 2**20
# One member needs at most a global header, a PAX header, a long name and a long link.
_EXTENSIONS = 16
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_OCTAL = re.compile(rb"[0-7]*")
_RECORD_LENGTH = re.compile(rb"([0-9]{1,7}) ")
# Members of these kinds have no data, whatever their size says (as in Go's archive/tar, which engines use).
LINKS = {b"1": "hard link", b"2": "symbolic link"}
DEVICES = {b"3": "character device", b"4": "block device", b"6": "named pipe"}
DIRECTORY = b"5"
REGULAR = frozenset((b"0", b"\0", b"7"))


class Stopped(Exception):
    """Nothing further of the archive can or may be read; the message says why."""


class Stream:
    """The archive's bytes in order, however they are cut into chunks."""

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self.offset = 0
        self._chunks = iter(chunks)
        self._limit = limit
        self._rest = memoryview(b"")

    def take(self, size: int) -> memoryview:
        """Return 1 to `size` bytes, none only at the end of the stream; `Stopped` at the limit."""
        if self.offset >= self._limit:
            raise Stopped(f"reading ended after {size_text(self._limit)}; later files may be missing")
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
        """Yield exactly `size` bytes in pieces; `Stopped` if there are fewer."""
        while size > 0:
            part = self.take(size)
            if not len(part):
                raise Stopped(f"truncated at byte {self.offset:,}; later files may be missing")
            size -= len(part)
            yield part

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes; `Stopped` if there are fewer."""
        content = bytearray()
        for piece in self.pieces(size):
            content += piece
        return bytes(content)

    def skip(self, size: int) -> None:
        """Read `size` bytes and forget them; `Stopped` if there are fewer."""
        for _ in self.pieces(size):
            pass

    def header(self) -> bytes:
        """Return the next block; `Stopped` with a reason of its own if the stream ends before it."""
        first = bytes(self.take(BLOCK))
        if not first:
            raise Stopped("it has no end mark, so it may be truncated; later files may be missing")
        return first + self.read(BLOCK - len(first))

    def drain(self, size: int) -> None:
        """Read at most `size` bytes and forget them."""
        while size > 0 and (part := self.take(size)):
            size -= len(part)


@dataclass
class Member:
    """One entry of the archive. Its data, `size` bytes and padding to a whole block, come next in the stream.

    Attributes:
        name: as the archive has it, unchecked; bytes that are not UTF-8 are lone surrogates.
        kind: the type flag: `DIRECTORY`, in `REGULAR`, `LINKS` or `DEVICES`, or anything else.
        size: bytes of data.
        link: where a link leads, unchecked like the name.
        problem: why the data is not the content of the file, or None.
    """

    name: str
    kind: bytes
    size: int
    link: str
    problem: str | None


@dataclass
class _Extension:
    """What the extended headers before a member say of it."""

    path: str | None = None
    link: str | None = None
    size: int | None = None
    problem: str | None = None

    def pax(self, payload: bytes) -> None:
        """Take in the records "LENGTH KEY=VALUE\\n" of a PAX header; the last of equal keys counts."""
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


def next_member(stream: Stream) -> Member | None:
    """Read headers up to the next member's data; None at the end mark."""
    extension = _Extension()
    for _ in range(_EXTENSIONS + 1):
        start = stream.offset
        block = stream.header()
        if not any(block):
            return None
        if _number(block[148:156]) != 256 + sum(block[:148]) + sum(block[156:]):
            raise Stopped(f"corrupt at byte {start:,}: no tar header; later files may be missing")
        size = _number(block[124:136])
        if size is None:
            raise Stopped(f"corrupt at byte {start:,}: a size is no number; later files may be missing")
        kind = block[156:157]
        if kind in (b"x", b"g", b"L", b"K"):
            _extend(extension, kind, size, stream)
        else:
            return _member(block, kind, size, extension, stream)
    raise Stopped(f"more than {_EXTENSIONS} extended headers in a row; later files may be missing")


def _extend(extension: _Extension, kind: bytes, size: int, stream: Stream) -> None:
    if kind == b"g":
        # A path or size for all further members makes no sense, and the rest is of no use here.
        stream.skip(size)
    elif size > _EXTENSION_BYTES:
        stream.skip(size)
        extension.problem = f"its extended header of {size_text(size)} is too large"
    elif kind == b"x":
        extension.pax(stream.read(size))
    else:
        text = _text(stream.read(size).partition(b"\0")[0])
        if kind == b"L":
            extension.path = text
        else:
            extension.link = text
    stream.skip(-size % BLOCK)


def _member(block: bytes, kind: bytes, size: int, extension: _Extension, stream: Stream) -> Member:
    name = _text(block[:100].partition(b"\0")[0])
    if block[257:263] == b"ustar\0" and block[345]:
        name = _text(block[345:500].partition(b"\0")[0]) + "/" + name
    link = _text(block[157:257].partition(b"\0")[0])
    problem = extension.problem
    if kind == b"S":
        problem = "sparse file"
        more = block[482]
        while more:
            more = stream.header()[504]
    if extension.path is not None:
        name = extension.path
    if kind == b"\0" and name.endswith("/"):
        kind = DIRECTORY  # how tar wrote a directory before ustar
    if kind == DIRECTORY or kind in LINKS or kind in DEVICES:
        size = 0
    elif extension.size is not None:
        size = extension.size
    return Member(name, kind, size, link if extension.link is None else extension.link, problem)


def _number(data: bytes) -> int | None:
    """Decode a number of a header: octal text or, with the top bit set, base 256 (GNU); None if neither."""
    if data[0] & 0x80:
        value = int.from_bytes(data, "big") - (0x80 << 8 * (len(data) - 1))
        # The next bit is the sign; an honest size has 63 bits.
        return None if data[0] & 0x40 or value >= 2**63 else value
    digits = data.partition(b"\0")[0].strip(b" ")
    return int(digits or b"0", 8) if _OCTAL.fullmatch(digits) else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

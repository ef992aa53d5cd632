"""What the answer of a model says of its tokens, read while it passes."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

from pytest_harbor.proxy.endpoints import Kind
from pytest_harbor.proxy.prices import Tokens

# More tokens than any call has: a server that says so is wrong.
MOST = 1_000_000_000
# Bytes of text that a token stands for, roughly, where a server tells no number.
BYTES_PER_TOKEN = 4

READABLE = ("gzip", "deflate", "identity")
"""The codings of answers that can be read here."""

_NO_USAGE = re.compile(rb'"usage"\s*:\s*null')

_TOLD = {
    "input": ("prompt_tokens", "input_tokens"),
    "output": ("completion_tokens", "output_tokens"),
    "read": ("cache_read_input_tokens",),
    "written": ("cache_creation_input_tokens",),
    "total": ("total_tokens",),
}


class TooLarge(ConnectionError):
    """An answer has no end, or unpacks to one that is none."""


class Decoder:
    """Undoes the content coding of an answer, piece by piece.

    Args:
        coding: the header Content-Encoding.
        limit: how many bytes it may come to.

    Attributes:
        coded: whether the header names a coding that can be undone.

    """

    def __init__(self, coding: str, limit: int) -> None:
        self.coded = coding.strip().lower() in ("gzip", "deflate")
        self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 32) if self.coded else None
        self._limit = limit
        self._left = limit
        self._began = False

    @property
    def changes(self) -> bool:
        """Whether the text is another than the bytes that come."""
        return self._unzip is not None

    def feed(self, data: bytes) -> bytes:
        """Return what a piece stands for; nothing where it cannot be read.

        Raises:
            TooLarge: it comes to more than the limit.

        """
        text = self._unpack(data)
        self._left -= max(len(text), len(data))
        if self._left < 0:
            raise TooLarge(f"an answer of more than {self._limit >> 20} MiB")
        return text

    def _unpack(self, data: bytes) -> bytes:
        if self._unzip is None:
            return data
        try:
            text = self._unzip.decompress(data, self._left + 1)
        except zlib.error:
            if self._began:
                return b""
            # The header lies.
            self._unzip = None
            return data
        self._began = True
        return text


class Meter:
    """Reads the tokens of one call.

    Args:
        kind: what the call asks for.
        streamed: whether its answer is a stream of server-sent events.

    Attributes:
        model: the model as the answer names it; empty while it has not.

    """

    def __init__(self, kind: Kind, *, streamed: bool) -> None:
        self._kind = kind
        self._streamed = streamed
        self._told: dict[str, int] = {}
        self._cached = 0
        self._reasoning = 0
        self._rest: list[bytes] = []
        self._unread: list[bytes] = []
        self._text = 0
        self.model = ""

    @property
    def tokens(self) -> Tokens | None:
        """What the answer has told so far; None for nothing."""
        if not {"input", "output"} & set(self._told):
            return None
        read, written = self._told.get("read", 0), self._told.get("written", 0)
        prompt, output = self._told.get("input", 0), self._told.get("output", 0)
        if self._told.get("total") == prompt + output + self._reasoning:
            # Some servers count reasoning apart.
            output += self._reasoning
        # What Anthropic calls input is what no cache had a part in.
        return Tokens(prompt + read + written, self._cached or read, written, output, self._reasoning)

    def estimate(self, prompt: int) -> Tokens:
        """Return a guess at the tokens of an answer that does not tell them.

        Args:
            prompt: bytes of the request.

        """
        return Tokens(input=prompt // BYTES_PER_TOKEN, output=self._text // BYTES_PER_TOKEN)

    def feed(self, data: bytes) -> None:
        """Take a piece of the answer, decoded."""
        self._rest.append(data)
        if self._streamed and b"\n" in data:
            *lines, rest = b"".join(self._rest).split(b"\n")
            self._rest = [rest]
            for line in lines:
                self._line(line)

    def _line(self, line: bytes) -> None:
        """Read a line of a stream where it tells something; most are only kept, as reading takes its time."""
        if not line.startswith(b"data:"):
            return
        if not self.model or (b'"usage"' in line and not _NO_USAGE.search(line)):
            self._object(line[5:])
        else:
            self._unread.append(line[5:])

    def end(self, *, whole: bool) -> None:
        """Take note that this was all.

        Args:
            whole: whether it has come to its end, where the last of its tokens are told.

        """
        rest, self._rest = b"".join(self._rest), []
        if not self._streamed:
            self._object(rest)
        else:
            self._line(rest)
        if self.tokens is None or not whole:
            for text in self._unread:
                self._object(text)
        self._unread = []
        if not whole and self.tokens is not None:
            # Some tell of the prompt at once, and of the answer last.
            self._told["output"] = max(self._told.get("output", 0), self._text // BYTES_PER_TOKEN)

    def _object(self, text: bytes) -> None:
        try:
            found = json.loads(text)
            length = _text_length(found) if isinstance(found, dict) else 0
        except (ValueError, RecursionError):
            return
        for entry in _parts(found):
            model = entry.get("model")
            if isinstance(model, str) and model:
                self.model = model
            self._usage(entry.get("usage"))
        self._text += length

    def _usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        for name, keys in _TOLD.items():
            for key in keys:
                if _is_count(usage.get(key)):
                    self._told[name] = usage[key]
        for key in ("prompt_tokens_details", "input_tokens_details"):
            self._cached = _count(usage.get(key), "cached_tokens") or self._cached
        for key in ("completion_tokens_details", "output_tokens_details"):
            self._reasoning = _count(usage.get(key), "reasoning_tokens") or self._reasoning


def _parts(found: Any) -> Iterator[dict[str, Any]]:
    """Yield where models and usage stand: an answer itself, and what an event has of one."""
    if isinstance(found, dict):
        yield found
        for key in ("message", "response"):
            if isinstance(found.get(key), dict):
                yield found[key]


def _text_length(event: dict[str, Any]) -> int:
    """Return the bytes of text that an answer or a piece of one brings; whole texts that end a stream are left out."""
    kind = event.get("type")
    if isinstance(kind, str) and "." in kind:
        return _length(event.get("delta")) if kind.endswith(".delta") else 0
    return sum(_length(event.get(key)) for key in ("choices", "delta", "content", "output", "content_block"))


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, list):
        return sum(_length(entry) for entry in value)
    if isinstance(value, dict):
        names = ("delta", "message", "text", "content", "thinking", "reasoning_content", "tool_calls", "function")
        said = (*names, "arguments", "partial_json", "input", "summary")
        return sum(_length(entry) for key, entry in value.items() if key in said)
    return 0


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST


def _count(details: Any, key: str) -> int:
    value = details.get(key) if isinstance(details, dict) else None
    return value if _is_count(value) else 0  # type: ignore[return-value]

"""A token meter that reads the usage from a response as it passes, and the decoder for compressed responses."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

from pytest_harbor.proxy.prices import Tokens

# A server that reports more tokens than this for one call is wrong.
MAX_TOKENS = 1_000_000_000
# A rough estimate for servers that do not report tokens.
BYTES_PER_TOKEN = 4

SUPPORTED_ENCODINGS = ("gzip", "deflate", "identity")
"""The content encodings that the proxy can decode."""

_NO_USAGE = re.compile(rb'"usage"\s*:\s*null')

_USAGE_KEYS = {
    "input": ("prompt_tokens", "input_tokens"),
    "output": ("completion_tokens", "output_tokens"),
    "read": ("cache_read_input_tokens",),
    "written": ("cache_creation_input_tokens",),
    "total": ("total_tokens",),
}
# The keys below which responses and events have generated text.
_TEXT_KEYS = frozenset(
    {
        "arguments",
        "content",
        "delta",
        "function",
        "input",
        "message",
        "partial_json",
        "reasoning_content",
        "summary",
        "text",
        "thinking",
        "tool_calls",
    }
)


class ResponseTooLarge(ConnectionError):
    """A response exceeds the size limit, as it came or decompressed."""


class Decoder:
    """Decompresses a response, chunk by chunk.

    Args:
        encoding: the Content-Encoding header.
        limit: the maximum size of the response in bytes, compressed and decompressed.

    Attributes:
        is_encoded: whether the header names an encoding that the decoder can undo.

    """

    def __init__(self, encoding: str, limit: int) -> None:
        self.is_encoded = encoding.strip().lower() in ("gzip", "deflate")
        self._decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32) if self.is_encoded else None
        self._limit = limit
        self._left = limit
        self._started = False

    @property
    def is_decompressing(self) -> bool:
        """Whether the decoded bytes differ from those that arrive."""
        return self._decompressor is not None

    def feed(self, data: bytes) -> bytes:
        """Return a chunk decoded; empty if it is damaged.

        Raises:
            ResponseTooLarge: the response exceeds the limit.

        """
        text = self._decode(data)
        self._left -= max(len(text), len(data))
        if self._left < 0:
            raise ResponseTooLarge(f"the response is larger than {self._limit >> 20} MiB")
        return text

    def _decode(self, data: bytes) -> bytes:
        if self._decompressor is None:
            return data
        try:
            text = self._decompressor.decompress(data, self._left + 1)
        except zlib.error:
            if self._started:
                return b""
            # The header is wrong: the body is not compressed.
            self._decompressor = None
            return data
        self._started = True
        return text


class Meter:
    """Reads the token usage of one call from its response.

    Args:
        streamed: whether the response is a stream of server-sent events.

    Attributes:
        model: the model named in the response; empty until one is.

    """

    def __init__(self, *, streamed: bool) -> None:
        self._streamed = streamed
        self._reported: dict[str, int] = {}
        self._cached = 0
        self._reasoning = 0
        self._buffer: list[bytes] = []
        self._unparsed: list[bytes] = []
        self._text_bytes = 0
        self.model = ""

    @property
    def tokens(self) -> Tokens | None:
        """The tokens that the response has reported so far; None if it has reported none."""
        if not {"input", "output"} & set(self._reported):
            return None
        read, written = self._reported.get("read", 0), self._reported.get("written", 0)
        prompt, output = self._reported.get("input", 0), self._reported.get("output", 0)
        if self._reported.get("total") == prompt + output + self._reasoning:
            # Some servers do not include reasoning in the output tokens.
            output += self._reasoning
        # Anthropic's input tokens exclude those read from or written to a cache.
        return Tokens(prompt + read + written, self._cached or read, written, output, self._reasoning)

    def estimate(self, prompt: int) -> Tokens:
        """Return an estimate for a response that does not report its tokens.

        Args:
            prompt: the size of the request in bytes.

        """
        return Tokens(input=prompt // BYTES_PER_TOKEN, output=self._text_bytes // BYTES_PER_TOKEN)

    def feed(self, data: bytes) -> None:
        """Read a decoded chunk of the response."""
        self._buffer.append(data)
        if self._streamed and b"\n" in data:
            *lines, rest = b"".join(self._buffer).split(b"\n")
            self._buffer = [rest]
            for line in lines:
                self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        """Parse a line of a stream if it may name the model or the usage; parsing every line would be slow."""
        if not line.startswith(b"data:"):
            return
        if not self.model or (b'"usage"' in line and not _NO_USAGE.search(line)):
            self._read_json(line[5:])
        else:
            self._unparsed.append(line[5:])

    def finish(self, *, complete: bool) -> None:
        """Read what is left at the end of the response.

        Args:
            complete: whether the whole response arrived; the end is where the final usage is reported.

        """
        rest, self._buffer = b"".join(self._buffer), []
        if not self._streamed:
            self._read_json(rest)
        else:
            self._read_line(rest)
        if self.tokens is None or not complete:
            for text in self._unparsed:
                self._read_json(text)
        self._unparsed = []
        if not complete and self.tokens is not None:
            # Some servers report input tokens at the start and output tokens only at the end.
            self._reported["output"] = max(self._reported.get("output", 0), self._text_bytes // BYTES_PER_TOKEN)

    def _read_json(self, text: bytes) -> None:
        try:
            value = json.loads(text)
            length = _generated_bytes(value) if isinstance(value, dict) else 0
        except (ValueError, RecursionError):
            return
        for entry in _usage_holders(value):
            model = entry.get("model")
            if isinstance(model, str) and model:
                self.model = model
            self._read_usage(entry.get("usage"))
        self._text_bytes += length

    def _read_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        for name, keys in _USAGE_KEYS.items():
            for key in keys:
                if _is_count(usage.get(key)):
                    self._reported[name] = usage[key]
        for key in ("prompt_tokens_details", "input_tokens_details"):
            self._cached = _count(usage.get(key), "cached_tokens") or self._cached
        for key in ("completion_tokens_details", "output_tokens_details"):
            self._reasoning = _count(usage.get(key), "reasoning_tokens") or self._reasoning


def _usage_holders(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects that may name the model and the usage: a response, and the response inside an event."""
    if isinstance(value, dict):
        yield value
        for key in ("message", "response"):
            if isinstance(value.get(key), dict):
                yield value[key]


def _generated_bytes(event: dict[str, Any]) -> int:
    """Return the bytes of generated text in a response or event, without events that repeat the text at the end."""
    kind = event.get("type")
    if isinstance(kind, str) and "." in kind:
        return _text_length(event.get("delta")) if kind.endswith(".delta") else 0
    return sum(_text_length(event.get(key)) for key in ("choices", "delta", "content", "output", "content_block"))


def _text_length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, list):
        return sum(_text_length(entry) for entry in value)
    if isinstance(value, dict):
        return sum(_text_length(entry) for key, entry in value.items() if key in _TEXT_KEYS)
    return 0


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_TOKENS


def _count(details: Any, key: str) -> int:
    value = details.get(key) if isinstance(details, dict) else None
    return value if _is_count(value) else 0  # type: ignore[return-value]

"""Header forwarding in both directions, and the removal of real keys from responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from multidict import CIMultiDict

from pytest_harbor.proxy.endpoints import CREDENTIAL_HEADERS, Vendor
from pytest_harbor.proxy.meter import SUPPORTED_ENCODINGS
from pytest_harbor.proxy.settings import Upstream

# These describe a connection, not a call.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
KEY_PLACEHOLDER = "<key>"
# A shorter key ("EMPTY", "not-needed") may be an ordinary word that a model says.
_MIN_UNIQUE_KEY = 16

RawHeaders = Iterable[tuple[bytes, bytes]]


def request_headers(raw: RawHeaders, vendor: Vendor, key: str) -> CIMultiDict[str]:
    """Return an agent's headers as they go upstream, with the real key in place of the agent's credentials."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in _decode(raw):
        if name.lower() in CREDENTIAL_HEADERS:
            continue
        if name.lower() == "accept-encoding":
            # A response that the proxy cannot decode cannot be metered.
            encodings = [part.strip() for part in value.split(",")]
            value = ", ".join(
                part for part in encodings if part.partition(";")[0].strip().lower() in SUPPORTED_ENCODINGS
            )
            value = value or "identity"
        headers.add(name, value)
    if key:
        headers["x-api-key" if vendor == "anthropic" else "Authorization"] = (
            key if vendor == "anthropic" else f"Bearer {key}"
        )
    return headers


def response_headers(raw: RawHeaders, redactor: KeyRedactor) -> CIMultiDict[str]:
    """Return a server's headers as they go to the agent."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in _decode(raw):
        headers.add(name, redactor.redact_text(value))
    return headers


def _decode(raw: RawHeaders) -> Iterable[tuple[str, str]]:
    for name, value in raw:
        text = name.decode("latin-1")
        if text.lower() not in _HOP_BY_HOP:
            yield text, value.decode("utf-8", "surrogateescape")


class KeyRedactor:
    """Removes real keys from one response before the agent sees it, as servers may quote them.

    Args:
        upstreams: the servers whose keys to remove.
        is_error: whether it is an error response. No model wrote it, so even a short key is removed.

    """

    def __init__(self, upstreams: Mapping[Vendor, Upstream], *, is_error: bool) -> None:
        keys = {upstream.secret for upstream in upstreams.values()} - {""}
        keys = {key for key in keys if is_error or len(key) >= _MIN_UNIQUE_KEY}
        self._keys = sorted((form.encode() for form in keys | {quote(key, safe="") for key in keys}), key=len)[::-1]
        self._held = b""

    def redact_text(self, text: str) -> str:
        """Return a text without keys."""
        return self.redact(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def redact(self, data: bytes) -> bytes:
        """Return a whole body without keys."""
        for key in self._keys:
            data = data.replace(key, KEY_PLACEHOLDER.encode())
        return data

    def feed(self, chunk: bytes) -> bytes:
        """Return a chunk of a stream without keys; what may be the start of a key is held for the next chunk."""
        data = self.redact(self._held + chunk)
        held = max((_partial_key_length(data, key) for key in self._keys), default=0)
        data, self._held = data[: len(data) - held], data[len(data) - held :]
        return data

    def flush(self) -> bytes:
        """Return the bytes still held, at the end of the stream."""
        held, self._held = self._held, b""
        return held


def _partial_key_length(data: bytes, key: bytes) -> int:
    """Return the number of bytes at the end of data that are the start of a key."""
    lengths = range(min(len(key) - 1, len(data)), 0, -1)
    return next((length for length in lengths if data.endswith(key[:length])), 0)

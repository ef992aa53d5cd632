"""What passes between agents and models, and what of it stays behind: credentials, and what a connection has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from multidict import CIMultiDict

from pytest_harbor.proxy.endpoints import CREDENTIALS, Vendor
from pytest_harbor.proxy.meter import READABLE
from pytest_harbor.proxy.settings import Upstream

# Of one connection each, never of a call.
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
KEY = "<key>"
# Characters of a key that is no word; a shorter one ("EMPTY", "not-needed") may stand in what a model says.
_NO_WORD = 16

RawHeaders = Iterable[tuple[bytes, bytes]]


def request_headers(raw: RawHeaders, vendor: Vendor, key: str) -> CIMultiDict[str]:
    """Return an agent's headers as they go upstream: with the real key, and nothing else, for credentials."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in _texts(raw):
        if name.lower() in CREDENTIALS:
            continue
        if name.lower() == "accept-encoding":
            # What cannot be read here cannot be metered.
            wanted = [part.strip() for part in value.split(",")]
            value = ", ".join(part for part in wanted if part.partition(";")[0].strip().lower() in READABLE)
            value = value or "identity"
        headers.add(name, value)
    if key:
        headers["x-api-key" if vendor == "anthropic" else "Authorization"] = (
            key if vendor == "anthropic" else f"Bearer {key}"
        )
    return headers


def response_headers(raw: RawHeaders, veil: Veil) -> CIMultiDict[str]:
    """Return a server's headers as an agent gets them."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in _texts(raw):
        headers.add(name, veil.text(value))
    return headers


def _texts(raw: RawHeaders) -> Iterable[tuple[str, str]]:
    for name, value in raw:
        text = name.decode("latin-1")
        if text.lower() not in _HOP_BY_HOP:
            yield text, value.decode("utf-8", "surrogateescape")


class Veil:
    """Takes real keys out of one answer, which may quote them, before an agent sees it.

    Args:
        upstreams: the servers whose keys these are.
        failed: whether it is an answer that no model has written: there, any word may be a key.

    """

    def __init__(self, upstreams: Mapping[Vendor, Upstream], *, failed: bool) -> None:
        keys = {upstream.secret for upstream in upstreams.values()} - {""}
        keys = {key for key in keys if failed or len(key) >= _NO_WORD}
        self._keys = sorted((form.encode() for form in keys | {quote(key, safe="") for key in keys}), key=len)[::-1]
        self._rest = b""

    def text(self, text: str) -> str:
        """Return a text without them."""
        return self.whole(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def whole(self, data: bytes) -> bytes:
        """Return bytes without them."""
        for key in self._keys:
            data = data.replace(key, KEY.encode())
        return data

    def piece(self, data: bytes) -> bytes:
        """Return a piece of a stream without them; what may be the beginning of one waits for the next piece."""
        data = self.whole(self._rest + data)
        held = max((_begun(data, key) for key in self._keys), default=0)
        data, self._rest = data[: len(data) - held], data[len(data) - held :]
        return data

    def rest(self) -> bytes:
        """Return what has waited, as nothing follows."""
        rest, self._rest = self._rest, b""
        return rest


def _begun(data: bytes, key: bytes) -> int:
    """Return how many bytes at the end of data are the beginning of a key."""
    lengths = range(min(len(key) - 1, len(data)), 0, -1)
    return next((length for length in lengths if data.endswith(key[:length])), 0)

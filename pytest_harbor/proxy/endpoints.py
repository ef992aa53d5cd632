"""The interfaces of models that the proxy knows: their paths, what they call their errors, where keys go."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

Vendor = Literal["openai", "anthropic"]
Kind = Literal["chat", "responses", "completions", "messages", "embeddings", "fetched", "other"]
"""What a call asks for: `fetched` what an earlier one asked for; `other` uses no tokens."""

# What the clients of both vendors send their key in.
CREDENTIALS = ("authorization", "x-api-key", "api-key")

_POSTED: dict[str, tuple[Vendor, Kind]] = {
    "/v1/chat/completions": ("openai", "chat"),
    "/v1/responses": ("openai", "responses"),
    "/v1/responses/compact": ("openai", "responses"),
    "/v1/responses/input_tokens": ("openai", "other"),
    "/v1/completions": ("openai", "completions"),
    "/v1/embeddings": ("openai", "embeddings"),
    "/v1/messages": ("anthropic", "messages"),
    "/v1/messages/count_tokens": ("anthropic", "other"),
}
_OF_A_RESPONSE = (("GET", None), ("GET", "/input_items"), ("DELETE", None), ("POST", "/cancel"))
SERVED = "POST " + ", ".join(_POSTED) + "; GET /v1/models, /v1/responses/ID"


@dataclass(frozen=True)
class Endpoint:
    """What a path means.

    Attributes:
        vendor: whose interface it belongs to.
        kind: what a call asks for.
        rest: the path below the vendor's base URL, as it was asked for, query included.

    """

    vendor: Vendor
    kind: Kind
    rest: str

    @property
    def is_turn(self) -> bool:
        """Whether a model writes something."""
        return self.kind not in ("embeddings", "fetched", "other")

    @property
    def is_metered(self) -> bool:
        """Whether a call uses tokens."""
        return self.kind != "other"


def endpoint(method: str, target: str, headers: Mapping[str, str]) -> Endpoint | None:
    """Return what a request is for, None where that is not served.

    Args:
        method: its method.
        target: its path with the query, as it was sent.
        headers: its headers; both vendors have /v1/models, and only one has a version in a header.

    """
    path = target.partition("?")[0]
    rest = target.removeprefix("/v1")
    if not _is_plain(target):
        return None
    if method == "POST" and path in _POSTED:
        vendor, kind = _POSTED[path]
        return Endpoint(vendor, kind, rest)
    if method == "GET" and re.fullmatch(r"/v1/models(/[^?]+)?", path):
        return Endpoint("anthropic" if "anthropic-version" in headers else "openai", "other", rest)
    # What was begun with POST /v1/responses, and goes on in the background.
    found = re.fullmatch(r"/v1/responses/[A-Za-z0-9_.-]+(/cancel|/input_items)?", path)
    if found and (method, found[1]) in _OF_A_RESPONSE:
        return Endpoint("openai", "fetched" if (method, found[1]) == ("GET", None) else "other", rest)
    return None


def _is_plain(target: str) -> bool:
    """Tell whether a path leads where it seems to lead, whoever reads it: the key must not be used elsewhere."""
    if "#" in target:
        return False
    path, before = target.partition("?")[0], ""
    while path != before:
        path, before = unquote(path, errors="replace"), path
    odd = any(character in "\\?#" or not character.isprintable() for character in path)
    return not odd and not any(part.partition(";")[0] in (".", "..") for part in path.split("/"))


def error_body(vendor: Vendor, status: int, code: str, message: str) -> bytes:
    """Return an error as the clients of a vendor understand it.

    Args:
        vendor: whose.
        status: the HTTP status that goes with it.
        code: a name for programs.
        message: for people.

    """
    if vendor == "anthropic":
        kinds = {401: "authentication_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}
        kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
        error = {"type": "error", "error": {"type": kind, "code": code, "message": message}}
    else:
        kinds = {401: "authentication_error", 429: "insufficient_quota"}
        kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
        error = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return json.dumps(error).encode()


def with_model(body: bytes, model: str) -> bytes:
    """Return the body of a call with another model, every other byte as it was.

    Raises:
        RecursionError: it is nested more deeply than any that is meant.

    """
    try:
        # In whatever way a server would take it for JSON.
        encoding = json.detect_encoding(body)
        text = body.decode(encoding)
        spans = _value_spans(text, "model")
    except ValueError:
        return body
    for start, end in reversed(spans):
        text = text[:start] + json.dumps(model, ensure_ascii=False) + text[end:]
    return text.encode(encoding) if spans else body


def _value_spans(text: str, name: str) -> list[tuple[int, int]]:
    """Return where the values of a key of a JSON object stand; some take the first of equal keys, some the last."""
    # A number of any length is one, even where Python's has an end.
    decoder = json.JSONDecoder(parse_int=len, parse_float=len)
    space = re.compile(r"[ \t\r\n]*")

    def skip(position: int) -> int:
        found = space.match(text, position)
        return found.end() if found else position

    spans: list[tuple[int, int]] = []
    position = skip(0)
    if text[position : position + 1] != "{":
        return spans
    position = skip(position + 1)
    while text[position : position + 1] == '"':
        key, position = decoder.raw_decode(text, position)
        position = skip(position)
        if text[position : position + 1] != ":":
            return []
        start = skip(position + 1)
        _, end = decoder.raw_decode(text, start)
        if key == name:
            spans.append((start, end))
        position = skip(end)
        if text[position : position + 1] == ",":
            position = skip(position + 1)
    return spans

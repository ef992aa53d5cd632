"""The model APIs that the proxy serves: their paths, their credential headers and the shape of their errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

Vendor = Literal["openai", "anthropic"]
Kind = Literal["chat", "responses", "completions", "messages", "embeddings", "poll", "other"]
"""What a call asks for: `poll` fetches a response created by an earlier call; `other` uses no tokens."""

# The headers in which the clients of both vendors send their key.
CREDENTIAL_HEADERS = ("authorization", "x-api-key", "api-key")

_POST_ENDPOINTS: dict[str, tuple[Vendor, Kind]] = {
    "/v1/chat/completions": ("openai", "chat"),
    "/v1/responses": ("openai", "responses"),
    "/v1/responses/compact": ("openai", "responses"),
    "/v1/responses/input_tokens": ("openai", "other"),
    "/v1/completions": ("openai", "completions"),
    "/v1/embeddings": ("openai", "embeddings"),
    "/v1/messages": ("anthropic", "messages"),
    "/v1/messages/count_tokens": ("anthropic", "other"),
}
# Method and sub-path below /v1/responses/ID.
_RESPONSE_ENDPOINTS = (("GET", None), ("GET", "/input_items"), ("DELETE", None), ("POST", "/cancel"))
SUPPORTED = "POST " + ", ".join(_POST_ENDPOINTS) + "; GET /v1/models, /v1/responses/ID"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of a model API.

    Attributes:
        vendor: the vendor whose API it belongs to.
        kind: what a call asks for.
        path: the path below the vendor's base URL as it was requested, query included.

    """

    vendor: Vendor
    kind: Kind
    path: str

    @property
    def is_turn(self) -> bool:
        """Whether a model generates output."""
        return self.kind not in ("embeddings", "poll", "other")

    @property
    def is_metered(self) -> bool:
        """Whether a call uses tokens."""
        return self.kind != "other"


class HTTPError(Exception):
    """An error response from the proxy itself.

    Attributes:
        status: the HTTP status.
        code: a machine-readable name for the error.
        message: the text for people.

    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def find_endpoint(method: str, target: str, headers: Mapping[str, str]) -> Endpoint | None:
    """Return the endpoint of a request, or None if the proxy does not serve it.

    Args:
        method: the HTTP method.
        target: the path and query as they were sent.
        headers: the headers; both vendors have /v1/models, and only Anthropic's clients send a version header.

    """
    path = target.partition("?")[0]
    below_base = target.removeprefix("/v1")
    if not _is_unambiguous(target):
        return None
    if method == "POST" and path in _POST_ENDPOINTS:
        vendor, kind = _POST_ENDPOINTS[path]
        return Endpoint(vendor, kind, below_base)
    if method == "GET" and re.fullmatch(r"/v1/models(/[^?]+)?", path):
        return Endpoint("anthropic" if "anthropic-version" in headers else "openai", "other", below_base)
    # Responses created by POST /v1/responses that continue in the background.
    match = re.fullmatch(r"/v1/responses/[A-Za-z0-9_.-]+(/cancel|/input_items)?", path)
    if match and (method, match[1]) in _RESPONSE_ENDPOINTS:
        return Endpoint("openai", "poll" if (method, match[1]) == ("GET", None) else "other", below_base)
    return None


def _is_unambiguous(target: str) -> bool:
    """Return True if every server reads a path the same way; otherwise the real key could be used elsewhere."""
    if "#" in target:
        return False
    path, before = target.partition("?")[0], ""
    while path != before:
        path, before = unquote(path, errors="replace"), path
    odd = any(character in "\\?#" or not character.isprintable() for character in path)
    return not odd and not any(part.partition(";")[0] in (".", "..") for part in path.split("/"))


def error_body(vendor: Vendor, error: HTTPError) -> bytes:
    """Return the JSON body of an error in the form that the clients of a vendor understand."""
    if vendor == "anthropic":
        types = {401: "authentication_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error"}
        kind = types.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
        return json.dumps(
            {"type": "error", "error": {"type": kind, "code": error.code, "message": error.message}}
        ).encode()
    types = {401: "authentication_error", 429: "insufficient_quota"}
    kind = types.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return json.dumps({"error": {"message": error.message, "type": kind, "param": None, "code": error.code}}).encode()


def replace_model(body: bytes, model: str) -> bytes:
    """Return a request body with another model, and every other byte unchanged.

    Raises:
        RecursionError: the body is nested too deeply to parse.

    """
    try:
        # Servers accept JSON in any Unicode encoding.
        encoding = json.detect_encoding(body)
        text = body.decode(encoding)
        spans = _value_spans(text, "model")
    except ValueError:
        return body
    for start, end in reversed(spans):
        text = text[:start] + json.dumps(model, ensure_ascii=False) + text[end:]
    return text.encode(encoding) if spans else body


def _value_spans(text: str, name: str) -> list[tuple[int, int]]:
    """Return the spans of all values of a key in a JSON object, as servers differ on which of two equal keys counts."""
    # Python limits the digits of an int; a server may not, so numbers are not converted.
    decoder = json.JSONDecoder(parse_int=len, parse_float=len)
    space = re.compile(r"[ \t\r\n]*")

    def skip_space(position: int) -> int:
        match = space.match(text, position)
        return match.end() if match else position

    spans: list[tuple[int, int]] = []
    position = skip_space(0)
    if text[position : position + 1] != "{":
        return spans
    position = skip_space(position + 1)
    while text[position : position + 1] == '"':
        key, position = decoder.raw_decode(text, position)
        position = skip_space(position)
        if text[position : position + 1] != ":":
            return []
        start = skip_space(position + 1)
        _, end = decoder.raw_decode(text, start)
        if key == name:
            spans.append((start, end))
        position = skip_space(end)
        if text[position : position + 1] == ",":
            position = skip_space(position + 1)
    return spans

"""Scripted answers, and the requests they answer."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """A tool call.

    Arguments given as a string are sent unchanged, even if they are not valid JSON (not to Anthropic clients).
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Tokens:
    """The token usage of an answer: `cached` is part of `input`, `reasoning` is part of `output`."""

    input: int = 11
    cached: int = 0
    output: int = 7
    reasoning: int = 0


@dataclass(frozen=True)
class Answer:
    """The model's answer to one request, in any protocol.

    Attributes:
        text: The text; streamed word by word.
        calls: The tool calls.
        tokens: The token usage; None omits it, as some servers do.
        finish: The finish reason in the protocol's own term; derived from the other fields if empty.
        fields: Extra fields for the message of a chat completion, or for the first delta of a stream.
        headers: Extra headers; names may repeat.
        gates: Events to wait for before sending: key 0 before anything, key n before the n-th piece of a stream,
            counted from 1.
        break_after: The number of pieces after which the connection is cut.

    """

    text: str = ""
    calls: Sequence[Call] = ()
    tokens: Tokens | None = Tokens()
    finish: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[tuple[str, str]] = ()
    gates: Mapping[int, threading.Event] = field(default_factory=dict)
    break_after: int | None = None

    @property
    def words(self) -> list[str]:
        return re.findall(r"\S+\s*|\s+", self.text)


@dataclass(frozen=True)
class Reply:
    """The exact bytes of a response: one body with a content length or, if streamed, one chunk per piece."""

    pieces: Sequence[bytes]
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    streamed: bool = False
    gates: Mapping[int, threading.Event] = field(default_factory=dict)
    break_after: int | None = None


def failure(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """Return an error response in the form that servers send; `_` in a header's name stands for `-`."""
    error = {"message": message, "type": "server_error" if status >= 500 else "invalid_request_error", "code": code}
    pairs = [("content-type", "application/json"), *((k.replace("_", "-"), v) for k, v in headers.items())]
    return Reply([json.dumps({"type": "error", "error": error}).encode()], status, pairs)


@dataclass
class Request:
    """A request as received, and the progress of its response.

    Attributes:
        path: The path with its query, as in the request line.
        disconnected: Set when the client disconnected before the response was complete.
        done: Set when the response is complete or was abandoned.
        sent: The pieces of the body sent so far, including one being sent.

    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    disconnected: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    sent: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


Script = Answer | Reply | Callable[[Request], Answer | Reply | None]

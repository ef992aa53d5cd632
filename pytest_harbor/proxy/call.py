"""One call of a model on its way through the proxy."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal

from pytest_harbor.proxy.endpoints import Endpoint
from pytest_harbor.proxy.meter import BYTES_PER_TOKEN, Meter
from pytest_harbor.proxy.prices import Prices, Tokens
from pytest_harbor.trial import Usage

# Bytes of a body that the log takes; agents could fill a disk otherwise.
LOGGED = 16 << 20
_TOO_LONG = "[{:,} bytes are too many to be kept]"
# How deep values may be in others to be taken for JSON.
DEEPEST = 100
# Characters of a model's name that count.
LONGEST_NAME = 200

Source = Literal["upstream", "cassette", "proxy"]
"""Who answered: the model's server, a recording, or the proxy itself, which refused."""


# The last event of a stream, in each of the protocols, up to the empty line that ends it.
_LAST_EVENT = re.compile(
    rb"^(?:data: ?\[DONE\]|event: ?(?:message_stop|response\.(?:completed|incomplete|failed))\r?$).*?\n\r?\n",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Call:
    """One call.

    Attributes:
        number: its number in its trial, from 1.
        endpoint: what it is for.
        method: its HTTP method.
        target: path and query as they were sent.
        body: its body, as it goes upstream.
        retry: whether the same call has failed before.
        source: who answered.
        status: HTTP status of the answer; 0 while there is none.
        pieces: the answer's body as it came, decoded.
        streamed: whether that is a stream of events.
        first_byte: seconds until the answer began; None where it did not.
        seconds: seconds until it had ended.
        normal: the request as a cassette has it; None where there is none.
        headers: the answer's headers, with names in lower case.
        whole: whether all of the answer has come from the model's server.
        given_up: whether the agent has closed its connection before the end.
        error: what went wrong on the way; empty for nothing.

    """

    number: int
    endpoint: Endpoint
    method: str
    target: str
    body: bytes
    retry: bool = False
    source: Source = "upstream"
    status: int = 0
    pieces: list[bytes] = field(default_factory=list)
    streamed: bool = False
    first_byte: float | None = None
    seconds: float = 0.0
    normal: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    given_up: bool = False
    error: str = ""
    meter: Meter | None = None
    at: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
    began: float = field(default_factory=time.monotonic)

    @cached_property
    def digest(self) -> str:
        """What equal calls have in common."""
        return hashlib.sha256(f"{self.method} {self.target}\n".encode("utf-8", "replace") + self.body).hexdigest()

    @cached_property
    def request(self) -> Any:
        """The body as JSON, as text where it is none, None where there is none."""
        return readable(self.body)

    @property
    def model(self) -> str:
        """The model: as the answer names it, else as the request does."""
        told = self.meter.model if self.meter is not None else ""
        return (told or self.asked_model)[:LONGEST_NAME]

    @property
    def asked_model(self) -> str:
        """The model as the request names it."""
        request = self.request
        model = request.get("model") if isinstance(request, dict) else None
        return model if isinstance(model, str) else ""

    @property
    def has_ended(self) -> bool:
        """Whether the last event of a stream has come, after which nothing is said."""
        return self.streamed and _LAST_EVENT.search(b"".join(self.pieces)) is not None

    def begin_answer(self, status: int, headers: Mapping[str, str], *, streamed: bool) -> None:
        """Take note that an answer begins."""
        self.status = status
        self.headers = headers
        self.streamed = streamed
        self.first_byte = time.monotonic() - self.began
        self.meter = Meter(self.endpoint.kind, streamed=streamed)

    def take(self, data: bytes) -> None:
        """Take a piece of the answer, decoded."""
        self.pieces.append(data)
        if self.meter is not None and self.endpoint.is_metered and self.status < 400:
            self.meter.feed(data)

    def end(self) -> None:
        """Take note that this was all."""
        self.seconds = time.monotonic() - self.began
        if self.meter is not None:
            self.meter.end(whole=not (self.given_up or self.error))

    @property
    def tokens(self) -> tuple[Tokens, bool]:
        """The tokens so far, and whether they are only estimated."""
        if not self.endpoint.is_metered:
            return Tokens(), False
        if self.status == 0 and not self.error:
            # Nobody has said anything yet, but the server has the prompt, and works on it.
            return Tokens(input=len(self.body) // BYTES_PER_TOKEN), True
        if not 200 <= self.status < 300 or self.meter is None:
            return Tokens(), False
        told = self.meter.tokens
        return (told, False) if told is not None else (self.meter.estimate(len(self.body)), True)

    def usage(self, prices: Prices) -> Usage:
        """Return what it has used so far."""
        if not self.endpoint.is_metered or self.source == "proxy":
            return Usage()
        tokens, estimated = self.tokens
        cost = self.cost(prices)
        return Usage(
            requests=0 if self.retry else 1,
            retries=1 if self.retry else 0,
            input_tokens=tokens.input,
            cached_tokens=tokens.cached,
            output_tokens=tokens.output,
            reasoning_tokens=tokens.reasoning,
            cost=cost,
            seconds=round(self.seconds, 3),
            estimated=int(estimated),
            replayed=int(self.source == "cassette"),
            models={self.model: 1} if self.model and not self.retry else {},
            unpriced=[self.model or "(no model named)"] if cost is None else [],
        )

    def cost(self, prices: Prices) -> float | None:
        """Return US dollars; None where the model's price is not known."""
        tokens, _ = self.tokens
        if tokens == Tokens():
            return 0.0
        price = prices.find(self.model) or prices.find(self.asked_model)
        return None if price is None else price.cost(tokens)

    def to_json(self, prices: Prices, *, bodies: bool) -> dict[str, Any]:
        """Return the call as a line of calls.jsonl, see docs/results.md; with what was said where asked for."""
        tokens, estimated = self.tokens
        used = {
            "input_tokens": tokens.input,
            "cached_tokens": tokens.cached,
            "output_tokens": tokens.output,
            "reasoning_tokens": tokens.reasoning,
            "estimated": estimated,
        }
        line: dict[str, Any] = {
            "number": self.number,
            "at": self.at,
            "method": self.method,
            "path": self.target,
            "model": self.model,
            "stream": self.streamed,
            "status": self.status,
            "source": self.source,
            "seconds": round(self.seconds, 4),
            "first_byte_seconds": None if self.first_byte is None else round(self.first_byte, 4),
            "retry": self.retry,
            "usage": used if tokens != Tokens() else None,
            "cost": self.cost(prices),
            "error": "given up by the agent" if self.given_up else self.error,
        }
        if bodies:
            answer = b"".join(self.pieces)
            line["request"] = self.request if len(self.body) <= LOGGED else _TOO_LONG.format(len(self.body))
            if len(answer) > LOGGED:
                line["response"] = _TOO_LONG.format(len(answer))
            else:
                line["response"] = answer.decode("utf-8", "replace") if self.streamed else readable(answer)
        return line


def readable(body: bytes) -> Any:
    """Return a body as JSON, as text where it is none or nested beyond all sense, None where it is empty."""
    if not body:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    return found if found is not None and _is_shallow(found) else body.decode("utf-8", "replace")


def _is_shallow(value: Any) -> bool:
    """Tell whether no value is so deep in others that a recursive function has its troubles."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        if not level:
            return True
        entries = (entry for outer in level for entry in (outer.values() if isinstance(outer, dict) else outer))
        level = [entry for entry in entries if isinstance(entry, dict | list)]
    return not level

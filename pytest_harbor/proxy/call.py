"""One model call on its way through the proxy."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal

from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.proxy.endpoints import Endpoint
from pytest_harbor.proxy.meter import BYTES_PER_TOKEN, Meter
from pytest_harbor.proxy.prices import Prices, Tokens
from pytest_harbor.trial import Usage

# Bytes of a body that are logged; without a limit, an agent could fill the disk.
MAX_LOGGED_BYTES = 16 << 20
_TOO_LARGE = "[{:,} bytes: too large to log]"
# A body nested more deeply than this is treated as text.
MAX_DEPTH = 100
# Characters of a model's name that are kept.
MAX_MODEL_NAME = 200

Source = Literal["upstream", "cassette", "proxy"]
"""Who answered: the model's server, a recording, or the proxy itself with an error."""


# The last event of a stream in each protocol, up to the empty line that ends it.
_LAST_EVENT = re.compile(
    rb"^(?:data: ?\[DONE\]|event: ?(?:message_stop|response\.(?:completed|incomplete|failed))\r?$).*?\n\r?\n",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Call:
    """A model call and its response.

    Attributes:
        number: its number in the trial, from 1.
        endpoint: the endpoint it was sent to.
        method: the HTTP method.
        target: the path and query as they were sent.
        body: the request body as it goes upstream.
        retry: whether an equal call failed before.
        source: who answered.
        status: the HTTP status of the response; 0 until it starts.
        chunks: the decoded response body, in the chunks in which it arrived.
        streamed: whether the response is a stream of events.
        first_byte: seconds until the response started; None if it did not.
        seconds: seconds until the response ended.
        normalized: the request as a cassette stores it; None without a cassette.
        headers: the response headers, with lower-case names.
        complete: whether the model's server sent the whole response.
        abandoned: whether the agent closed its connection before the end.
        error: what went wrong; empty if nothing did.

    """

    number: int
    endpoint: Endpoint
    method: str
    target: str
    body: bytes
    retry: bool = False
    source: Source = "upstream"
    status: int = 0
    chunks: list[bytes] = field(default_factory=list)
    streamed: bool = False
    first_byte: float | None = None
    seconds: float = 0.0
    normalized: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    abandoned: bool = False
    error: str = ""
    meter: Meter | None = None
    at: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
    started: float = field(default_factory=monotonic)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of method, target and body, the same for equal calls."""
        return hashlib.sha256(f"{self.method} {self.target}\n".encode("utf-8", "replace") + self.body).hexdigest()

    @cached_property
    def request(self) -> Any:
        """The request body as JSON, as text if it is not JSON, or None if it is empty."""
        return parse_body(self.body)

    @property
    def model(self) -> str:
        """The model named in the response, or else in the request."""
        answered = self.meter.model if self.meter is not None else ""
        return (answered or self.requested_model)[:MAX_MODEL_NAME]

    @property
    def requested_model(self) -> str:
        """The model named in the request."""
        request = self.request
        model = request.get("model") if isinstance(request, dict) else None
        return model if isinstance(model, str) else ""

    @property
    def has_last_event(self) -> bool:
        """Whether the last event of a stream has arrived."""
        return self.streamed and _LAST_EVENT.search(b"".join(self.chunks)) is not None

    def start_response(self, status: int, headers: Mapping[str, str], *, streamed: bool) -> None:
        """Record the start of the response."""
        self.status = status
        self.headers = headers
        self.streamed = streamed
        self.first_byte = monotonic() - self.started
        self.meter = Meter(streamed=streamed)

    def feed(self, data: bytes) -> None:
        """Add a decoded chunk of the response."""
        self.chunks.append(data)
        if self.meter is not None and self.endpoint.is_metered and self.status < 400:
            self.meter.feed(data)

    def finish(self) -> None:
        """Record the end of the response."""
        self.seconds = monotonic() - self.started
        if self.meter is not None:
            self.meter.finish(complete=not (self.abandoned or self.error))

    @property
    def tokens(self) -> tuple[Tokens, bool]:
        """The tokens so far, and whether they are an estimate."""
        if not self.endpoint.is_metered:
            return Tokens(), False
        if self.status == 0 and not self.error:
            # No response yet, but the server has the prompt and is working on it.
            return Tokens(input=len(self.body) // BYTES_PER_TOKEN), True
        if not 200 <= self.status < 300 or self.meter is None:
            return Tokens(), False
        reported = self.meter.tokens
        return (reported, False) if reported is not None else (self.meter.estimate(len(self.body)), True)

    def usage(self, prices: Prices) -> Usage:
        """Return the usage so far."""
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
        """Return the cost in US dollars, or None if the model has no known price."""
        tokens, _ = self.tokens
        if tokens == Tokens():
            return 0.0
        price = prices.find(self.model) or prices.find(self.requested_model)
        return None if price is None else price.cost(tokens)

    def to_json(self, prices: Prices, *, bodies: bool) -> dict[str, Any]:
        """Return the call as a line of calls.jsonl (see docs/results.md).

        Args:
            prices: the prices of models.
            bodies: whether to include the bodies of request and response.

        """
        tokens, estimated = self.tokens
        usage = {
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
            "usage": usage if tokens != Tokens() else None,
            "cost": self.cost(prices),
            "error": "abandoned by the agent" if self.abandoned else self.error,
        }
        if bodies:
            response = b"".join(self.chunks)
            line["request"] = self.request if len(self.body) <= MAX_LOGGED_BYTES else _TOO_LARGE.format(len(self.body))
            if len(response) > MAX_LOGGED_BYTES:
                line["response"] = _TOO_LARGE.format(len(response))
            else:
                line["response"] = response.decode("utf-8", "replace") if self.streamed else parse_body(response)
        return line


def parse_body(body: bytes) -> Any:
    """Return a body as JSON, as text if it is not JSON or nested too deeply, or None if it is empty."""
    if not body:
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    return value if value is not None and _is_shallow(value) else body.decode("utf-8", "replace")


def _is_shallow(value: Any) -> bool:
    """Return True if a value is at most MAX_DEPTH levels deep, so that recursive functions can process it."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return True
        entries = (entry for outer in level for entry in (outer.values() if isinstance(outer, dict) else outer))
        level = [entry for entry in entries if isinstance(entry, dict | list)]
    return not level

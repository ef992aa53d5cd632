"""The model usage of a trial: calls, tokens, cost, time."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Usage:
    """The model usage of a trial, as metered by the proxy.

    Attributes:
        requests: model calls; a call and its retries count once.
        retries: attempts at calls beyond their first.
        input_tokens: tokens of all prompts, cached ones included.
        cached_tokens: the part of them that was read from a cache.
        output_tokens: tokens of all responses, reasoning included.
        reasoning_tokens: the part of them that was reasoning.
        cost: US dollars; None if the price of a model is not known.
        seconds: total time from the start of each call to the end of its response.
        estimated: calls whose response did not report tokens; theirs are estimated at four bytes of text per token.
        replayed: calls answered from a cassette, which cost nothing now; `cost` is what they cost when recorded.
        models: requests by model, as named in the responses.
        unpriced: models without a price.

    """

    requests: int = 0
    retries: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = 0.0
    seconds: float = 0.0
    estimated: int = 0
    replayed: int = 0
    models: dict[str, int] = field(default_factory=dict)
    unpriced: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens of prompts and responses."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Add two usages; the sum has a cost if both have one."""
        total = Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in COUNTS},
            seconds=self.seconds + other.seconds,
            cost=None if self.cost is None or other.cost is None else self.cost + other.cost,
            models=dict(self.models),
            unpriced=sorted({*self.unpriced, *other.unpriced}),
        )
        for name, number in other.models.items():
            total.models[name] = total.models.get(name, 0) + number
        return total

    @classmethod
    def from_json(cls, data: Any) -> Usage:
        """Read the output of `dataclasses.asdict`; unknown keys are ignored.

        Raises:
            ValueError: it is not a usage.

        """
        if not isinstance(data, dict):
            raise ValueError(f"usage is {data!r:.100}")
        names = {entry.name for entry in dataclasses.fields(cls)}
        usage = cls(**{name: value for name, value in data.items() if name in names})
        counts = [*(getattr(usage, name) for name in COUNTS), *_values(usage.models)]
        numbers = [usage.seconds, 0.0 if usage.cost is None else usage.cost]
        fits = all(type(count) is int for count in counts)
        fits = fits and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
        if not fits or not isinstance(usage.unpriced, list) or not all(isinstance(n, str) for n in usage.unpriced):
            raise ValueError(f"usage is {data!r:.100}")
        return usage


COUNTS = (
    "requests",
    "retries",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated",
    "replayed",
)


class NoUsage(LookupError):
    """A test asks for a trial's model usage and there is none. The test fails; it neither passes nor is an error."""


def known(usage: Usage | None, agent: str) -> Usage:
    """Return a trial's usage.

    Raises:
        NoUsage: it was not metered.

    """
    __tracebackhide__ = True
    if usage is None:
        raise NoUsage(
            f"the model usage of agent {agent} was not metered; run with --harbor-proxy=live (or record, replay, auto) "
            "and an agent that calls models"
        )
    return usage


def _values(models: Any) -> list[Any]:
    return list(models.values()) if isinstance(models, dict) else [None]

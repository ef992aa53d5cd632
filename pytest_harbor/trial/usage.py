"""What a trial used of models: calls, tokens, money, time."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Usage:
    """What a trial used of models, as the proxy has seen it.

    Attributes:
        requests: calls of models; a call that was tried again counts once.
        retries: tries of calls beyond their first.
        input_tokens: tokens of all prompts, those from a cache included.
        cached_tokens: of these, tokens read from a cache.
        output_tokens: tokens of all answers, those of reasoning included.
        reasoning_tokens: of these, tokens of reasoning.
        cost: US dollars; None where the price of a model that was used is not known.
        seconds: from each call's beginning to the end of its answer, added up.
        estimated: calls whose answer did not tell its tokens; theirs are estimated, at four bytes of text a token.
        replayed: calls that a cassette answered, which cost nothing now; `cost` is what they once did.
        models: requests by model, as the answers name them.
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
        """Tokens of prompts and answers."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Add two up; the sum has a cost where both have one."""
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
        """Read what `dataclasses.asdict` made; keys that are not known are left out.

        Raises:
            ValueError: it is no usage.

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
    """A test asks what a trial used of models, and nobody has looked: it must fail, neither pass nor be an error."""


def known(usage: Usage | None, agent: str) -> Usage:
    """Return a trial's usage.

    Raises:
        NoUsage: there is none.

    """
    __tracebackhide__ = True
    if usage is None:
        raise NoUsage(
            f"there is no usage of models by the agent {agent}: run with --harbor-proxy=live (or record, replay, auto) "
            "and an agent that calls models"
        )
    return usage


def _values(models: Any) -> list[Any]:
    return list(models.values()) if isinstance(models, dict) else [None]

"""What models cost."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("prices.toml")

# What vendors and gateways hang on a model's name: dates, and the vendor's own name before it.
_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens.

    Attributes:
        input: of a prompt.
        output: of an answer, reasoning included.
        cached: of a prompt's part that was read from a cache.
        written: of a prompt's part that was written to a cache, where that has a price of its own.

    """

    input: float
    output: float
    cached: float
    written: float

    def cost(self, tokens: Tokens) -> float:
        """Return what tokens cost, in US dollars."""
        plain = max(0, tokens.input - tokens.cached - tokens.written)
        total = plain * self.input + tokens.cached * self.cached + tokens.written * self.written
        return (total + tokens.output * self.output) / 1_000_000


@dataclass(frozen=True)
class Tokens:
    """Tokens of one call.

    Attributes:
        input: of the prompt, all of it.
        cached: of these, read from a cache.
        written: of these, written to a cache.
        output: of the answer, reasoning included.
        reasoning: of these, reasoning.

    """

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0


class Prices:
    """A table of prices.

    Args:
        prices: by name of the model.

    """

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = dict(prices)

    @classmethod
    def load(cls, more: Path | None = None) -> Prices:
        """Read the built-in table, and one of the user's before it.

        Raises:
            ValueError: a file cannot be read, or is no table of prices; the message says what one looks like.

        """
        prices = _read(BUILT_IN)
        return cls({**prices, **_read(more)} if more else prices)

    def find(self, model: str) -> Price | None:
        """Return the price of a model; one with a date, or behind a gateway's prefix, costs what it does without."""
        for name in (model, model.rpartition("/")[2]):
            for candidate in (name, _DATE.sub("", name)):
                if candidate in self._prices:
                    return self._prices[candidate]
        return None


def _read(path: Path) -> dict[str, Price]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    shape = '[models."NAME"] with input and output, and cached and written if you like, in US dollars a million tokens'
    if set(data) != {"models"} or not isinstance(data["models"], dict):
        raise ValueError(f"{path} is no table of prices; it needs {shape}")
    return {name: _price(path, name, entry, shape) for name, entry in data["models"].items()}


def _price(path: Path, name: str, entry: Any, shape: str) -> Price:
    known = {"input", "output", "cached", "written"}
    fits = isinstance(entry, dict) and {"input", "output"} <= set(entry) <= known
    if not fits or not all(_is_price(value) for value in entry.values()):
        raise ValueError(f"{path}: the price of {name!r} is {entry!r:.200}; it needs {shape}")
    plain = float(entry["input"])
    cached, written = (float(entry.get(key, plain)) for key in ("cached", "written"))
    return Price(plain, float(entry["output"]), cached, written)


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0

"""The prices of models: the user's own table, and the list prices of genai-prices."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The suffixes that vendors and gateways add to a model's name.
_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
# The vendors in genai-prices whose models are looked up by name alone. Others serve open weights, which anyone may
# serve at any price; so do these with a few models.
_VENDORS = ("openai", "anthropic", "aws", "google")
_OPEN_WEIGHTS = ("gpt-oss", "gemma")


@dataclass(frozen=True)
class Tokens:
    """The tokens of one call.

    Attributes:
        input: tokens of the prompt, all of them.
        cached: input tokens read from a cache.
        written: input tokens written to a cache.
        output: output tokens, including reasoning.
        reasoning: output tokens used for reasoning.

    """

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0


class ModelPrice(Protocol):
    """The price of a model."""

    def cost(self, tokens: Tokens) -> float:
        """Return the cost of tokens in US dollars."""


@dataclass(frozen=True)
class Price:
    """A price in the user's table, in US dollars per million tokens.

    Attributes:
        input: price of input tokens.
        output: price of output tokens, including reasoning.
        cached: price of input tokens read from a cache.
        written: price of input tokens written to a cache.

    """

    input: float
    output: float
    cached: float
    written: float

    def cost(self, tokens: Tokens) -> float:
        """Return the cost of tokens in US dollars."""
        uncached = max(0, tokens.input - tokens.cached - tokens.written)
        total = uncached * self.input + tokens.cached * self.cached + tokens.written * self.written
        return (total + tokens.output * self.output) / 1_000_000


@dataclass(frozen=True)
class ListPrice:
    """A vendor's list price, from the data that ships with genai-prices.

    Attributes:
        vendor: the vendor's id in genai-prices.
        model: the model's name.

    """

    vendor: str
    model: str

    def cost(self, tokens: Tokens) -> float:
        """Return the cost of tokens in US dollars."""
        return _list_cost(self.vendor, self.model, tokens) or 0.0


class Prices:
    """The prices of models by name.

    Args:
        prices: the user's prices, which override list prices.

    """

    def __init__(self, prices: Mapping[str, Price] | None = None) -> None:
        self._prices = dict(prices or {})

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """Return list prices, overridden by those of a TOML file.

        Raises:
            ValueError: the file cannot be read or is not a price table; the message shows the format.

        """
        return cls(_read(path) if path else None)

    def find(self, model: str) -> ModelPrice | None:
        """Return the price of a model, or None if it has none.

        A date at the end of the name and a gateway's prefix, such as `openai/`, do not matter.
        """
        for name in _spellings(model):
            if name in self._prices:
                return self._prices[name]
        return self.find_listed(model)

    @staticmethod
    def find_listed(model: str) -> ModelPrice | None:
        """Return the list price of a vendor's model, or None if it has none."""
        return _find_list_price(model)


def load_list_prices() -> None:
    """Import genai-prices, which takes about half a second. It reads no file but its own, and uses no network."""
    _find_list_price("")


def _spellings(model: str) -> list[str]:
    """Return the names to look up, the most specific first."""
    return [spelling for name in (model, model.rpartition("/")[2]) for spelling in (name, _DATE.sub("", name))]


@lru_cache(maxsize=256)
def _find_list_price(model: str) -> ListPrice | None:
    for vendor in _VENDORS:
        for name in _spellings(model):
            if not name.startswith(_OPEN_WEIGHTS) and _list_cost(vendor, name, Tokens()) is not None:
                return ListPrice(vendor, name)
    return None


@lru_cache(maxsize=1024)
def _list_cost(vendor: str, model: str, tokens: Tokens) -> float | None:
    """Return the cost in US dollars, or None if the vendor has no price per token for the model."""
    from genai_prices import Usage, calc_price

    # It rejects usage whose parts exceed the whole, and a server may report anything.
    cached = min(tokens.cached, tokens.input)
    usage = Usage(
        input_tokens=tokens.input,
        cache_read_tokens=cached,
        cache_write_tokens=min(tokens.written, tokens.input - cached),
        output_tokens=tokens.output,
    )
    try:
        price = calc_price(usage, model, provider_id=vendor)
    except LookupError:
        return None
    return None if price.model_price.input_mtok is None else float(price.total_price)


def _read(path: Path) -> dict[str, Price]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    format = (
        '[models."NAME"] with input and output, and optionally cached and written, in US dollars per million tokens'
    )
    if set(data) != {"models"} or not isinstance(data["models"], dict):
        raise ValueError(f"{path} is not a price table; use {format}")
    return {name: _price(path, name, entry, format) for name, entry in data["models"].items()}


def _price(path: Path, name: str, entry: Any, format: str) -> Price:
    keys = {"input", "output", "cached", "written"}
    is_valid = isinstance(entry, dict) and {"input", "output"} <= set(entry) <= keys
    if not is_valid or not all(_is_amount(value) for value in entry.values()):
        raise ValueError(f"{path}: the price of {name!r} is {entry!r:.200}; use {format}")
    uncached = float(entry["input"])
    cached, written = (float(entry.get(key, uncached)) for key in ("cached", "written"))
    return Price(uncached, float(entry["output"]), cached, written)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0

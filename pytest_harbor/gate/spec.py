"""The rule of a gate, as users write it: `drop=0.05,alpha=0.05`, `pass-rate=0.8`, `each`, or several of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

VALID = "drop=SHARE, alpha=SHARE, pass-rate=SHARE (each from 0 to 1) or each, joined by commas"


@dataclass(frozen=True)
class GateSpec:
    """What makes a run regressed.

    Attributes:
        drop: the least loss of mean reward that matters.
        alpha: how often two runs of one and the same agent may be told apart by mistake.
        pass_rate: the least share of graded trials that pass; None asks for none.
        each: whether every trial must pass.

    """

    drop: float = 0.05
    alpha: float = 0.05
    pass_rate: float | None = None
    each: bool = False

    @classmethod
    def parse(cls, text: str) -> GateSpec:
        """Read a rule; what it does not mention keeps its default.

        Raises:
            ValueError: it is none; the message says what one looks like.

        """
        found: dict[str, float] = {}
        for word in (word.strip() for word in text.split(",")):
            name, equals, value = word.partition("=")
            if name in found or name not in ("drop", "alpha", "pass-rate", "each") or bool(equals) == (name == "each"):
                raise ValueError(f"{word!r} is not valid; use {VALID}")
            found[name] = 1.0 if name == "each" else _share(word, value)
        if found.get("alpha") == 0:
            raise ValueError(f"alpha=0 would call nothing regressed; use {VALID}")
        return cls(
            drop=found.get("drop", cls.drop),
            alpha=found.get("alpha", cls.alpha),
            pass_rate=found.get("pass-rate"),
            each="each" in found,
        )

    def __str__(self) -> str:
        words = [f"drop={self.drop:g}", f"alpha={self.alpha:g}"]
        words += [] if self.pass_rate is None else [f"pass-rate={self.pass_rate:g}"]
        return ",".join([*words, *(["each"] if self.each else [])])


def _share(word: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"{word!r} is not valid; use {VALID}")
    return number

"""The rule of a gate, as users write it: `drop=0.05,alpha=0.05`, `pass-rate=0.8`, `each`, or a combination."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

VALID = "drop=SHARE, alpha=SHARE, pass-rate=SHARE (each from 0 to 1) or each, joined by commas"


@dataclass(frozen=True)
class GateSpec:
    """The rule that decides whether a run has regressed.

    Attributes:
        drop: the smallest drop of the mean reward that matters.
        alpha: the accepted rate of false alarms when the agent has not changed.
        pass_rate: the lowest share of graded trials that must pass; None for no minimum.
        each: whether every trial must pass.
        compares: whether the rule names `drop` or `alpha`, and so needs a baseline.

    """

    drop: float = 0.05
    alpha: float = 0.05
    pass_rate: float | None = None
    each: bool = False
    # How the rule was written, not what it means.
    compares: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> GateSpec:
        """Parse a rule; parts that it does not mention keep their defaults.

        Raises:
            ValueError: the rule is not valid; the message shows a valid one.

        """
        found: dict[str, float] = {}
        for word in (word.strip() for word in text.split(",")):
            name, equals, value = word.partition("=")
            if name in found or name not in ("drop", "alpha", "pass-rate", "each") or bool(equals) == (name == "each"):
                raise ValueError(f"{word!r} is not valid; use {VALID}")
            found[name] = 1.0 if name == "each" else _share(word, value)
        if found.get("alpha") == 0:
            raise ValueError(f"alpha=0 would never detect a regression; use {VALID}")
        return cls(
            drop=found.get("drop", cls.drop),
            alpha=found.get("alpha", cls.alpha),
            pass_rate=found.get("pass-rate"),
            each="each" in found,
            compares="drop" in found or "alpha" in found,
        )

    @property
    def needs_baseline(self) -> bool:
        """Whether the rule cannot be applied without a baseline."""
        return self.compares or (self.pass_rate is None and not self.each)

    def missing_baseline(self, gate: str, baseline: str, save: str) -> str:
        """Return the message for a rule that compares, but has no baseline to compare with.

        Args:
            gate: the option that gave the rule.
            baseline: the option that gives a baseline.
            save: the option that makes one.

        """
        return (
            f"{gate}={self} compares with a baseline, and there is none; add {baseline}=FILE ({save}=FILE makes one "
            "from a run), or use a rule that needs none: pass-rate=SHARE or each"
        )

    def __str__(self) -> str:
        compares = self.needs_baseline or (self.drop, self.alpha) != (GateSpec.drop, GateSpec.alpha)
        words = [f"drop={self.drop:g}", f"alpha={self.alpha:g}"] if compares else []
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

"""The rule of a gate, as users write it: `drop=0.05,alpha=0.05`, `pass-rate=0.8`, `each`, or a combination."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

VALID = "drop=SHARE, alpha=SHARE, pass-rate=SHARE (each from 0 to 1), each or flip, joined by commas"

# Rules without a value.
_SWITCHES = ("each", "flip")
_WITH_BASELINE = ("drop", "alpha", "flip")


@dataclass(frozen=True)
class GateSpec:
    """The rule that decides whether a run has regressed.

    Attributes:
        drop: the smallest drop of the mean reward that matters.
        alpha: the accepted rate of false alarms when the agent has not changed.
        pass_rate: the lowest share of graded trials that must pass; None for no minimum.
        each: whether every trial must pass.
        flip: whether any task whose attempts are all worse than in the baseline is a regression, however few.
        compares: whether the rule names `drop`, `alpha` or `flip`, and so needs a baseline.

    """

    drop: float = 0.05
    alpha: float = 0.05
    pass_rate: float | None = None
    each: bool = False
    flip: bool = False
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
            known = name in (*_SWITCHES, "drop", "alpha", "pass-rate")
            if name in found or not known or bool(equals) == (name in _SWITCHES):
                raise ValueError(f"{word!r} is not valid; use {VALID}")
            found[name] = 1.0 if name in _SWITCHES else _share(word, value)
        if found.get("alpha") == 0:
            raise ValueError(f"alpha=0 would never detect a regression; use {VALID}")
        return cls(
            drop=found.get("drop", cls.drop),
            alpha=found.get("alpha", cls.alpha),
            pass_rate=found.get("pass-rate"),
            each="each" in found,
            flip="flip" in found,
            compares=any(name in found for name in _WITH_BASELINE),
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
        return ",".join([*words, *(["each"] if self.each else []), *(["flip"] if self.flip else [])])


def parse_share(text: str) -> float:
    """Parse `0.8` or `80%`.

    Raises:
        ValueError: the text is not a share; the message shows what is valid.

    """
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError("use a share such as 0.8 or 80%")
    return number


def _share(word: str, value: str) -> float:
    try:
        return parse_share(value)
    except ValueError:
        raise ValueError(f"{word!r} is not valid; use {VALID}") from None

"""The rule of a gate, as users write it: `drop=0.05,alpha=0.05`, `pass-rate=0.8`, `each`, or a combination."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal

Word = Literal["pass", "regressed", "inconclusive", "not judged"]

# How tasks are selected for a group.
Kind = Literal["category", "difficulty", "dataset", "task"]

VALID = (
    "drop=SHARE, alpha=SHARE, pass-rate=SHARE (each from 0 to 1), cost=+N%, tokens=+N%, seconds=+N%, each, flip "
    "or versus=AGENT, joined by commas"
)

# Rules without a value.
_SWITCHES = ("each", "flip")
_SHARES = ("drop", "alpha", "pass-rate")
_MEASURES = ("cost", "tokens", "seconds")
_WITH_BASELINE = ("drop", "alpha", "flip", *_MEASURES)


@dataclass(frozen=True)
class GateSpec:
    """The rule that decides whether a run has regressed.

    Attributes:
        drop: the smallest drop of the mean reward that matters.
        alpha: the accepted rate of false alarms when the agent has not changed.
        pass_rate: the lowest share of graded trials that must pass; None for no minimum.
        each: whether every trial must pass.
        flip: whether any task whose attempts are all worse than in the baseline is a regression, however few.
        rises: how much more a trial may need than in the baseline, as (measure, share); a measure is `cost`, `tokens`
            or `seconds`.
        versus: name of the agent of the same run that takes the place of a baseline; empty for none.
        groups: rules for parts of the tasks, each with the tasks it is about.
        compares: whether the rule names something that needs a baseline.
        drops: whether `drop` applies; it does unless this is the rule of a group that names neither `drop` nor `alpha`.

    """

    drop: float = 0.05
    alpha: float = 0.05
    pass_rate: float | None = None
    each: bool = False
    flip: bool = False
    rises: tuple[tuple[str, float], ...] = ()
    groups: tuple[Group, ...] = ()
    versus: str = ""
    # How the rule was written, not what it means.
    compares: bool = field(default=False, compare=False)
    drops: bool = True

    @classmethod
    def parse(cls, text: str, *, of_group: bool = False) -> GateSpec:
        """Parse a rule; parts that it does not mention keep their defaults.

        Args:
            text: the rule.
            of_group: whether it is the rule of a group, which asks for no more than it mentions.

        Raises:
            ValueError: the rule is not valid; the message shows a valid one.

        """
        found: dict[str, float] = {}
        versus = ""
        for word in (word.strip() for word in text.split(",")):
            name, equals, value = word.partition("=")
            known = name in (*_SWITCHES, *_SHARES, *_MEASURES) or (name == "versus" and not of_group)
            if name in found or not known or bool(equals) == (name in _SWITCHES):
                raise ValueError(f"{word!r} is not valid; use {VALID}")
            if name == "versus":
                versus, found[name] = _agent_name(word, value), 1.0
                continue
            found[name] = _rise(word, value) if name in _MEASURES else _share(word, value) if equals else 1.0
        if found.get("alpha") == 0:
            raise ValueError(f"alpha=0 would never detect a regression; use {VALID}")
        return cls(
            drop=found.get("drop", cls.drop),
            alpha=found.get("alpha", cls.alpha),
            pass_rate=found.get("pass-rate"),
            each="each" in found,
            flip="flip" in found,
            versus=versus,
            rises=tuple((name, found[name]) for name in _MEASURES if name in found),
            drops=not of_group or "drop" in found or "alpha" in found,
            compares=any(name in found for name in _WITH_BASELINE),
        )

    @property
    def needs_baseline(self) -> bool:
        """Whether the rule cannot be applied without a baseline."""
        if self.versus:
            return False
        own = self.compares or (self.pass_rate is None and not self.each and not self.groups)
        return own or any(group.rule.needs_baseline for group in self.groups)

    @property
    def reference(self) -> str:
        """What rewards are compared with, in words."""
        return reference(self.versus)

    def missing_baseline(self, gate: str, baseline: str, save: str) -> str:
        """Return the message for a rule that compares, but has no baseline to compare with.

        Args:
            gate: the option that gave the rule.
            baseline: the option that gives a baseline.
            save: the option that makes one.

        """
        return (
            f"{gate}={self} compares with a baseline, and there is none; add {baseline}=FILE ({save}=FILE makes one "
            "from a run), or use a rule that needs none: pass-rate=SHARE, each, or versus=AGENT to compare the agents "
            "of this run"
        )

    def __str__(self) -> str:
        compares = self.needs_baseline or self.versus or (self.drop, self.alpha) != (GateSpec.drop, GateSpec.alpha)
        words = [f"drop={self.drop:g}", f"alpha={self.alpha:g}"] if compares and self.drops else []
        words += [] if self.pass_rate is None else [f"pass-rate={self.pass_rate:g}"]
        words += [f"{measure}=+{share * 100:g}%" for measure, share in self.rises]
        words += [name for name in _SWITCHES if getattr(self, name)]
        words += [f"versus={self.versus}"] if self.versus else []
        return "; ".join(
            [*([",".join(words)] if words else []), *(f"{each.name}: {each.rule}" for each in self.groups)]
        )


@dataclass(frozen=True)
class Group:
    """A part of the tasks, and its rule.

    Attributes:
        values: the category, difficulty or dataset; or globs for the names or ids of tasks.
        label: the name in reports; empty for what selects the tasks.

    """

    kind: Kind
    values: tuple[str, ...]
    rule: GateSpec
    label: str = ""

    @property
    def name(self) -> str:
        """The name in reports."""
        return self.label or f"{self.kind}:{','.join(self.values)}"


def reference(versus: str) -> str:
    """Return in words what rewards are compared with: an agent of the same run, or the baseline if none is named."""
    return f"agent {versus}" if versus else "the baseline"


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


def _agent_name(word: str, value: str) -> str:
    # It becomes part of titles in Markdown, and colons are for groups.
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._ -]*[A-Za-z0-9._-])?", value):
        raise ValueError(f"{word!r} does not name an agent; use {VALID}")
    return value


def _share(word: str, value: str) -> float:
    try:
        return parse_share(value)
    except ValueError:
        raise ValueError(f"{word!r} is not valid; use {VALID}") from None


def _rise(word: str, value: str) -> float:
    match = re.fullmatch(r"\+?([0-9]{1,6}(?:\.[0-9]{1,6})?)(%?)", value)
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    # cost=20 may mean 20% or 20 times as much.
    if match is None or (not match[2] and share > 1):
        raise ValueError(f"{word!r} is not valid; use {word.partition('=')[0]}=+20% for a rise by at most a fifth")
    return share

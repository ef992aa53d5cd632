"""Rises of cost, tokens or time from the baseline to a run, and whether a rule allows them.

Each task is paired with itself, and the rise is the geometric mean of the tasks' ratios. Ratios make every task count
alike, however expensive it is, and with their logarithms a single trial that ran away cannot decide, while breakage
that makes several tasks many times as expensive still shows. The interval is Student's, over tasks. A baseline often
has more attempts than a run; the logarithm of a mean of few skewed values is too low on average, which is corrected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, pvariance

from pytest_harbor._util.text import listed, plural
from pytest_harbor.gate.baseline import Sample
from pytest_harbor.gate.comparison import Comparison, Pair
from pytest_harbor.gate.significance import is_replayed
from pytest_harbor.gate.spec import GateSpec, Word
from pytest_harbor.gate.statistics import mean_interval

# Values below this share of the mean over tasks count as that much: twice almost nothing is almost nothing.
FLOOR = 0.01
# Beyond it, exp() overflows; no rise is that large.
LARGEST_LOG = 700.0
# The most names of tasks in a message.
MAX_NAMES = 5


@dataclass(frozen=True)
class Rise:
    """How much more one agent needed of something than in the baseline.

    Attributes:
        measure: `cost`, `tokens` or `seconds` (of the agent's phase), each per trial.
        allowed: the largest rise that the rule allows, as a share.
        change: the estimated rise, as a share; NaN if it is not known.
        interval: its confidence interval, infinite if a single task says nothing about chance.
        level: the confidence level of the interval.
        tasks: the number of tasks for which the measure is known.
        total: the number of tasks that were compared.
        unknown: why it is not known for enough tasks; empty if it is.

    """

    agent: str
    measure: str
    allowed: float
    word: Word
    change: float = math.nan
    interval: tuple[float, float] = (-math.inf, math.inf)
    level: float = 0.95
    tasks: int = 0
    total: int = 0
    unknown: str = ""

    def __str__(self) -> str:
        allowed = f"allowed {_percent(self.allowed)}: {self.word}"
        if self.unknown:
            return f"{self.agent}: {self.measure}: {self.unknown}; {allowed}"
        low, high = self.interval
        tasks = plural(self.total, "task") if self.tasks == self.total else f"{self.tasks} of {self.total} tasks"
        ends = _percent(low), _percent(high)
        shown = math.isfinite(high) and ends[0] != ends[1]
        interval = f", {round(self.level * 100, 6):g}% interval {ends[0]} to {ends[1]}" if shown else ""
        chance = ", may be chance" if self.word == "inconclusive" else ""
        change = f"{_percent(self.change)} per trial over {tasks}{interval}"
        return f"{self.agent}: {self.measure} {change}, {allowed}{chance}"


def find_rises(comparison: Comparison, spec: GateSpec, min_coverage: float) -> list[Rise]:
    """Return a rise for each measure that a rule limits.

    Args:
        comparison: the comparison of one agent with the baseline.
        spec: the rule.
        min_coverage: the least share of the compared tasks for which a measure must be known.

    """
    return [_rise(comparison, measure, allowed, spec.alpha, min_coverage) for measure, allowed in spec.rises]


def _rise(comparison: Comparison, measure: str, allowed: float, alpha: float, min_coverage: float) -> Rise:
    agent, pairs = comparison.agent, comparison.pairs
    known = [pair for pair in pairs if None not in (_value(pair.before, measure), _value(pair.after, measure))]
    if not known or len(known) < min_coverage * len(pairs):
        return Rise(agent, measure, allowed, "not judged", total=len(pairs), unknown=_why_unknown(pairs, measure))
    # The calls of a replay cost what they cost when they were recorded, in every attempt.
    exact = measure != "seconds" and all(is_replayed(sample) for pair in known for sample in (pair.before, pair.after))
    log_ratios = _log_ratios(known, measure)
    center = fmean(log_ratios)
    low, high = (center, center) if exact else mean_interval(log_ratios, 1 - alpha)
    shift = 0.0 if exact else _correction(known, log_ratios)
    change, lower, upper = (_as_share(value + shift) for value in (center, low, high))
    # Allow for rounding, also that of the values in a baseline.
    limit = allowed + 1e-6
    word: Word = "pass" if change <= limit else "regressed" if lower > limit else "inconclusive"
    return Rise(agent, measure, allowed, word, change, (lower, upper), 1 - alpha, len(known), len(pairs))


def _value(sample: Sample, measure: str) -> float | None:
    """Return the mean per trial of one task, None if it is not known."""
    if measure == "seconds":
        return sample.agent_seconds or None
    usage = sample.usage
    if measure == "cost":
        return usage.get("cost")
    both = (usage.get("input_tokens"), usage.get("output_tokens"))
    return None if both[0] is None or both[1] is None else both[0] + both[1]


def _log_ratios(pairs: Iterable[Pair], measure: str) -> list[float]:
    values = [(_value(pair.before, measure) or 0.0, _value(pair.after, measure) or 0.0) for pair in pairs]
    floor = FLOOR * fmean(max(value, 0.0) for both in values for value in both)
    if not floor:
        return [0.0] * len(values)
    return [math.log(max(after, floor) / max(before, floor)) for before, after in values]


def _correction(pairs: Iterable[Pair], log_ratios: Iterable[float]) -> float:
    """Return what the mean of the log ratios lacks because one side has more attempts than the other.

    The logarithm of the mean of m values with the relative variance v is too low by v / 2m on average, and a log ratio
    then varies by v / m on either side together.
    """
    attempts = [(len(pair.before.rewards), len(pair.after.rewards)) for pair in pairs]
    return pvariance(log_ratios) / 2 * fmean((before - after) / (before + after) for before, after in attempts)


def _as_share(log_ratio: float) -> float:
    return math.expm1(min(log_ratio, LARGEST_LOG)) if log_ratio < math.inf else math.inf


def _percent(share: float) -> str:
    return f"{round(share, 3):+,.1%}".replace(".0%", "%")


def _why_unknown(pairs: Iterable[Pair], measure: str) -> str:
    """Return for which tasks a measure is not known, and how to get it."""
    pairs = list(pairs)
    for where, samples in (
        ("in this run", [pair.after for pair in pairs]),
        ("in the baseline", [pair.before for pair in pairs]),
    ):
        tasks = [pair.task for pair, sample in zip(pairs, samples, strict=True) if _value(sample, measure) is None]
        if not tasks:
            continue
        fix = "" if where == "in this run" else ", and save it again"
        how = "run with --harbor-proxy, which measures it" + (", and with all prices" if measure == "cost" else "")
        how = f"; {how}{fix}" if measure != "seconds" else "; save it again" if fix else ""
        return f"unknown {where} for {len(tasks)} of {plural(len(pairs), 'task')} ({listed(tasks, MAX_NAMES)}){how}"
    return "unknown"

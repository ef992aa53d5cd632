"""The verdict on a run: `pass`, `regressed` or `inconclusive`, with its reasons.

A run has regressed if its mean reward dropped by at least `drop` and the drop is statistically significant, or if that
holds for a single task. With few attempts, Fisher's exact test raises far fewer false alarms than its level allows, so
both tests together stay below alpha; benchmarks/gate.py measures it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist, fmean, stdev
from typing import Literal

from pytest_harbor._util.text import plural
from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.spec import GateSpec
from pytest_harbor.gate.statistics import discoveries, fisher, mean_interval, sign_flip

Word = Literal["pass", "regressed", "inconclusive"]

INCONCLUSIVE = 10
"""The exit status of an inconclusive run; pytest's own exit statuses end at 5."""

# The part of alpha spent on the test of the mean.
MEAN_TEST_SHARE = 0.85
# The chance that the suggested number of attempts settles it, if the estimate is right.
POWER = 0.8


@dataclass(frozen=True)
class Limit:
    """The most trials that may go without a meaningful reward: a number, or a share of all trials."""

    value: float = 0.1
    share: bool = True

    def is_exceeded(self, number: int, total: int) -> bool:
        """Return True if a number of trials out of a total is too many."""
        return number > (self.value * total if self.share else self.value)

    def __str__(self) -> str:
        return f"{self.value:.0%}" if self.share else f"{self.value:g}"

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse `3` as a number of trials, `0.1` or `10%` as a share.

        Raises:
            ValueError: the text is neither; the message shows what is valid.

        """
        if re.fullmatch(r"[0-9]{1,9}", text):
            return cls(int(text), share=False)
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%|(0?\.[0-9]+|1\.0+)", text)
        value = (float(match[1]) / 100 if match[1] else float(match[2])) if match else -1.0
        if not 0 <= value <= 1:
            raise ValueError("use a number of trials such as 3, or a share such as 0.1 or 10%")
        return cls(value)


@dataclass(frozen=True)
class Pair:
    """One agent's results on one task, before and after.

    Attributes:
        significant: whether this task alone has regressed, by Fisher's test corrected for all tasks.

    """

    task: str
    agent: str
    before: Sample
    after: Sample
    significant: bool = False

    @property
    def difference(self) -> float:
        """The mean reward after minus the mean reward before."""
        return self.after.mean - self.before.mean


@dataclass(frozen=True)
class Comparison:
    """The comparison of one agent with the baseline.

    Attributes:
        estimate: mean over tasks of the change of the mean reward.
        interval: 95% confidence interval of the estimate, over tasks.
        p_value: p-value of the sign-flip test against "no worse".
        attempts: attempts per task that would settle an undecided comparison; None if it is decided or unknown.

    """

    agent: str
    pairs: tuple[Pair, ...]
    estimate: float
    interval: tuple[float, float]
    p_value: float
    attempts: int | None = None

    @property
    def regressions(self) -> tuple[Pair, ...]:
        """The tasks with a lower reward, the worst first."""
        return tuple(sorted((p for p in self.pairs if p.difference < 0), key=lambda p: (p.difference, p.task)))

    @property
    def improvements(self) -> tuple[Pair, ...]:
        """The tasks with a higher reward, the best first."""
        return tuple(sorted((p for p in self.pairs if p.difference > 0), key=lambda p: (-p.difference, p.task)))

    def mean_usage(self, *names: str) -> tuple[float, float] | None:
        """Return the mean usage per trial before and after, averaged over tasks. It does not affect the verdict.

        Args:
            names: keys of Sample.usage to add up.

        Returns:
            None if one of them is unknown for any task.

        """
        samples = [(pair.before.usage, pair.after.usage) for pair in self.pairs]
        if not all(name in usage for both in samples for usage in both for name in names):
            return None
        before, after = (fmean(sum(both[when][name] for name in names) for both in samples) for when in (0, 1))
        return before, after


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reasons.

    Attributes:
        reasons: the reasons, the decisive one first.
        comparisons: one per agent that could be compared.
        not_compared: the tasks that could not be compared, by reason.
        flaky: tasks that both passed and failed in this run.

    """

    word: Word
    reasons: tuple[str, ...]
    spec: GateSpec
    comparisons: tuple[Comparison, ...] = ()
    not_compared: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)
    flaky: tuple[Key, ...] = ()

    def exit_status(self, inconclusive: Literal["fail", "pass"]) -> int:
        """Return the exit status for the verdict.

        Args:
            inconclusive: `fail` exits with 10 for an inconclusive verdict, `pass` with 0.

        """
        return {"pass": 0, "regressed": 1, "inconclusive": INCONCLUSIVE if inconclusive == "fail" else 0}[self.word]


def judge(
    run: Mapping[Key, Sample],
    baseline: Baseline | None,
    spec: GateSpec,
    limit: Limit | None = None,
    stopped: str = "",
    doubts: Sequence[str] = (),
) -> Verdict:
    """Judge a run.

    Args:
        run: the samples of the run.
        baseline: the baseline to compare with; None if the rule needs none.
        spec: the rule.
        limit: the most infrastructure errors, and the most unverified trials, before the run is inconclusive.
        stopped: why the run ended early; empty if it did not.
        doubts: other reasons why the run is inconclusive.

    """
    not_compared: dict[str, list[Key]] = {}
    comparisons: list[Comparison] = []
    if baseline is not None:
        pairs = _pairs(run, baseline, not_compared)
        agents = sorted({pair.agent for pair in pairs})
        comparisons = [_compare(agent, [pair for pair in pairs if pair.agent == agent], spec) for agent in agents]
    regressed = [*_broken_rules(run, spec), *(reason for each in comparisons for reason in _regressions(each, spec))]
    early_end = [f"the run was stopped: {stopped}"] if stopped else []
    unsure = [*early_end, *doubts, *_missing_data(run, limit or Limit())]
    if baseline is not None and not comparisons:
        unsure.append("no task of this run can be compared with the baseline")
    undecided = [reason for each in comparisons for reason in _undecided(each, spec)]
    word: Word = "inconclusive" if unsure else "regressed" if regressed else "inconclusive" if undecided else "pass"
    return Verdict(
        word,
        tuple([*unsure, *(regressed or undecided)] or [_pass_reason(comparisons, spec)]),
        spec,
        tuple(comparisons),
        {reason: tuple(keys) for reason, keys in not_compared.items()},
        tuple(key for key, sample in sorted(run.items()) if 0 < sample.passed < len(sample.rewards)),
    )


def _pairs(run: Mapping[Key, Sample], baseline: Baseline, not_compared: dict[str, list[Key]]) -> list[Pair]:
    pairs = []
    for key in sorted({*run, *baseline.samples}):
        before, after = baseline.samples.get(key), run.get(key)
        why = _why_not_comparable(before, after)
        if why or before is None or after is None:
            not_compared.setdefault(why, []).append(key)
        else:
            pairs.append(Pair(*key, before, after))
    return pairs


def _why_not_comparable(before: Sample | None, after: Sample | None) -> str:
    """Return why two samples cannot be compared, or an empty text if they can."""
    if after is None:
        return "in the baseline but not in this run"
    if before is None:
        return "not in the baseline"
    if not after.rewards:
        return "only infrastructure errors in this run"
    if not before.rewards:
        return "only infrastructure errors in the baseline"
    if before.digest != after.digest:
        return "the task has changed"
    if before.provider != after.provider:
        unknown = "an unknown provider"
        return f"ran on {after.provider or unknown}, the baseline on {before.provider or unknown}"
    return ""


def _compare(agent: str, pairs: Sequence[Pair], spec: GateSpec) -> Comparison:
    differences = [pair.difference for pair in pairs]
    tests = [
        fisher(pair.before.passed, len(pair.before.rewards), pair.after.passed, len(pair.after.rewards))
        for pair in pairs
    ]
    regressed = {
        place for place in discoveries(tests, spec.alpha) if pairs[place].difference <= -max(spec.drop, math.ulp(1.0))
    }
    marked = tuple(
        Pair(pair.task, pair.agent, pair.before, pair.after, place in regressed) for place, pair in enumerate(pairs)
    )
    estimate, p_value = fmean(differences), sign_flip(differences)
    interval = mean_interval(differences)
    comparison = Comparison(agent, marked, estimate, interval, p_value)
    if not _is_large(comparison, spec) or _is_significant(comparison, spec):
        return comparison
    return replace(comparison, attempts=_attempts_to_decide(comparison, spec))


def _is_large(comparison: Comparison, spec: GateSpec) -> bool:
    # Allow for rounding: the mean of tenths is not exactly a tenth.
    return comparison.estimate < 0 and comparison.estimate <= -spec.drop + 1e-9


def _is_significant(comparison: Comparison, spec: GateSpec) -> bool:
    return comparison.p_value <= spec.alpha * MEAN_TEST_SHARE


def _attempts_to_decide(comparison: Comparison, spec: GateSpec) -> int | None:
    """Return roughly how many attempts per task would make the estimated drop significant, None if that is unknown."""
    differences = [pair.difference for pair in comparison.pairs]
    if len(differences) < 2:
        return None
    normal = NormalDist()
    needed = normal.inv_cdf(1 - spec.alpha * MEAN_TEST_SHARE) + normal.inv_cdf(POWER)
    now = -comparison.estimate * math.sqrt(len(differences)) / (stdev(differences) or math.inf)
    if not now:
        return None
    least = min(min(len(pair.before.rewards), len(pair.after.rewards)) for pair in comparison.pairs)
    return max(least + 1, math.ceil(least * (needed / now) ** 2))


def _regressions(comparison: Comparison, spec: GateSpec) -> list[str]:
    reasons = []
    if _is_large(comparison, spec) and _is_significant(comparison, spec):
        reasons.append(f"{_describe(comparison)}, statistically significant (p = {comparison.p_value:.2g})")
    tasks = [pair.task for pair in comparison.pairs if pair.significant]
    if tasks:
        reasons.append(f"{comparison.agent}: statistically significant drop on {', '.join(tasks)}")
    return reasons


def _undecided(comparison: Comparison, spec: GateSpec) -> list[str]:
    if not _is_large(comparison, spec) or _is_significant(comparison, spec):
        return []
    advice = f"; about {comparison.attempts} attempts per task would settle it" if comparison.attempts else ""
    return [f"{_describe(comparison)}, not statistically significant (p = {comparison.p_value:.2g}){advice}"]


def _describe(comparison: Comparison) -> str:
    low, high = comparison.interval
    tasks = plural(len(comparison.pairs), "task")
    change = f"{comparison.agent}: mean reward change {comparison.estimate:+.3f} over {tasks}"
    return f"{change}, 95% interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) else change


def _pass_reason(comparisons: Iterable[Comparison], spec: GateSpec) -> str:
    changes = "; ".join(f"{_describe(each)} (p = {each.p_value:.2g})" for each in comparisons)
    return f"{changes}; no drop of {spec.drop:g} or more" if changes else "the run meets the rule"


def _broken_rules(run: Mapping[Key, Sample], spec: GateSpec) -> list[str]:
    """Return how the run breaks the parts of the rule that need no baseline."""
    graded = sum(len(sample.rewards) for sample in run.values())
    passed = sum(sample.passed for sample in run.values())
    reasons = []
    if spec.pass_rate is not None and graded and passed / graded < spec.pass_rate - 1e-9:
        reasons.append(
            f"pass rate {passed / graded:.1%} ({passed} of {graded}), below the required {spec.pass_rate:.1%}"
        )
    if spec.each and passed < graded:
        reasons.append(f"{graded - passed} of {graded} trials did not pass; the rule requires each to pass")
    return reasons


def _missing_data(run: Mapping[Key, Sample], limit: Limit) -> list[str]:
    """Return why the run has too few meaningful rewards to judge."""
    errors = sum(sample.errors for sample in run.values())
    unverified = sum(sample.unverified for sample in run.values())
    total = errors + sum(len(sample.rewards) for sample in run.values())
    if not total:
        return ["no trial ran"]
    reasons = []
    for number, what in ((errors, "infrastructure errors"), (unverified, "unverified")):
        if limit.is_exceeded(number, total):
            reasons.append(f"{number} of {total} trials are {what}, more than the limit of {limit}")
    if total == errors and not reasons:
        reasons.append("no trial was graded")
    return reasons

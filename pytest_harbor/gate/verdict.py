"""What a gate says of a run: `pass`, `regressed` or `inconclusive`, and everything that speaks for it.

A run has regressed when its mean reward fell by at least what matters, and more than two runs of one and the same
agent differ by chance; or when a single task did. Fisher's exact test of a few attempts errs far less often than its
level says, so that both questions together stay below alpha; benchmarks/gate.py shows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev
from typing import Literal

from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.spec import GateSpec
from pytest_harbor.gate.statistics import discoveries, fisher, mean_interval, sign_flip

Word = Literal["pass", "regressed", "inconclusive"]

INCONCLUSIVE = 10
"""The exit status of a run that nothing can be said about; pytest's own end at 5."""

# The share of alpha that the question about the mean may use up.
SHARE_OF_MEAN = 0.85
# The chance that the number of attempts advised decides, if the estimate is right.
POWER = 0.8


@dataclass(frozen=True)
class Limit:
    """How many trials may say nothing: a number of them, or a share of all."""

    value: float = 0.1
    share: bool = True

    def exceeded(self, number: int, whole: int) -> bool:
        """Tell whether a number of trials of a whole is too many."""
        return number > (self.value * whole if self.share else self.value)

    def __str__(self) -> str:
        return f"{self.value:.0%}" if self.share else f"{self.value:g}"

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read `3` as a number of trials, `0.1` or `10%` as a share of them.

        Raises:
            ValueError: it is neither; the message says what is.

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
    """One task before and after, of one agent.

    Attributes:
        significant: whether this task alone has regressed, by Fisher's test and with all others in mind.

    """

    task: str
    agent: str
    before: Sample
    after: Sample
    significant: bool = False

    @property
    def difference(self) -> float:
        """Mean reward after minus before."""
        return self.after.mean - self.before.mean


@dataclass(frozen=True)
class Comparison:
    """All pairs of one agent.

    Attributes:
        estimate: mean over tasks of the difference of mean rewards.
        interval: 95 % interval of that mean, over tasks.
        p_value: of the sign-flip test against "no worse".
        attempts: how many attempts a task would decide, where the data do not; None otherwise.

    """

    agent: str
    pairs: tuple[Pair, ...]
    estimate: float
    interval: tuple[float, float]
    p_value: float
    attempts: int | None = None

    @property
    def regressions(self) -> tuple[Pair, ...]:
        """The tasks that did worse, the worst first."""
        return tuple(sorted((p for p in self.pairs if p.difference < 0), key=lambda p: (p.difference, p.task)))

    @property
    def improvements(self) -> tuple[Pair, ...]:
        """The tasks that did better, the best first."""
        return tuple(sorted((p for p in self.pairs if p.difference > 0), key=lambda p: (-p.difference, p.task)))

    def mean_usage(self, *names: str) -> tuple[float, float] | None:
        """Return what a trial used before and after, by the mean over tasks; it decides nothing.

        Args:
            names: keys of Sample.usage, which are added up.

        Returns:
            None where one of them is not known of a single task.

        """
        samples = [(pair.before.usage, pair.after.usage) for pair in self.pairs]
        if not all(name in usage for both in samples for usage in both for name in names):
            return None
        before, after = (fmean(sum(both[when][name] for name in names) for both in samples) for when in (0, 1))
        return before, after


@dataclass(frozen=True)
class Verdict:
    """What a gate says, and why.

    Attributes:
        reasons: why, a sentence each, the one that decided first.
        comparisons: one an agent that could be compared.
        left_out: why tasks were not compared, and which.
        flaky: tasks that passed and failed in this run.

    """

    word: Word
    reasons: tuple[str, ...]
    spec: GateSpec
    comparisons: tuple[Comparison, ...] = ()
    left_out: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)
    flaky: tuple[Key, ...] = ()

    def exit_status(self, inconclusive: Literal["fail", "pass"]) -> int:
        """Return the exit status of a process; `fail` gives a verdict that cannot be reached one of its own."""
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
        run: what was run.
        baseline: what to compare with; None where the rule needs none.
        spec: the rule.
        limit: how many infrastructure errors, and how many unverified trials, leave it worth judging.
        stopped: why it ended before its end; empty where it did not.
        doubts: why else it says too little to be judged.

    """
    left_out: dict[str, list[Key]] = {}
    comparisons: list[Comparison] = []
    if baseline is not None:
        pairs = _pairs(run, baseline, left_out)
        agents = sorted({pair.agent for pair in pairs})
        comparisons = [_compare(agent, [pair for pair in pairs if pair.agent == agent], spec) for agent in agents]
    regressed = [*_absolute(run, spec), *(reason for each in comparisons for reason in _regressed(each, spec))]
    halted = [f"the run was stopped: {stopped}"] if stopped else []
    unsure = [*halted, *doubts, *_unjudged(run, limit or Limit())]
    if baseline is not None and not comparisons:
        unsure.append("no task of this run can be compared with the baseline")
    open_questions = [reason for each in comparisons for reason in _undecided(each, spec)]
    word: Word = (
        "inconclusive" if unsure else "regressed" if regressed else "inconclusive" if open_questions else "pass"
    )
    return Verdict(
        word,
        tuple([*unsure, *(regressed or open_questions)] or [_passed(comparisons, spec)]),
        spec,
        tuple(comparisons),
        {reason: tuple(keys) for reason, keys in left_out.items()},
        tuple(key for key, sample in sorted(run.items()) if 0 < sample.passed < len(sample.rewards)),
    )


def _pairs(run: Mapping[Key, Sample], baseline: Baseline, left_out: dict[str, list[Key]]) -> list[Pair]:
    pairs = []
    for key in sorted({*run, *baseline.samples}):
        before, after = baseline.samples.get(key), run.get(key)
        why = _unfit(before, after)
        if why or before is None or after is None:
            left_out.setdefault(why, []).append(key)
        else:
            pairs.append(Pair(*key, before, after))
    return pairs


def _unfit(before: Sample | None, after: Sample | None) -> str:
    """Return why two samples cannot be compared; empty where they can."""
    if after is None:
        return "in the baseline and not in this run"
    if before is None:
        return "not in the baseline"
    if not after.rewards:
        return "nothing but infrastructure errors in this run"
    if not before.rewards:
        return "nothing but infrastructure errors in the baseline"
    if before.digest != after.digest:
        return "the task has changed"
    if before.provider != after.provider:
        return f"run by {after.provider or 'nothing known'}, the baseline by {before.provider or 'nothing known'}"
    return ""


def _compare(agent: str, pairs: Sequence[Pair], spec: GateSpec) -> Comparison:
    differences = [pair.difference for pair in pairs]
    tests = [
        fisher(pair.before.passed, len(pair.before.rewards), pair.after.passed, len(pair.after.rewards))
        for pair in pairs
    ]
    fallen = {
        place for place in discoveries(tests, spec.alpha) if pairs[place].difference <= -max(spec.drop, math.ulp(1.0))
    }
    marked = tuple(
        Pair(pair.task, pair.agent, pair.before, pair.after, place in fallen) for place, pair in enumerate(pairs)
    )
    estimate, p_value = fmean(differences), sign_flip(differences)
    interval = mean_interval(differences)
    comparison = Comparison(agent, marked, estimate, interval, p_value)
    if not _matters(comparison, spec) or _significant(comparison, spec):
        return comparison
    return Comparison(agent, marked, estimate, interval, p_value, _attempts(comparison, spec))


def _matters(comparison: Comparison, spec: GateSpec) -> bool:
    # Means of tenths are not quite tenths.
    return comparison.estimate < 0 and comparison.estimate <= -spec.drop + 1e-9


def _significant(comparison: Comparison, spec: GateSpec) -> bool:
    return comparison.p_value <= spec.alpha * SHARE_OF_MEAN


def _attempts(comparison: Comparison, spec: GateSpec) -> int | None:
    """Return about how many attempts a task would show a drop as large as the estimate, if there is one."""
    differences = [pair.difference for pair in comparison.pairs]
    if len(differences) < 2:
        return None
    normal = NormalDist()
    needed = normal.inv_cdf(1 - spec.alpha * SHARE_OF_MEAN) + normal.inv_cdf(POWER)
    now = -comparison.estimate * math.sqrt(len(differences)) / (stdev(differences) or math.inf)
    if not now:
        return None
    least = min(min(len(pair.before.rewards), len(pair.after.rewards)) for pair in comparison.pairs)
    return max(least + 1, math.ceil(least * (needed / now) ** 2))


def _regressed(comparison: Comparison, spec: GateSpec) -> list[str]:
    reasons = []
    if _matters(comparison, spec) and _significant(comparison, spec):
        reasons.append(f"{_estimate(comparison)}, which chance does not explain (p = {comparison.p_value:.2g})")
    single = [pair.task for pair in comparison.pairs if pair.significant]
    if single:
        reasons.append(f"{', '.join(single)} did worse beyond chance with {comparison.agent}")
    return reasons


def _undecided(comparison: Comparison, spec: GateSpec) -> list[str]:
    if not _matters(comparison, spec) or _significant(comparison, spec):
        return []
    advice = f"; about {comparison.attempts} attempts a task would decide" if comparison.attempts else ""
    return [f"{_estimate(comparison)}, which may be chance (p = {comparison.p_value:.2g}){advice}"]


def _estimate(comparison: Comparison) -> str:
    low, high = comparison.interval
    tasks = f"{len(comparison.pairs)} task{'' if len(comparison.pairs) == 1 else 's'}"
    said = f"{comparison.agent}: mean reward {comparison.estimate:+.3f} over {tasks}"
    return f"{said}, 95% interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) else said


def _passed(comparisons: Iterable[Comparison], spec: GateSpec) -> str:
    said = "; ".join(f"{_estimate(each)} (p = {each.p_value:.2g})" for each in comparisons)
    return f"{said}; no drop of {spec.drop:g} or more" if said else "the rule holds"


def _absolute(run: Mapping[Key, Sample], spec: GateSpec) -> list[str]:
    """Return which rules that need no baseline are broken."""
    graded = sum(len(sample.rewards) for sample in run.values())
    passed = sum(sample.passed for sample in run.values())
    reasons = []
    if spec.pass_rate is not None and graded and passed / graded < spec.pass_rate - 1e-9:
        reasons.append(
            f"pass rate {passed / graded:.1%} ({passed} of {graded}), and the rule asks for {spec.pass_rate:.1%}"
        )
    if spec.each and passed < graded:
        reasons.append(f"{graded - passed} of {graded} trials did not pass, and the rule asks for each")
    return reasons


def _unjudged(run: Mapping[Key, Sample], limit: Limit) -> list[str]:
    """Return why a run says too little to be judged."""
    errors = sum(sample.errors for sample in run.values())
    unverified = sum(sample.unverified for sample in run.values())
    whole = errors + sum(len(sample.rewards) for sample in run.values())
    if not whole:
        return ["nothing was run"]
    reasons = []
    for number, what in ((errors, "infrastructure errors"), (unverified, "unverified trials")):
        if limit.exceeded(number, whole):
            reasons.append(f"{number} of {whole} trials are {what}, and more than {limit} are too many")
    if whole == errors and not reasons:
        reasons.append("nothing was graded")
    return reasons

"""The comparison of a run with a baseline: each task is paired with itself, and each agent is compared with itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, stdev

from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.spec import GateSpec
from pytest_harbor.gate.statistics import discoveries, fisher, mean_interval, reward_range, sign_flip

# The part of alpha spent on the test of the mean.
MEAN_TEST_SHARE = 0.85
# The chance that the suggested number of attempts settles it, if the estimate is right.
POWER = 0.8
# The most attempts that are worth suggesting.
MAX_ATTEMPTS = 100


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
    def before(self) -> float:
        """The mean over tasks of the mean reward in the baseline."""
        return fmean(pair.before.mean for pair in self.pairs)

    @property
    def after(self) -> float:
        """The mean over tasks of the mean reward in the run."""
        return fmean(pair.after.mean for pair in self.pairs)

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


def compare_all(
    run: Mapping[Key, Sample], baseline: Baseline | None, spec: GateSpec, not_compared: dict[str, list[Key]]
) -> list[Comparison]:
    """Return a comparison per agent, and add what cannot be compared to `not_compared`."""
    pairs = _pairs(run, baseline, not_compared) if baseline is not None else []
    agents = sorted({pair.agent for pair in pairs})
    return [_compare(agent, [pair for pair in pairs if pair.agent == agent], spec) for agent in agents]


def _pairs(run: Mapping[Key, Sample], baseline: Baseline, not_compared: dict[str, list[Key]]) -> list[Pair]:
    pairs = []
    known, here = set(baseline.agents), {agent for _, agent in run}
    for key in sorted({*run, *baseline.samples}):
        before, after = baseline.samples.get(key), run.get(key)
        if key[1] not in known or (key[1] not in here and here - known):
            # A new agent, or one that may have been renamed: a reason of the verdict names it, once.
            continue
        why = _why_not_comparable(before, after)
        if after is None and key[1] not in here:
            why = f"agent {key[1]} of the baseline is not in this run"
        if why or before is None or after is None:
            not_compared.setdefault(why, []).append(key)
        else:
            pairs.append(Pair(*key, before.graded_by(after.threshold), after))
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
    # What is possible for the change: the mean reward after it is a reward, too.
    lowest, highest = reward_range(reward for pair in pairs for reward in (*pair.before.rewards, *pair.after.rewards))
    before = fmean(pair.before.mean for pair in pairs)
    interval = mean_interval(differences, bounds=(lowest - before, highest - before))
    comparison = Comparison(agent, marked, estimate, interval, p_value)
    if not is_large(comparison, spec) or is_significant(comparison, spec):
        return comparison
    return replace(comparison, attempts=_attempts_to_decide(comparison, spec))


def is_large(comparison: Comparison, spec: GateSpec) -> bool:
    """Return True if the mean reward fell by at least as much as the rule says matters."""
    # Allow for rounding: the mean of tenths is not exactly a tenth.
    return comparison.estimate < 0 and comparison.estimate <= -spec.drop + 1e-9


def is_significant(comparison: Comparison, spec: GateSpec) -> bool:
    """Return True if the change of the mean reward is statistically significant."""
    return comparison.p_value <= spec.alpha * MEAN_TEST_SHARE


def fewest_tasks(spec: GateSpec) -> int:
    """Return how many tasks it takes for a drop of the mean to be significant, even if all of them got worse."""
    return math.ceil(-math.log2(spec.alpha * MEAN_TEST_SHARE))


def _attempts_to_decide(comparison: Comparison, spec: GateSpec) -> int | None:
    """Return roughly how many attempts per task would make the estimated drop significant, None if that is unknown."""
    if len(comparison.pairs) < fewest_tasks(spec):
        return _attempts_of_single_tasks(comparison, spec)
    differences = [pair.difference for pair in comparison.pairs]
    normal = NormalDist()
    needed = normal.inv_cdf(1 - spec.alpha * MEAN_TEST_SHARE) + normal.inv_cdf(POWER)
    now = -comparison.estimate * math.sqrt(len(differences)) / (stdev(differences) or math.inf)
    if not now:
        return None
    least = min(min(len(pair.before.rewards), len(pair.after.rewards)) for pair in comparison.pairs)
    return max(least + 1, math.ceil(least * (needed / now) ** 2))


def _attempts_of_single_tasks(comparison: Comparison, spec: GateSpec) -> int | None:
    """Return how many attempts would make the drop of a single task significant, if its pass rates stayed the same."""
    sizes = [len(sample.rewards) for pair in comparison.pairs for sample in (pair.before, pair.after)]
    for attempts in range(min(sizes) + 1, MAX_ATTEMPTS + 1):
        tests = [
            fisher(*(count for sample in (pair.before, pair.after) for count in (_scaled(sample, attempts), attempts)))
            for pair in comparison.pairs
        ]
        if discoveries(tests, spec.alpha):
            return attempts
    return None


def _scaled(sample: Sample, attempts: int) -> int:
    return round(sample.passed / len(sample.rewards) * attempts)

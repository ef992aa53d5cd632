"""The comparison of a run with a baseline: each task is paired with itself, and each agent is compared with itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pytest_harbor.gate.advice import Advice, advise
from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.significance import Significance, assess, flipped, is_replayed
from pytest_harbor.gate.spec import GateSpec, reference
from pytest_harbor.gate.statistics import mean_interval, reward_range


@dataclass(frozen=True)
class Pair:
    """One agent's results on one task, before and after.

    Attributes:
        significant: whether this task got worse by itself, more than chance explains.
        versus: name of the agent that was compared with; empty for the same agent in the baseline.

    """

    task: str
    agent: str
    before: Sample
    after: Sample
    significant: bool = False
    versus: str = ""

    @property
    def reference(self) -> str:
        """What rewards are compared with, in words."""
        return reference(self.versus)

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
        significance: what the attempts say.
        flips: the tasks that are worse in every attempt than in every attempt before, if the rule counts these without
            statistics, or if model calls were replayed.
        settled: whether an agent that has not regressed is good enough, after attempts in rounds.
        advice: how many attempts would settle an undecided comparison; None if it is decided or unknown.

    """

    agent: str
    pairs: tuple[Pair, ...]
    estimate: float
    interval: tuple[float, float]
    significance: Significance
    flips: tuple[str, ...] = ()
    advice: Advice | None = None
    settled: bool = False

    @property
    def p_value(self) -> float:
        """The p-value of all tasks together against "no worse"."""
        return self.significance.p_value

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

    @property
    def mean_seconds(self) -> tuple[float, float]:
        """The mean seconds of the agent before and after, averaged over tasks; 0 if they are not known."""
        samples = [(pair.before, pair.after) for pair in self.pairs]
        before, after = (fmean(both[when].agent_seconds for both in samples) for when in (0, 1))
        return before, after

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
    pairs = _pairs(run, baseline, spec.versus, not_compared) if baseline is not None else []
    agents = sorted({pair.agent for pair in pairs})
    return [_compare(agent, [pair for pair in pairs if pair.agent == agent], spec) for agent in agents]


def _pairs(
    run: Mapping[Key, Sample], baseline: Baseline, versus: str, not_compared: dict[str, list[Key]]
) -> list[Pair]:
    pairs = []
    known, here = set(baseline.agents), {agent for _, agent in run}
    for key in sorted({*run, *baseline.samples}):
        before, after = baseline.samples.get(key), run.get(key)
        if key[1] not in known or (key[1] not in here and here - known):
            # A new agent, or one that may have been renamed: a reason of the verdict names it, once.
            continue
        why = _why_not_comparable(before, after, versus)
        if after is None and key[1] not in here:
            why = f"agent {key[1]} of the baseline is not in this run"
        if why or before is None or after is None:
            not_compared.setdefault(why, []).append(key)
        else:
            pairs.append(Pair(*key, before.graded_by(after.threshold), after, versus=versus))
    return pairs


def _why_not_comparable(before: Sample | None, after: Sample | None, versus: str) -> str:
    """Return why two samples cannot be compared, or an empty text if they can."""
    if after is None:
        return f"run by agent {versus} only" if versus else "in the baseline but not in this run"
    if before is None:
        return f"not run by agent {versus}" if versus else "not in the baseline"
    if not after.rewards:
        return "only infrastructure errors" if versus else "only infrastructure errors in this run"
    if not before.rewards:
        return f"only infrastructure errors {'of' if versus else 'in'} {reference(versus)}"
    if before.digest != after.digest:
        return "the task has changed"
    if before.provider != after.provider:
        unknown = "an unknown provider"
        return f"ran on {after.provider or unknown}, {reference(versus)} on {before.provider or unknown}"
    return ""


def _compare(agent: str, pairs: Sequence[Pair], spec: GateSpec) -> Comparison:
    before, after = [pair.before for pair in pairs], [pair.after for pair in pairs]
    found = assess(before, after, spec.alpha)
    matters = [pair.difference <= -max(spec.drop, math.ulp(1.0)) for pair in pairs]
    marked = tuple(
        replace(pair, significant=place in found.worse and matters[place]) for place, pair in enumerate(pairs)
    )
    counts_flips = spec.flip or all(map(is_replayed, after))
    flips = [pair.task for pair, much in zip(pairs, matters, strict=True) if much and flipped(pair.before, pair.after)]
    differences = [pair.difference for pair in pairs]
    # What is possible for the change: the mean reward after it is a reward, too.
    lowest, highest = reward_range(reward for sample in (*before, *after) for reward in sample.rewards)
    mean = fmean(sample.mean for sample in before)
    interval = mean_interval(differences, bounds=(lowest - mean, highest - mean))
    comparison = Comparison(agent, marked, fmean(differences), interval, found, tuple(flips) if counts_flips else ())
    if not is_large(comparison, spec) or is_significant(comparison, spec):
        return comparison
    return replace(comparison, advice=advise(before, after, spec.alpha, one_run=bool(spec.versus)))


def is_large(comparison: Comparison, spec: GateSpec) -> bool:
    """Return True if the mean reward fell by at least as much as the rule says matters."""
    # Allow for rounding: the mean of tenths is not exactly a tenth.
    return comparison.estimate < 0 and comparison.estimate <= -spec.drop + 1e-9


def is_significant(comparison: Comparison, spec: GateSpec) -> bool:
    """Return True if chance does not explain that rewards fell."""
    return comparison.p_value <= spec.alpha


def has_regressed(comparison: Comparison, spec: GateSpec) -> bool:
    """Return True if an agent got worse, chance does not explain it, and it matters."""
    if comparison.flips and (spec.drops or spec.flip):
        return True
    matters = is_large(comparison, spec) or any(pair.significant for pair in comparison.pairs)
    return spec.drops and is_significant(comparison, spec) and matters

"""Whether the attempts at several tasks show that an agent got worse, and at which tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

from pytest_harbor.gate.baseline import Sample
from pytest_harbor.gate.permutation import TaskTest, combined, task_test
from pytest_harbor.gate.statistics import poisson_tail

Attempts = Literal["independent", "alike"]

# Attempts of a run are alike if they vary less than this share of what independent attempts would vary.
ALIKE = 0.35
# If they vary less than this, and gains are as improbable as this, they depend on one another, too: an agent that only
# got worse shows no such gains.
RATHER_ALIKE, IMPROBABLE_GAINS = 0.7, 0.1
# The part of alpha that the test of all tasks together gets.
ALL_TASKS_SHARE = 0.9
# The levels at which tasks are counted as the worst.
TASK_LEVELS = (0.05, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
# With fewer tasks, that all attempts of a run are alike may be chance.
ALIKE_TASKS = 5
# If tasks of alike attempts only got worse, and at least so many, that is breakage. An unchanged agent whose runs
# differ at random would show it in at most 4.5% of runs: the greatest e**-m * P(Poisson(m) >= 3) over all m.
# Where all tasks did well before, one is enough: an agent whose runs differ at random fails in the baseline, too.
ALIKE_BROKEN = 3


@dataclass(frozen=True)
class Significance:
    """What the attempts say.

    Attributes:
        p_value: p-value of all tasks together against "no worse".
        attempts: `independent`; `alike` if the attempts within each run hardly differ and therefore count as one.
        naive: the p-value if the attempts counted as independent.
        worse: places of the tasks that got worse by themselves.

    """

    p_value: float
    attempts: Attempts
    naive: float
    worse: tuple[int, ...]


def assess(before: Sequence[Sample], after: Sequence[Sample], alpha: float) -> Significance:
    """Compare the attempts at the same tasks before and after.

    Args:
        before: the samples of the baseline, one per task.
        after: the samples of the run, in the same order.
        alpha: the significance level.

    """
    pairs = list(zip(before, after, strict=True))
    tests = [task_test(one.rewards, other.rewards) for one, other in pairs]
    p_value, worse = _test(tests, alpha)
    if not _depend(before, after, tests, alpha):
        return Significance(p_value, "independent", p_value, worse)
    if _is_breakage(before, after):
        return Significance(p_value, "alike", p_value, worse)
    once = combined([task_test(_means(one), _means(other)) for one, other in pairs])
    return Significance(once, "alike", p_value, ())


def _test(tests: Sequence[TaskTest], alpha: float) -> tuple[float, tuple[int, ...]]:
    """Return the p-value of two tests together, and the places of the tasks that got worse by themselves.

    Most of alpha goes to the test of all tasks, and the rest to that of the worst tasks.
    """
    all_tasks = combined(tests) / ALL_TASKS_SHARE
    of_worst, worst = _worst(tests)
    p_value = min(1.0, all_tasks, of_worst / (1 - ALL_TASKS_SHARE))
    return p_value, worst if max(of_worst, p_value) <= alpha else ()


def flipped(before: Sample, after: Sample) -> bool:
    """Return True if every attempt is worse than every attempt before."""
    return max(after.rewards) < min(before.rewards)


def is_replayed(sample: Sample) -> bool:
    """Return True if all model calls of a sample were answered from cassettes."""
    # The answers that were retried were replayed, too.
    return 0 < sample.usage.get("calls", 0.0) <= sample.usage.get("replayed", 0.0)


def _worst(tests: Sequence[TaskTest]) -> tuple[float, tuple[int, ...]]:
    """Return the p-value of the tasks with the smallest p-values, and their places.

    At each of a few levels, the number of tasks at or below it is compared with what chance has; the smallest p-value
    counts, corrected for the number of levels. It sees breakage however much the other tasks vary.
    """
    best: float = 1.0
    worst: tuple[int, ...] = ()
    for level in TASK_LEVELS:
        places = tuple(place for place, test in enumerate(tests) if test.p_value <= level)
        if (
            places
            and (p_value := len(TASK_LEVELS) * poisson_tail(len(places), sum(test.attainable(level) for test in tests)))
            < best
        ):
            best, worst = p_value, places
    return best, worst


def _depend(before: Sequence[Sample], after: Sequence[Sample], tests: Sequence[TaskTest], alpha: float) -> bool:
    """Return True if the attempts within each run depend on one another."""
    if len(before) < ALIKE_TASKS:
        return False
    variation = _variation(before, after)
    if variation < ALIKE:
        return True
    return variation < RATHER_ALIKE and _test([test.reversed() for test in tests], alpha)[0] <= IMPROBABLE_GAINS


def _variation(before: Sequence[Sample], after: Sequence[Sample]) -> float:
    """Return how much attempts vary within runs, as a share of what independent attempts would.

    If attempts are independent, the rewards of a task vary within runs as they vary altogether.
    """
    within = expected = 0.0
    for both in zip(before, after, strict=True):
        runs = [part.rewards for sample in both for part in sample.parts if part.rewards]
        total = variance([reward for rewards in runs for reward in rewards])
        expected += total * sum(len(rewards) - 1 for rewards in runs)
        within += sum(variance(rewards) * (len(rewards) - 1) for rewards in runs if len(rewards) > 1)
    return within / expected if expected else 1.0


def _is_breakage(before: Sequence[Sample], after: Sequence[Sample]) -> bool:
    """Return True if tasks whose attempts are alike got worse in a way that random runs would hardly show."""
    changes = [other.mean - one.mean for one, other in zip(before, after, strict=True)]
    means = [sample.mean for sample in before]
    least = 1 if 0 < max(means) <= 2 * min(means) else ALIKE_BROKEN
    return max(changes) <= 0 and sum(change < 0 for change in changes) >= least


def _means(sample: Sample) -> tuple[float, ...]:
    """Return the mean reward of each run."""
    return tuple(fmean(part.rewards) for part in sample.parts if part.rewards)

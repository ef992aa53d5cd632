"""How many attempts would settle a comparison that is undecided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from pytest_harbor.gate.baseline import Sample
from pytest_harbor.gate.permutation import combined, task_test

# The chance that the advised number of attempts settles it, if the rewards stay as they are.
POWER = 0.8
# The most attempts that are worth advising, per task and altogether.
MAX_ATTEMPTS, MAX_TRIALS = 50, 10_000


@dataclass(frozen=True)
class Advice:
    """How many attempts per task would make the drop significant, if it is real.

    Attributes:
        attempts: attempts per task of the run.
        both: whether the baseline needs as many, too.
        one_run: whether both are of this run, where they always have equally many.

    """

    attempts: int
    both: bool
    one_run: bool = False

    def __str__(self) -> str:
        where = "" if self.one_run else " both in the baseline and in this run" if self.both else " in this run"
        return f"about {self.attempts} attempts per task{where} would settle it"


def advise(before: Sequence[Sample], after: Sequence[Sample], alpha: float, *, one_run: bool = False) -> Advice | None:
    """Return the least number of attempts that is likely to settle it; None if the most that are worth it are too few.

    More attempts of the run alone are cheaper. They do not help if the baseline has too few.

    Args:
        before: the samples of the baseline, one per task.
        after: the samples of the run, in the same order.
        alpha: the significance level.
        one_run: whether both are of the same run.

    """
    normal = NormalDist()
    # If the expected result is this significant, the actual one is significant with the wanted power.
    level = normal.cdf(normal.inv_cdf(alpha) - normal.inv_cdf(POWER))

    def settles(attempts: int, *, both: bool) -> bool:
        tests = []
        for one, other in zip(before, after, strict=True):
            rewards = _scaled(one, attempts) if both and attempts > len(one.rewards) else one.rewards
            tests.append(task_test(rewards, _scaled(other, attempts)))
        return combined(tests) <= level

    least, most = min(len(sample.rewards) for sample in after) + 1, min(MAX_ATTEMPTS, MAX_TRIALS // len(after))
    for both in (True,) if one_run else (False, True):
        attempts = _first(least, most, partial(settles, both=both))
        if attempts is not None:
            return Advice(attempts, both, one_run)
    return None


def _first(least: int, most: int, holds: Callable[[int], bool]) -> int | None:
    """Return the first number in a range for which something holds that holds for all larger ones; None if none."""
    low, high = least, most
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _scaled(sample: Sample, attempts: int) -> tuple[float, ...]:
    """Return as many rewards with the distribution of a sample's."""
    rewards = sorted(sample.rewards)
    return tuple(rewards[(2 * place + 1) * len(rewards) // (2 * attempts)] for place in range(attempts))

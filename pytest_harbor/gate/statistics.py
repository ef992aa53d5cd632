"""The statistics behind verdicts, with the standard library only.

All tests are one-sided: a gate asks whether an agent got worse, not whether it changed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from statistics import fmean, stdev

# The permutation distribution is computed exactly up to this many different sums.
EXACT_STATES = 200_000
# Beyond that, it is sampled with this many random sign flips; the fixed seed gives a run the same verdict every time.
FLIPS = 20_000
SEED = 20_261
_DENOMINATOR = 10_000


def sign_flip(differences: Sequence[float]) -> float:
    """Return the p-value of paired differences against "no worse": a sign-flip permutation test of their sum.

    If nothing changed, each difference is as likely as its opposite. The p-value is the share of sign patterns with a
    sum at or below the observed one: exact if the sums can be enumerated, otherwise estimated from random patterns.

    Args:
        differences: one number per task, after minus before; zeros have no effect.

    """
    steps = _whole_numbers([difference for difference in differences if difference])
    if not steps:
        return 1.0
    observed = sum(steps)
    counts = _distribution([abs(step) for step in steps])
    if counts is not None:
        return float(Fraction(sum(count for total, count in counts.items() if total <= observed), 2 ** len(steps)))
    flips = random.Random(SEED)
    low = 0
    for _ in range(FLIPS):
        bits = flips.getrandbits(len(steps))
        low += sum(step if bits >> place & 1 else -step for place, step in enumerate(steps)) <= observed
    # Count the observed pattern as one of the samples.
    return (low + 1) / (FLIPS + 1)


def _whole_numbers(differences: Sequence[float]) -> list[int]:
    """Return the differences as multiples of a common unit, which means of a few rewards have."""
    fractions = [Fraction(difference).limit_denominator(_DENOMINATOR) for difference in differences]
    unit = math.lcm(*(fraction.denominator for fraction in fractions)) if fractions else 1
    return [int(fraction * unit) for fraction in fractions]


def _distribution(sizes: Sequence[int]) -> dict[int, int] | None:
    """Return the number of sign patterns by sum, or None if there are too many sums."""
    if min(2 * sum(sizes) + 1, 2 ** len(sizes)) > EXACT_STATES:
        return None
    counts = {0: 1}
    for size in sizes:
        following: dict[int, int] = {}
        for total, count in counts.items():
            following[total + size] = following.get(total + size, 0) + count
            following[total - size] = following.get(total - size, 0) + count
        counts = following
    return counts


def fisher(passed_before: int, before: int, passed_after: int, after: int) -> float:
    """Return the p-value of fewer passes after than before, by Fisher's exact test, one-sided.

    Args:
        passed_before: number of attempts that passed before.
        before: number of attempts before.
        passed_after: number of attempts that passed after.
        after: number of attempts after.

    """
    passed = passed_before + passed_after
    total = math.comb(before + after, passed)
    least = max(0, passed - before)
    return sum(math.comb(after, k) * math.comb(before, passed - k) for k in range(least, passed_after + 1)) / total


def discoveries(p_values: Sequence[float], rate: float) -> list[int]:
    """Return the null hypotheses to reject with a controlled false discovery rate (Benjamini and Hochberg).

    Args:
        p_values: one per hypothesis.
        rate: the false discovery rate, from 0 to 1.

    Returns:
        Positions in p_values, ascending.

    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = 0
    for rank, place in enumerate(order, 1):
        if p_values[place] <= rate * rank / len(p_values):
            rejected = rank
    return sorted(order[:rejected])


def pass_at_k(attempts: int, passed: int, k: int) -> float:
    """Return the unbiased estimate of the chance that at least one of k attempts passes (Chen et al., 2021).

    Raises:
        ValueError: there are fewer than k attempts.

    """
    _require_attempts(attempts, k)
    return 1.0 - math.comb(attempts - passed, k) / math.comb(attempts, k)


def pass_hat_k(attempts: int, passed: int, k: int) -> float:
    """Return the unbiased estimate of the chance that all of k attempts pass (pass^k).

    Raises:
        ValueError: there are fewer than k attempts.

    """
    _require_attempts(attempts, k)
    return math.comb(passed, k) / math.comb(attempts, k)


def _require_attempts(attempts: int, k: int) -> None:
    if not 1 <= k <= attempts:
        raise ValueError(f"k is {k}, and must be from 1 to the number of attempts, {attempts}")


def reward_range(rewards: Iterable[float]) -> tuple[float, float]:
    """Return the lowest and the highest reward that is possible: 0 and 1, unless some reward is outside."""
    return (0.0, 1.0) if all(0 <= reward <= 1 for reward in rewards) else (-math.inf, math.inf)


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """Return the confidence interval of a mean by Student's t; it is infinite for fewer than two values.

    Args:
        values: one per task.
        confidence: confidence level, from 0 to 1.
        bounds: the lowest and the highest mean that are possible.

    """
    if len(values) < 2:
        return -math.inf, math.inf
    half = student_quantile((1 + confidence) / 2, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    # Rounding may put the mean itself a hair outside.
    return min(max(fmean(values) - half, bounds[0]), fmean(values)), max(
        min(fmean(values) + half, bounds[1]), fmean(values)
    )


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution, by bisection of its cumulative distribution function."""
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while student(high, freedom) < probability:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if student(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def student(t: float, freedom: int) -> float:
    """Return the cumulative distribution function of Student's t."""
    tail = incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return 1 - tail if t > 0 else tail


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function, by Lentz's continued fraction."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction / a

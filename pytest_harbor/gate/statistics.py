"""The statistics of rates and means, with the standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev


def poisson_tail(count: int, mean: float) -> float:
    """Return the chance that a Poisson variable is at least as large as a count."""
    chance, below = math.exp(-mean), 0.0
    for k in range(count):
        below += chance
        chance *= mean / (k + 1)
    return max(0.0, 1 - below)


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

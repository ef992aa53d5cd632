"""Permutation tests of attempts: is an agent worse than before, given every attempt at every task?

If nothing changed, the attempts at a task before and after could have been swapped. So each task's attempts are
permuted among before and after, which is valid for any numbers of attempts and any rewards. All distributions are
computed exactly, but for the rounding of rewards and statistics, which changes the power and not the validity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

# Rewards of a task that are not just two numbers are rounded to so many levels between the lowest and the highest.
LEVELS = 20
# The step of the sums of logarithms, and the number of tasks from which the coarse one will do.
FINE, COARSE, MANY = 1 / 32, 1 / 8, 60
# Probabilities are numbers of 2**-_BITS, and a product of two of them fits into a slot.
_BITS = 46
_SLOT = 2 * _BITS + 4
# The smallest p-value that the precision allows.
SMALLEST = 1e-9


@dataclass(frozen=True)
class TaskTest:
    """The permutation distribution of one task: of the sum of the rewards after.

    Attributes:
        weights: the number of permutations for each possible sum, ascending.
        observed: the place of the observed sum.

    """

    weights: tuple[int, ...]
    observed: int

    @cached_property
    def p_value(self) -> float:
        """The chance of a sum this low or lower if nothing changed."""
        return sum(self.weights[: self.observed + 1]) / sum(self.weights)

    def attainable(self, level: float) -> float:
        """Return the chance of a p-value at or below a level if nothing changed."""
        total, chance = sum(self.weights), 0
        for weight in self.weights:
            if (chance + weight) / total > level:
                break
            chance += weight
        return chance / total

    @property
    def says_something(self) -> bool:
        """Whether permuting the attempts makes a difference at all."""
        return len(self.weights) > 1

    def reversed(self) -> TaskTest:
        """Return the test of the opposite: that the rewards after are higher."""
        return TaskTest(self.weights[::-1], len(self.weights) - 1 - self.observed)


def task_test(before: Sequence[float], after: Sequence[float]) -> TaskTest:
    """Return the permutation test of the rewards at one task.

    Args:
        before: the rewards of the attempts before, at least one.
        after: the rewards of the attempts after, at least one.

    """
    low, high = min(*before, *after), max(*before, *after)
    if low == high:
        return TaskTest((1,), 0)
    levels = 1 if all(reward in (low, high) for reward in (*before, *after)) else LEVELS

    def steps(rewards: Sequence[float]) -> tuple[int, ...]:
        return tuple(sorted(round((reward - low) / (high - low) * levels) for reward in rewards))

    return _distribution(steps(before), steps(after))


@lru_cache(maxsize=4096)
def _distribution(before: tuple[int, ...], after: tuple[int, ...]) -> TaskTest:
    """Return the distribution of the sum of as many numbers as there are after, drawn from all of them."""
    pool = (*before, *after)
    width = math.comb(len(pool), len(after)).bit_length()
    # The numbers of subsets by size and sum: a number per size, in which each sum has `width` bits.
    subsets = [1, *(0 for _ in after)]
    for number in pool:
        for size in range(len(after), 0, -1):
            subsets[size] += subsets[size - 1] << number * width
    counts = list(_slots(subsets[-1], width))
    place = sum(after)
    observed = sum(1 for count in counts[:place] if count)
    return TaskTest(tuple(count for count in counts if count), observed)


def combined(tests: Sequence[TaskTest]) -> float:
    """Return the p-value of all tasks together against "no worse".

    The statistic is the sum over tasks of -log(mid-p). It sees both a small loss on every task and a few tasks that
    broke. Its distribution is that of the same permutations.

    Args:
        tests: one per task.

    """
    telling = [test for test in tests if test.says_something]
    if not telling:
        return 1.0
    step = FINE if len(telling) < MANY else COARSE
    observed = sum(_scores(test.weights, step)[test.observed] for test in telling)
    factors = [_factor(test.weights, step) for test in telling]
    limit = (1 << observed * _SLOT) - 1
    below: int = sum(_slots(_product(factors, limit), _SLOT))
    return min(1.0, max(SMALLEST, 1 - below / float(2**_BITS)))


@lru_cache(maxsize=4096)
def _scores(weights: tuple[int, ...], step: float) -> tuple[int, ...]:
    """Return -log(mid-p) of each sum, in steps."""
    total, lower, scores = sum(weights), 0, []
    for weight in weights:
        scores.append(round(-math.log((lower + weight / 2) / total) / step))
        lower += weight
    return tuple(scores)


@lru_cache(maxsize=4096)
def _factor(weights: tuple[int, ...], step: float) -> int:
    """Return the distribution of a task's score as one number: a slot of bits per score."""
    total, number = sum(weights), 0
    for weight, score in zip(weights, _scores(weights, step), strict=True):
        number += (weight << _BITS) // total << score * _SLOT
    return number


def _product(factors: list[int], limit: int) -> int:
    """Return the distribution of a sum of scores: a convolution, by the multiplication of whole numbers.

    Args:
        factors: one distribution per task.
        limit: a mask of the scores that are needed.

    """
    while len(factors) > 1:
        pairs = zip(factors[::2], factors[1::2], strict=False)
        factors = [_rounded(one * other, limit) for one, other in pairs] + factors[len(factors) // 2 * 2 :]
    return factors[0] & limit


def _rounded(product: int, limit: int) -> int:
    product = (product & limit) >> _BITS
    size = -(-product.bit_length() // _SLOT)
    return product & _mask(1 << (size - 1).bit_length() if size else 1)


@lru_cache(maxsize=64)
def _mask(size: int) -> int:
    """Return a mask of the low bits of so many slots, which takes away what a shift brought in from the next slot."""
    mask, have = (1 << _SLOT - _BITS) - 1, 1
    while have < size:
        mask |= mask << have * _SLOT
        have *= 2
    return mask


def _slots(number: int, width: int) -> Iterator[int]:
    """Yield the numbers in the slots of a number, the lowest first."""
    data, mask = number, (1 << width) - 1
    size = max(1, -(-number.bit_length() // width))
    if size > 64:
        # Halves, as shifting a large number slot by slot takes quadratic time.
        half = size // 2
        yield from _padded(_slots(data & (1 << half * width) - 1, width), half)
        yield from _slots(data >> half * width, width)
        return
    for _ in range(size):
        yield data & mask
        data >>= width


def _padded(slots: Iterator[int], size: int) -> Iterator[int]:
    for _ in range(size):
        yield next(slots, 0)

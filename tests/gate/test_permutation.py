"""Permutation tests, checked against enumeration and SciPy."""

import itertools
import math
import random

import pytest

from pytest_harbor.gate.permutation import FINE, LEVELS, TaskTest, combined, task_test

stats = pytest.importorskip("scipy.stats")


def test_one_task_that_passes_or_fails_is_fishers_exact_test():
    for before, after in itertools.product(range(1, 7), repeat=2):
        for x, y in itertools.product(range(before + 1), range(after + 1)):
            test = task_test([1.0] * x + [0.0] * (before - x), [1.0] * y + [0.0] * (after - y))
            expected = stats.fisher_exact([[y, after - y], [x, before - x]], "less").pvalue
            assert test.p_value == pytest.approx(expected, abs=1e-12)


def test_rewards_between_count_as_numbers():
    rng = random.Random(1)
    for _ in range(50):
        # Multiples of a level, so that nothing is rounded.
        before, after = ([rng.randrange(LEVELS + 1) / LEVELS for _ in range(size)] for size in (4, 3))
        pool = [0.0, 1.0, *before, *after]
        sums = [round(sum(some), 9) for some in itertools.combinations(pool, 4)]
        expected = sum(each <= round(sum(after) + 1, 9) for each in sums) / math.comb(9, 4)
        assert task_test([0.0, *before], [1.0, *after]).p_value == pytest.approx(expected)


def test_attempts_that_are_all_equal_say_nothing():
    assert task_test([0.5, 0.5], [0.5]) == TaskTest((1,), 0)
    assert combined([task_test([1.0], [1.0])] * 3) == 1.0


def scores(test: TaskTest) -> list[int]:
    total, lower, found = sum(test.weights), 0, []
    for weight in test.weights:
        found.append(round(-math.log((lower + weight / 2) / total) / FINE))
        lower += weight
    return found


def enumerated(tests: list[TaskTest]) -> float:
    """Return the p-value of all tasks together by going through all combinations."""
    tables = [(test, scores(test)) for test in tests if test.says_something]
    observed = sum(table[test.observed] for test, table in tables)
    found = 0.0
    for places in itertools.product(*(range(len(test.weights)) for test, _ in tables)):
        if sum(table[place] for (_, table), place in zip(tables, places, strict=True)) >= observed:
            found += math.prod(
                test.weights[place] / sum(test.weights) for (test, _), place in zip(tables, places, strict=True)
            )
    return found


def test_all_tasks_together():
    rng = random.Random(2)
    for _ in range(60):
        tests = [
            task_test(*([float(rng.random() < 0.5) for _ in range(rng.randint(1, 5))] for _ in range(2)))
            for _ in range(rng.randint(1, 5))
        ]
        assert combined(tests) == pytest.approx(enumerated(tests), abs=1e-9)


def test_many_tasks_of_many_attempts():
    rng = random.Random(3)
    tests = []
    for _ in range(400):
        chance = rng.random()
        tests.append(task_test(*([float(rng.random() < chance) for _ in range(rng.randint(8, 10))] for _ in range(2))))
    # The chance estimated from random permutations: each task's place is drawn by its weights.
    tables = [(test, scores(test)) for test in tests if test.says_something]
    observed = sum(table[test.observed] for test, table in tables)
    draws = 2000
    totals = [sum(rng.choices(table, weights=test.weights)[0] for test, table in tables) for _ in range(draws)]
    assert combined(tests) == pytest.approx(sum(total >= observed for total in totals) / draws, abs=0.05)


def test_breakage_of_a_few_tasks_is_not_chance():
    broken, same = task_test([1.0] * 5, [0.0] * 5), task_test([1.0] * 5, [1.0] * 5)
    assert combined([broken] * 4 + [same] * 85) < 1e-6
    assert combined([task_test([1.0] * 2, [0.0] * 2)] * 4) == pytest.approx((1 / 6) ** 4)

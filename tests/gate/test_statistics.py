"""The statistics, checked against SciPy."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.gate import statistics as ours

stats = pytest.importorskip("scipy.stats")

RNG = random.Random(7)


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 29, 88, 1000])
def test_students_t(freedom):
    for probability in (0.001, 0.1, 0.5, 0.8, 0.975, 0.9999):
        expected = stats.t.ppf(probability, freedom)
        assert ours.student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for t in (-40, -2.5, 0, 0.1, 3, 1e6):
        assert ours.student(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), rel=1e-9, abs=1e-14)


def test_incomplete_beta():
    from scipy.special import betainc

    for a, b, x in itertools.product((0.5, 1, 7.5, 200), (0.5, 3, 80), (0, 1e-9, 0.2, 0.5, 0.97, 1)):
        assert ours.incomplete_beta(a, b, x) == pytest.approx(betainc(a, b, x), rel=1e-9, abs=1e-14)


def test_fisher():
    for before, after in itertools.product(range(1, 8), repeat=2):
        for x, y in itertools.product(range(before + 1), range(after + 1)):
            table = [[y, after - y], [x, before - x]]
            assert ours.fisher(x, before, y, after) == pytest.approx(stats.fisher_exact(table, "less")[1], abs=1e-12)


@pytest.mark.parametrize("size", [2, 3, 5, 11])
def test_sign_flip_is_the_exact_permutation_test(size):
    for _ in range(5):
        differences = [RNG.choice([-1, -0.5, 0, 0.25, 1]) for _ in range(size)]
        expected = stats.permutation_test(
            (differences,), sum, permutation_type="samples", alternative="less", n_resamples=math.inf
        )
        assert ours.sign_flip(differences) == pytest.approx(expected.pvalue)


def test_sign_flip_of_arbitrary_rewards():
    differences = [RNG.gauss(-0.2, 1) for _ in range(60)]
    expected = stats.ttest_1samp(differences, 0, alternative="less").pvalue
    assert ours.sign_flip(differences) == pytest.approx(expected, abs=0.02)
    assert ours.sign_flip(differences) == ours.sign_flip(differences)


@pytest.mark.parametrize("differences", [[], [0.0], [0.0] * 50])
def test_no_difference_has_p_value_one(differences):
    assert ours.sign_flip(differences) == 1.0


@given(st.lists(st.sampled_from([-1.0, -1 / 3, 0.0, 0.2, 1.0]), max_size=40))
def test_sign_flip_is_a_probability_and_is_small_only_for_losses(differences):
    p_value = ours.sign_flip(differences)
    assert 0 < p_value <= 1
    if sum(differences) > 1e-9:
        assert p_value > 0.5 - 1e-9


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_discoveries(rate):
    for size in (1, 5, 40):
        p_values = [RNG.random() ** 3 for _ in range(size)]
        adjusted = stats.false_discovery_control(p_values)
        assert ours.discoveries(p_values, rate) == [n for n, p in enumerate(adjusted) if p <= rate]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_of_a_mean(confidence):
    values = [RNG.random() for _ in range(12)]
    expected = stats.t.interval(confidence, 11, sum(values) / 12, stats.sem(values))
    assert ours.mean_interval(values, confidence) == pytest.approx(tuple(expected))
    assert ours.mean_interval([0.5]) == (-math.inf, math.inf)


@pytest.mark.parametrize("attempts, passed, k", [(5, 2, 1), (5, 2, 2), (5, 0, 3), (5, 5, 5), (10, 7, 4)])
def test_pass_at_k_and_pass_hat_k(attempts, passed, k):
    outcomes = [1] * passed + [0] * (attempts - passed)
    subsets = list(itertools.combinations(outcomes, k))
    assert ours.pass_at_k(attempts, passed, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    assert ours.pass_hat_k(attempts, passed, k) == pytest.approx(sum(map(all, subsets)) / len(subsets))


@pytest.mark.parametrize("function", [ours.pass_at_k, ours.pass_hat_k])
@pytest.mark.parametrize("k", [0, 4])
def test_k_above_attempts_is_an_error(function, k):
    with pytest.raises(ValueError, match="must be from 1 to the number of attempts, 3"):
        function(3, 1, k)

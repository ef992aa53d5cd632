"""The statistics, checked against SciPy."""

import itertools
import math
import random

import pytest

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


@pytest.mark.parametrize("mean", [0.0, 0.3, 4.0, 60.0])
def test_poisson_tail(mean):
    for count in (0, 1, 5, 80):
        assert ours.poisson_tail(count, mean) == pytest.approx(stats.poisson.sf(count - 1, mean), abs=1e-12)


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

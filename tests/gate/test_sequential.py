"""Decisions between rounds of attempts."""

import random
from collections import Counter

import pytest

from pytest_harbor.gate import Baseline, GateSpec, Rounds, Sample, decide, judge

RULE = GateSpec()


def run(*rewards):
    """A sample per task, from the rewards of its attempts."""
    return {(f"ds/{number:02}", "a"): Sample(tuple(map(float, each)), 0) for number, each in enumerate(rewards)}


@pytest.mark.parametrize("most", [1, 2, 3, 10, 50])
def test_rounds_spend_no_more_than_alpha(most):
    levels = [Rounds(done, most).adjust(RULE).alpha for done in range(1, most + 1)]
    assert sum(levels) <= RULE.alpha + 1e-12
    assert all(level > 0 for level in levels)


def adaptive(before, chances, rng, most=10):
    """Return the verdict of a run in rounds, and how many there were."""
    baseline, attempts = Baseline(run(*before)), [() for _ in chances]
    for done in range(1, most + 1):
        attempts = [(*each, float(rng.random() < chance)) for each, chance in zip(attempts, chances, strict=True)]
        found, rounds = run(*attempts), Rounds(done, most)
        word = decide(found, baseline, RULE, rounds)
        if word or done == most:
            verdict = judge(found, baseline, RULE, rounds=rounds)
            assert word in (verdict.word, None)
            return verdict.word, done
    raise AssertionError


def simulate(loss, runs):
    """Return how often each verdict is given, and the mean number of rounds; solved tasks break."""
    rng = random.Random(4)
    words, total = Counter(), 0
    for _ in range(runs):
        chances = [rng.choice((0.01, 0.98, rng.random())) for _ in range(30)]
        before = [[float(rng.random() < chance) for _ in range(10)] for chance in chances]
        solved = [place for place, chance in enumerate(chances) if chance > 0.9]
        broken = set(solved[: round(loss * 30)])
        word, rounds = adaptive(before, [0.0 if n in broken else c for n, c in enumerate(chances)], rng)
        words[word] += 1
        total += rounds
    return words, total / runs


def test_unchanged_agent_passes_soon():
    words, rounds = simulate(0.0, 60)
    assert words["pass"] >= 55
    assert rounds < 4


def test_broken_agent_is_found_at_once():
    words, rounds = simulate(0.15, 40)
    assert words["regressed"] >= 38
    assert rounds < 2.5


def test_drop_that_chance_explains_passes_after_the_last_round():
    before, after = [(1, 0)] * 4 + [(1, 1)], [(1, 0, 0)] * 4 + [(1, 1, 1)]
    verdict = judge(run(*after), Baseline(run(*before)), RULE, rounds=Rounds(3, 3))
    assert verdict.word == "pass"
    assert "chance explains it well" in verdict.reasons[0]
    assert str(verdict.spec) == "drop=0.05,alpha=0.05"

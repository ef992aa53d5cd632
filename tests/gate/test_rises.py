"""Limits on the rise of cost, tokens and time."""

import math
import random
from dataclasses import replace

import pytest

from pytest_harbor.gate import Baseline, Sample, judge, parse_gate, samples_of
from pytest_harbor.gate.baseline import Key
from pytest_harbor.trial import TrialResult, Usage

RULE = parse_gate("cost=+20%")


def run(costs, attempts: int = 3, **others) -> dict[Key, Sample]:
    """Return a sample per task, from the mean cost of a trial; None if that is not known."""
    return {
        (f"ds/{number:02}", "bot"): Sample(
            (1.0,) * attempts,
            attempts,
            digest="d",
            provider="docker",
            usage={} if cost is None else {"calls": 2.0, "cost": cost},
            **others,
        )
        for number, cost in enumerate(costs)
    }


def verdict(before, after, rule=RULE):
    return judge(after, Baseline(before), rule)


def noisy(rng: random.Random, tasks: int, attempts: int, factor: float = 1.0, *, sigma: float = 0.5):
    """Return costs that differ between tasks, and between trials by a log-normal factor."""
    typical = [math.exp(random.Random(task).gauss(0, 1)) for task in range(tasks)]
    costs = [mean * factor * sum(rng.lognormvariate(0, sigma) for _ in range(attempts)) / attempts for mean in typical]
    return run(costs, attempts)


def test_rise_above_the_limit_has_regressed():
    rng = random.Random(3)
    found = verdict(noisy(rng, 30, 3), noisy(rng, 30, 3, 1.8))
    assert found.word == "regressed"
    assert found.reasons[0] == (
        "bot: cost +70.8% per trial over 30 tasks, 95% interval +44.6% to +101.8%, allowed +20%: regressed"
    )


def test_rewards_are_reported_next_to_a_limit_that_decides():
    found = verdict(run([0.1] * 10), run([0.2] * 10))
    assert found.reasons[1] == (
        "bot: mean reward change +0.000 over 10 tasks (1.000 -> 1.000), p = 1; no drop of 0.05 or more"
    )


def test_small_rise_passes_and_is_shown():
    found = verdict(run([0.1] * 10), run([0.11] * 10))
    assert found.word == "pass"
    assert found.reasons[1] == "bot: cost +10% per trial over 10 tasks, allowed +20%: pass"


def test_allowed_rise_is_not_above_the_limit():
    assert verdict(run([0.1] * 10), run([0.12] * 10)).word == "pass"
    assert verdict(run([0.1] * 10), run([0.121] * 10)).word == "regressed"


def test_rise_that_may_be_chance_is_inconclusive():
    found = verdict(run([0.1] * 4), run([0.1, 0.1, 0.1, 0.5]))
    assert found.word == "inconclusive"
    assert found.reasons[0].endswith("allowed +20%: inconclusive, may be chance")


def test_single_task_cannot_tell_chance():
    found = verdict(run([0.1]), run([0.3]))
    assert found.word == "inconclusive"
    assert found.reasons[0] == "bot: cost +200% per trial over 1 task, allowed +20%: inconclusive, may be chance"


def test_replayed_calls_leave_nothing_to_chance():
    def results(cost: float, replayed: int):
        usage = Usage(requests=2, cost=cost, replayed=replayed)
        given = {"outcome": "passed", "reward": 1.0, "provider": "docker", "usage": usage}
        return samples_of([TrialResult("r", "ds/a", "ds", "", "bot", 1, **given)])

    assert verdict(results(0.1, 2), results(0.3, 3)).word == "regressed"
    assert verdict(results(0.1, 2), results(0.11, 2)).word == "pass"
    assert verdict(results(0.1, 0), results(0.3, 2)).word == "inconclusive", "the baseline was random"


def test_one_trial_that_ran_away_does_not_decide():
    rng = random.Random(5)
    before, after = noisy(rng, 30, 3, sigma=0.3), noisy(rng, 30, 3, sigma=0.3)
    key = ("ds/07", "bot")
    after[key] = replace(after[key], usage={"cost": 30 * after[key].usage["cost"]})
    assert verdict(before, after).word == "pass"


def test_several_tasks_many_times_as_expensive_are_seen():
    rng = random.Random(6)
    before, after = noisy(rng, 30, 3, sigma=0.3), noisy(rng, 30, 3, sigma=0.3)
    for key in list(after)[:10]:
        after[key] = replace(after[key], usage={"cost": 10 * after[key].usage["cost"]})
    assert verdict(before, after).word == "regressed"


@pytest.mark.parametrize("before, after", [(3, 3), (10, 1), (1, 10)])
def test_unchanged_agent_stays_unchanged_with_any_attempts(before, after):
    rng = random.Random(before)
    words = [verdict(noisy(rng, 30, before), noisy(rng, 30, after)).word for _ in range(100)]
    assert words.count("regressed") == 0
    assert words.count("inconclusive") <= 10


@pytest.mark.parametrize("before, after", [(10, 1), (1, 10)])
def test_unequal_attempts_do_not_bias_the_change(before, after):
    rng = random.Random(2)
    rule = parse_gate("cost=+0%")
    changes = []
    for _ in range(40):
        found = verdict(noisy(rng, 60, before, sigma=0.8), noisy(rng, 60, after, sigma=0.8), rule)
        (row,) = [reason for reason in found.reasons if ": cost" in reason]
        changes.append(float(row.split("cost ")[1].split("%")[0]))
    assert abs(sum(changes) / len(changes)) < 6


@pytest.mark.parametrize(
    "before, after, word",
    [
        ([0.0] * 3, [0.0] * 3, "pass"),
        ([0.0] * 3, [0.1] * 3, "regressed"),
        ([0.1] * 3, [0.0] * 3, "pass"),
        ([0.1, 0.1, 0.0], [0.1, 0.1, 0.0], "pass"),
    ],
)
def test_free_trials(before, after, word):
    assert verdict(run(before), run(after)).word == word


def test_almost_nothing_twice_is_almost_nothing():
    costs = [1.0] * 9
    assert verdict(run([*costs, 1e-6]), run([*costs, 1e-3])).word == "pass"


def test_unknown_cost_is_not_judged():
    found = verdict(run([0.1] * 10), run([0.1] * 7 + [None] * 3))
    assert found.word == "not judged"
    assert found.reasons[0] == (
        "bot: cost: unknown in this run for 3 of 10 tasks (ds/07, ds/08, ds/09); run with --harbor-proxy, which "
        "measures it, and with all prices; allowed +20%: not judged"
    )
    (reason, *_) = verdict(run([None] * 10), run([0.1] * 10)).reasons
    assert "unknown in the baseline for 10 of 10 tasks" in reason
    assert "and save it again" in reason
    found = verdict(run([0.1] * 10), run([0.1] * 9 + [None]))
    assert found.word == "pass"
    assert "over 9 of 10 tasks" in found.reasons[1]


def test_tokens_and_seconds():
    def measured(tokens: float, seconds: float):
        given = run([None] * 8, agent_seconds=seconds)
        return {
            key: replace(sample, usage={"input_tokens": tokens * 0.9, "output_tokens": tokens * 0.1})
            for key, sample in given.items()
        }

    rule = parse_gate("tokens=+25%,seconds=+50%")
    assert verdict(measured(100, 10), measured(120, 14), rule).word == "pass"
    assert ": tokens +30%" in verdict(measured(100, 10), measured(130, 14), rule).reasons[0]
    assert ": seconds +60%" in verdict(measured(100, 10), measured(120, 16), rule).reasons[0]
    found = verdict(measured(100, 0.0), measured(100, 10), rule)
    assert found.word == "not judged"
    assert "seconds: unknown in the baseline for 8 of 8 tasks" in found.reasons[0]


def test_interval_has_the_level_of_the_rule():
    rng = random.Random(3)
    before, after = noisy(rng, 30, 3), noisy(rng, 30, 3, 1.45)
    strict = verdict(before, after, parse_gate("cost=+20%,alpha=0.001"))
    assert strict.word == "inconclusive"
    assert "99.9% interval" in strict.reasons[0]
    assert verdict(before, after, parse_gate("cost=+20%,alpha=0.5")).word == "regressed"


@pytest.mark.parametrize("text", ["cost=20", "cost=-5%", "cost=", "cost=+x%", "tokens=1e9", "seconds=nan", "cost"])
def test_limits_that_are_not_valid(text):
    with pytest.raises(ValueError, match=r"use (cost|tokens|seconds)=\+20%|is not valid"):
        parse_gate(text)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("cost=20%", "cost=+20%"),
        ("cost=0.2", "cost=+20%"),
        ("seconds=+150%,cost=+0%", "cost=+0%,seconds=+150%"),
        ("tokens=+2.5%", "tokens=+2.5%"),
    ],
)
def test_limits_as_written(text, shown):
    rule = parse_gate(text)
    assert str(rule) == f"drop=0.05,alpha=0.05,{shown}"
    assert rule.needs_baseline

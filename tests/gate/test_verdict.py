"""Verdicts on runs."""

import random
from dataclasses import replace

import pytest

from pytest_harbor.gate.baseline import Baseline, Sample
from pytest_harbor.gate.spec import GateSpec
from pytest_harbor.gate.verdict import Limit, judge

DROP = GateSpec()


def sample(*rewards: float, **others) -> Sample:
    others = {"digest": "d", "provider": "docker", **others}
    return Sample(tuple(map(float, rewards)), sum(reward >= 1 for reward in rewards), **others)


def run(*rewards, agent="a", **others):
    """A sample per task, from the rewards of its attempts."""
    return {(f"ds/{number:02}", agent): sample(*each, **others) for number, each in enumerate(rewards)}


def test_same_rewards_pass():
    same = run(*[(1, 0, 1)] * 10)
    verdict = judge(same, Baseline(same), DROP)
    assert verdict.word == "pass"
    assert verdict.reasons == (
        "a: mean reward change +0.000 over 10 tasks (0.667 -> 0.667), p = 1; no drop of 0.05 or more",
    )


def test_two_failures_in_seven_need_more_attempts():
    once = judge(run((0,), (0,), *[(1,)] * 5), Baseline(run(*[(1,)] * 7)), DROP)
    assert once.word == "inconclusive"
    (reason,) = once.reasons
    assert "mean reward change -0.286 over 7 tasks" in reason
    assert "not statistically significant (p = 0.25)" in reason
    assert f"about {once.comparisons[0].attempts} attempts per task would settle it" in reason
    often = judge(run((0,) * 5, (0,) * 5, *[(1,) * 5] * 5), Baseline(run(*[(1,) * 5] * 7)), DROP)
    assert often.word == "regressed"
    assert often.reasons[0] == "a: statistically significant drop on ds/00, ds/01"
    assert [pair.task for pair in often.comparisons[0].regressions] == ["ds/00", "ds/01"]
    assert all(pair.significant for pair in often.comparisons[0].regressions)


def test_small_loss_on_every_task_shows_in_the_mean():
    before, after = run(*[(1, 1, 0)] * 20), run(*[(1, 0, 0)] * 20)
    verdict = judge(after, Baseline(before), DROP)
    assert verdict.word == "regressed"
    assert "mean reward change -0.333 over 20 tasks" in verdict.reasons[0]
    assert "statistically significant (p = 9.5e-07)" in verdict.reasons[0]
    assert not any(pair.significant for pair in verdict.comparisons[0].pairs)


def test_loss_below_drop_passes():
    before, after = run(*[(1.0,)] * 30), run(*[(0.99,)] * 30)
    assert judge(after, Baseline(before), DROP).word == "pass"
    assert judge(after, Baseline(before), GateSpec(drop=0.005)).word == "regressed"
    assert judge(after, Baseline(before), GateSpec(drop=0.01)).word == "regressed"


def test_gain_passes_and_is_reported():
    verdict = judge(run((1, 1), (0, 1)), Baseline(run((0, 1), (0, 1))), DROP)
    assert verdict.word == "pass"
    assert [pair.task for pair in verdict.comparisons[0].improvements] == ["ds/00"]
    assert verdict.flaky == (("ds/01", "a"),)


@pytest.mark.parametrize(
    "before, after, reason",
    [
        (None, sample(1), "not in the baseline"),
        (sample(1), None, "in the baseline but not in this run"),
        (sample(1, digest="other"), sample(1), "the task has changed"),
        (sample(1, provider="namespace"), sample(1), "ran on docker, the baseline on namespace"),
        (sample(), sample(1), "only infrastructure errors in the baseline"),
        (sample(1), sample(errors=2), "only infrastructure errors in this run"),
    ],
)
def test_incomparable_task_is_reported_and_excluded(before, after, reason):
    key = ("ds/odd", "a")
    same = run(*[(1,)] * 30)
    verdict = judge(
        {**same, **({key: after} if after else {})}, Baseline({**same, **({key: before} if before else {})}), DROP
    )
    assert verdict.not_compared == {reason: (key,)}
    assert len(verdict.comparisons[0].pairs) == 30
    assert verdict.word == "pass"


def test_no_comparable_task_is_inconclusive():
    verdict = judge(run((1,)), Baseline(run((1,), agent="b")), DROP)
    assert verdict.word == "inconclusive"
    assert verdict.reasons == (
        "no task of this run can be compared with the baseline: agent a is not in the baseline; the baseline has agent "
        "b; --harbor-agent-name=b compares with it",
    )
    assert verdict.not_compared == {}


def test_agents_are_compared_separately_and_the_worst_decides():
    good, bad = run(*[(1,)] * 20), run(*[(0,)] * 20, agent="b")
    verdict = judge({**good, **bad}, Baseline({**good, **run(*[(1,)] * 20, agent="b")}), DROP)
    assert verdict.word == "regressed"
    assert [comparison.agent for comparison in verdict.comparisons] == ["a", "b"]
    assert verdict.reasons[0].startswith("b: ")


@pytest.mark.parametrize(
    "spec, word, reason",
    [
        (GateSpec(pass_rate=0.7), "regressed", "pass rate 66.7% (2 of 3), below the required 70.0%"),
        (GateSpec(pass_rate=2 / 3), "pass", "pass rate 66.7% (2 of 3), at least 66.7%"),
        (GateSpec(each=True), "regressed", "1 of 3 trials did not pass; the rule requires each to pass"),
    ],
)
def test_rules_without_a_baseline(spec, word, reason):
    verdict = judge(run((1,), (1,), (0.5,)), None, spec)
    assert (verdict.word, verdict.reasons) == (word, (reason,))


@pytest.mark.parametrize(
    "limit, errors, word",
    [
        (Limit(0.1), 1, "pass"),
        (Limit(0.1), 2, "inconclusive"),
        (Limit(0, share=False), 1, "inconclusive"),
        (Limit(3, share=False), 3, "pass"),
        (Limit(3, share=False), 4, "inconclusive"),
    ],
)
@pytest.mark.parametrize("kind", ["errors", "unverified"])
def test_too_many_errors_or_unverified_are_inconclusive(limit, errors, word, kind):
    rewards = [(1,)] * (10 - (errors if kind == "errors" else 0))
    samples = run(*rewards)
    samples["ds/odd", "a"] = sample(**{kind: errors})
    verdict = judge(samples, None, GateSpec(pass_rate=0.5), limit)
    assert verdict.word == word
    if word == "inconclusive":
        assert f"{errors} of 10 trials are" in verdict.reasons[0]


def test_infrastructure_errors_are_not_zeros():
    before = run(*[(1, 1)] * 20)
    after = {key: sample(1, errors=1) for key in before}
    assert judge(after, Baseline(before), DROP, Limit(1.0)).word == "pass"


def test_empty_run_is_inconclusive():
    assert judge({}, None, GateSpec(each=True)).reasons == ("no trial ran",)


def test_advised_attempts_usually_settle_it():
    rng = random.Random(3)

    def draw(p, attempts):
        return tuple(float(rng.random() < p) for _ in range(attempts))

    chances = [rng.betavariate(0.5, 0.5) for _ in range(40)]
    worse = [max(0.0, p - 0.15) for p in chances]
    first = None
    while first is None:
        before, after = run(*[draw(p, 1) for p in chances]), run(*[draw(p, 1) for p in worse])
        first = judge(after, Baseline(before), DROP).comparisons[0].attempts
    found = 0
    for _ in range(60):
        before, after = run(*[draw(p, first) for p in chances]), run(*[draw(p, first) for p in worse])
        found += judge(after, Baseline(before), DROP).word == "regressed"
    assert found > 30


def test_intervals_stay_within_what_is_possible():
    verdict = judge(run((0,), (0,), (0,), (1,)), Baseline(run((1,), (1,), (1,), (0,))), DROP)
    low, high = verdict.comparisons[0].interval
    assert (low, high) == (-0.75, 0.25), "the mean reward was 0.75"
    wide = judge(run((0,), (0,), (0,), (3,)), Baseline(run((1,), (1,), (1,), (0,))), DROP)
    low, high = wide.comparisons[0].interval
    assert low < -0.75, "rewards that may be anything have no bounds"


@pytest.mark.parametrize(
    "before, after, attempts, advice",
    [
        ([(1,)], [(0,)], 3, "about 3 attempts per task would settle it"),
        ([(1, 1, 1), (1, 1, 1)], [(0,), (0,)], 3, "about 3 attempts per task would settle it"),
        ([(1,), (1,)], [(0,), (1,)], 4, "about 4 attempts per task would settle it"),
        ([(0.8,)], [(0.6,)], None, "a mean over fewer than 5 tasks cannot settle it"),
    ],
)
def test_advice_for_few_tasks(before, after, attempts, advice):
    verdict = judge(run(*after), Baseline(run(*before)), DROP)
    assert verdict.word == "inconclusive"
    assert verdict.comparisons[0].attempts == attempts
    assert f"; {advice}" in verdict.reasons[0]
    assert ("in the baseline, too" in verdict.reasons[0]) == (attempts is not None and len(before[0]) < attempts)
    if attempts:
        often = judge(
            run(*(each[:1] * attempts for each in after)),
            Baseline(run(*(each[:1] * attempts for each in before))),
            DROP,
        )
        assert often.word == "regressed"


def test_another_model_is_mentioned():
    before, after = run((1,), (1,), model="old"), run((1,), (1,), model="new")
    verdict = judge(after, Baseline(before), DROP)
    assert verdict.word == "pass"
    assert verdict.reasons[-1] == "a: model new, in the baseline old"
    assert len(judge(before, Baseline(before), DROP).reasons) == 1


def test_passes_are_counted_by_the_threshold_of_the_run():
    before, after = run((0.8,) * 5), {("ds/00", "a"): sample(*(0.8,) * 5, threshold=0.5)}
    after["ds/00", "a"] = replace(after["ds/00", "a"], passed=5)
    pair = judge(after, Baseline(before), DROP).comparisons[0].pairs[0]
    assert (pair.before.passed, pair.after.passed) == (5, 5)

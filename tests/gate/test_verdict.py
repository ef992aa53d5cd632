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
        "a: mean reward change +0.000 over 10 tasks (0.667 -> 0.667), p = 0.88; no drop of 0.05 or more",
    )


def test_two_failures_in_seven_need_more_attempts():
    once = judge(run((0,), (0,), *[(1,)] * 5), Baseline(run(*[(1,)] * 7)), DROP)
    assert once.word == "inconclusive"
    (reason,) = once.reasons
    assert "mean reward change -0.286 over 7 tasks" in reason
    assert "not statistically significant (p = 0.28)" in reason
    assert f"; {once.comparisons[0].advice}" in reason
    often = judge(run((0,) * 5, (0,) * 5, *[(1,) * 5] * 5), Baseline(run(*[(1,) * 5] * 7)), DROP)
    assert often.word == "regressed"
    assert "2 tasks got worse, more than chance explains" in often.reasons[1]
    assert [pair.task for pair in often.comparisons[0].regressions] == ["ds/00", "ds/01"]
    assert [pair.significant for pair in often.comparisons[0].pairs] == [True, True] + [False] * 5


def test_small_loss_on_every_task_shows_in_the_mean():
    rng = random.Random(1)
    before = run(*[[float(rng.random() < 0.7) for _ in range(9)] for _ in range(40)])
    after = run(*[[float(rng.random() < 0.5) for _ in range(9)] for _ in range(40)])
    verdict = judge(after, Baseline(before), DROP)
    assert verdict.word == "regressed"
    assert "fell, as when a model or its provider is worse" in verdict.reasons[0]
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
    missing = f"a: 30 of 31 tasks in the baseline compared; 1 {reason}"
    assert (missing in verdict.reasons) == (before is not None)


def test_no_comparable_task_is_not_judged():
    verdict = judge(run((1,)), Baseline(run((1,), agent="b")), DROP)
    assert verdict.word == "not judged"
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
        (Limit(0.1), 2, "not judged"),
        (Limit(0, share=False), 1, "not judged"),
        (Limit(3, share=False), 3, "pass"),
        (Limit(3, share=False), 4, "not judged"),
    ],
)
@pytest.mark.parametrize("kind", ["errors", "unverified"])
def test_too_many_errors_or_unverified_are_not_judged(limit, errors, word, kind):
    rewards = [(1,)] * (10 - (errors if kind == "errors" else 0))
    samples = run(*rewards)
    samples["ds/odd", "a"] = sample(**{kind: errors})
    verdict = judge(samples, None, GateSpec(pass_rate=0.5), limit)
    assert verdict.word == word
    if word == "not judged":
        assert f"{errors} of 10 trials are" in verdict.reasons[0]


def test_infrastructure_errors_are_not_zeros():
    before = run(*[(1, 1)] * 20)
    after = {key: sample(1, errors=1) for key in before}
    assert judge(after, Baseline(before), DROP, Limit(1.0)).word == "pass"


def test_empty_run_is_not_judged():
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
        advice = judge(after, Baseline(before), DROP).comparisons[0].advice
        first = advice.attempts if advice else None
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
    "before, after, attempts, both",
    [
        ([(1,)], [(0,)], 5, True),
        ([(1, 1, 1), (1, 1, 1)], [(0,), (0,)], 3, False),
        ([(1,), (1,)], [(0,), (1,)], 5, True),
        ([(1,) * 10] * 3, [(1,), (1,), (0,)], 3, False),
    ],
)
def test_advice_is_right_for_the_side_it_names(before, after, attempts, both):
    verdict = judge(run(*after), Baseline(run(*before)), DROP)
    assert verdict.word == "inconclusive"
    advice = verdict.comparisons[0].advice
    assert (advice.attempts, advice.both) == (attempts, both)
    assert ("both in the baseline and in this run" in verdict.reasons[0]) == both
    often = run(*(each[:1] * attempts for each in after))
    baseline = run(*(each[:1] * (attempts if both else len(each)) for each in before))
    assert judge(often, Baseline(baseline), DROP).word == "regressed"


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


ALL, NONE = (1,) * 5, (0,) * 5
MIXED = (1, 0, 1, 0, 1)


@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param([ALL] * 89, [NONE] * 4 + [ALL] * 85, id="4 of 89 broke"),
        pytest.param([ALL] * 4 + [MIXED] * 85, [NONE] * 4 + [MIXED] * 85, id="4 of 89 broke amid others"),
        pytest.param([ALL] * 10 + [MIXED] * 290, [NONE] * 10 + [MIXED] * 290, id="10 of 300 broke"),
        pytest.param([(1, 1)] * 4, [(0, 0)] * 4, id="4 of 4 broke"),
        pytest.param([(1, 1, 1)] * 10, [(0, 0, 0)] * 4 + [(1, 1, 1)] * 6, id="4 of 10 broke"),
        pytest.param([(0.9,) * 10] + [(1,) * 10] * 29, [(0,) * 10] + [(1,) * 10] * 29, id="from 0.9 to 0"),
        pytest.param([(0.9,) * 10] + [MIXED] * 29, [(0,) * 10] + [MIXED] * 29, id="from 0.9 to 0 amid others"),
    ],
)
def test_breakage_is_a_regression(before, after):
    assert judge(run(*after), Baseline(run(*before)), DROP).word == "regressed"


def share(word, draw, runs=150):
    """Return how often a verdict is given; draw() returns the rewards of a baseline and of a run."""
    verdicts = (
        judge(run(*after), Baseline(run(*before)), DROP).word for before, after in (draw() for _ in range(runs))
    )
    return sum(verdict == word for verdict in verdicts) / runs


@pytest.mark.parametrize("attempts_before, attempts_after", [(10, 1), (1, 10), (10, 3)])
def test_unequal_attempts_of_an_unchanged_agent(attempts_before, attempts_after):
    rng = random.Random(5)

    def draw():
        return tuple(
            [[float(rng.random() < 0.1) for _ in range(attempts)] for _ in range(10)]
            for attempts in (attempts_before, attempts_after)
        )

    assert share("regressed", draw) <= 0.06


def test_alike_attempts_of_an_unchanged_agent_count_once():
    rng = random.Random(6)

    def draw():
        chances = [rng.betavariate(0.5, 0.5) for _ in range(30)]
        return tuple([(float(rng.random() < chance),) * 10 for chance in chances] for _ in range(2))

    assert share("regressed", draw) <= 0.08
    assert share("inconclusive", draw) <= 0.4
    verdict = judge(run(*[NONE, ALL] * 10), Baseline(run(*[ALL, NONE] * 10)), DROP)
    assert verdict.word == "pass"
    assert "a: the attempts of each run are alike or depend on one another, so they count as one per task" in (
        verdict.reasons
    )


def test_alike_attempts_that_only_got_worse_are_no_pass():
    before, after = run(*[ALL] * 5, *[NONE] * 5), run(NONE, *[ALL] * 4, *[NONE] * 5)
    verdict = judge(after, Baseline(before), DROP)
    assert verdict.word == "inconclusive"
    assert (
        "more runs in the baseline would settle it, or the rule flip if the agent is deterministic"
        in (verdict.reasons[0])
    )


def test_rule_for_deterministic_agents():
    before, after = run(*[(1,)] * 30), run((0,), *[(1,)] * 29)
    assert judge(after, Baseline(before), DROP).word == "pass"
    verdict = judge(after, Baseline(before), GateSpec(flip=True))
    assert verdict.word == "regressed"
    assert verdict.reasons == ("a: worse in every attempt at ds/00; any such change counts",)
    assert judge(before, Baseline(after), GateSpec(flip=True)).word == "pass"


@pytest.mark.parametrize("usage", [{}, {"calls": 3.0, "replayed": 3.0}])
def test_significant_drop_counts_next_to_the_rule_for_deterministic_agents(usage):
    rng = random.Random(1)
    before, after = ([[float(rng.random() < chance) for _ in range(6)] for _ in range(40)] for chance in (0.8, 0.4))
    verdict = judge(run(*after, usage=usage), Baseline(run(*before)), GateSpec(flip=not usage))
    assert verdict.word == "regressed"
    assert any("mean reward change -" in reason and "statistically" in reason for reason in verdict.reasons)
    kept = [(1, 0)] * 30
    assert judge(run(*kept), Baseline(run(*kept)), GateSpec(flip=True)).word == "pass"


def test_replayed_runs_need_no_statistics():
    usage = {"calls": 3.0, "replayed": 3.0}
    before = run(*[(1,)] * 30, usage=usage)
    verdict = judge(run((0,), *[(1,)] * 29, usage=usage), Baseline(before), DROP)
    assert verdict.word == "regressed"
    assert verdict.reasons == (
        "a: worse in every attempt at ds/00; model calls were replayed, so any such change counts",
    )


def test_pass_states_what_is_not_ruled_out():
    rng = random.Random(8)
    before, after = ([[float(rng.random() < 0.5) for _ in range(3)] for _ in range(20)] for _ in range(2))
    verdict = judge(run(*after), Baseline(run(*before)), DROP)
    assert verdict.word == "pass"
    low, _ = verdict.comparisons[0].interval
    assert f"a drop of up to {-low:.3f} is not ruled out" in verdict.reasons[0]


@pytest.mark.parametrize("compared, word", [(8, "pass"), (7, "not judged")])
def test_nothing_passes_if_too_little_was_compared(compared, word):
    before = run(*[(1,)] * 10)
    after = dict(list(before.items())[:compared])
    verdict = judge(after, Baseline(before), DROP)
    assert verdict.word == word
    text = f"a: {compared} of 10 tasks in the baseline compared; {10 - compared} in the baseline but not in this run"
    assert any(reason.startswith(text) for reason in verdict.reasons)
    assert judge(after, Baseline(before), DROP, min_coverage=0.5).word == "pass"


def test_certain_regression_counts_even_if_results_are_missing():
    before, after = run(*[(1, 1, 1)] * 10), run(*[(0, 0, 0)] * 5)
    verdict = judge(after, Baseline(before), DROP, doubts=["shard 2 of 2 is missing"])
    assert verdict.word == "regressed"
    assert "shard 2 of 2 is missing" in verdict.reasons
    low = judge(after, None, GateSpec(pass_rate=0.5), doubts=["shard 2 of 2 is missing"])
    assert low.word == "not judged", "the missing trials may have passed"


def test_exit_statuses():
    before, after = run((1,), (1,)), run((0,), (1,))
    undecided = judge(after, Baseline(before), DROP)
    unjudged = judge(after, Baseline(before), DROP, stopped="-x")
    assert [undecided.exit_status(choice) for choice in ("fail", "pass")] == [10, 0]
    assert [unjudged.exit_status(choice) for choice in ("fail", "pass")] == [11, 11]

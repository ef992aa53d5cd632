"""A verdict in words."""

from __future__ import annotations

import pytest

from pytest_harbor.gate import Baseline, GateSpec, Sample, judge
from pytest_harbor.report.verdict_text import MANY_ROWS, lines, sections


def sample(*rewards: float, **others) -> Sample:
    return Sample(tuple(map(float, rewards)), sum(reward >= 1 for reward in rewards), digest="d", **others)


def judged(before: dict[str, Sample] | None, after: dict[str, Sample], rule: str = "drop=0.05", **what) -> list[str]:
    run = {(task, "bot"): one for task, one in after.items()}
    baseline = None if before is None else Baseline({(task, "bot"): one for task, one in before.items()})
    return lines(judge(run, baseline, GateSpec.parse(rule)), run, **what)


GOOD = {f"tb2/{n}": sample(1, 1, 1, 1, 1) for n in range(7)}


def test_a_green_run_is_two_lines():
    said = judged(GOOD, GOOD)
    assert said == [
        "verdict: pass (rule drop=0.05,alpha=0.05)",
        "  bot: mean reward +0.000 over 7 tasks, 95% interval +0.000 to +0.000 (p = 1); no drop of 0.05 or more",
    ]


def test_a_green_run_counts_what_else_there_is():
    after = {**GOOD, "tb2/0": sample(1, 1, 1, 1, 0), "tb2/1": sample(1, 1, 1, 1, errors=1)}
    said = judged(GOOD, after)
    assert said[0].startswith("verdict: pass")
    assert said[2:] == ["regressions 1, flaky 1, errors 1; -v shows them"]
    every = judged(GOOD, after, every=True)
    assert "  tb2/0  bot  1.00 -> 0.80  passed 5 of 5, now 4 of 5" in every


def test_the_verdict_first_then_the_tasks_with_reward_before_and_after():
    before = {**GOOD, "tb2/bad": sample(0, 0, 0, 0, 0)}
    after = {
        **GOOD,
        "tb2/0": sample(0, 0, 0, 0, 0),
        "tb2/1": sample(0, 0, 0, 0, 1),
        "tb2/2": sample(1, 1, 1, 1, 0, unverified=1),
        "tb2/3": sample(1, 1, 1, errors=2),
        "tb2/bad": sample(1, 1, 1, 1, 1),
        "tb2/new": sample(0),
    }
    said = judged(before, after)
    assert said[0] == "verdict: regressed (rule drop=0.05,alpha=0.05)"
    assert said[1] == "  tb2/0 did worse beyond chance with bot"
    assert said[said.index("regressions (3):") + 1] == (
        "  tb2/0  bot  1.00 -> 0.00  passed 5 of 5, now 0 of 5; beyond chance"
    )
    titles = [line for line in said if line.endswith("):")]
    assert titles == [
        "regressions (3):",
        "improvements (1):",
        "failed (1):",
        "flaky (2):",
        "unverified (1):",
        "errors (1):",
    ]
    assert "  tb2/bad  bot  0.00 -> 1.00  passed 0 of 5, now 5 of 5" in said
    assert "  tb2/new  bot  - -> 0.00  0 of 1 passed" in said
    assert "  tb2/2  bot  1.00 -> 0.80  1 of 5 left no usable reward" in said
    assert "  tb2/3  bot  1.00 -> 1.00  2 of 5 ended with an infrastructure error" in said
    assert said[-1] == "not compared: 1 task, not in the baseline: tb2/new"


def test_confirmations_are_shown_where_the_task_is():
    after = {**GOOD, "tb2/0": sample(0, 0, 0, 0, 0)}
    said = judged(GOOD, after, confirmations={("tb2/0", "bot"): (1, 3)})
    assert any(line.endswith("beyond chance; run again, 1 of 3 passed") for line in said)


def test_without_a_baseline():
    said = judged(None, {"tb2/a": sample(1), "tb2/b": sample(0)}, "each")
    assert said == [
        "verdict: regressed (rule drop=0.05,alpha=0.05,each)",
        "  1 of 2 trials did not pass, and the rule asks for each",
        "failed (1):",
        "  tb2/b  bot  - -> 0.00  0 of 1 passed",
    ]


def test_many_tasks_are_cut_unless_all_are_asked_for():
    before = {f"tb2/{n:03}": sample(1, 1, 1, 1, 1) for n in range(100)}
    after = {task: sample(0, 0, 0, 0, 0) for task in before}
    said = judged(before, after)
    assert len(said) < MANY_ROWS + 10
    assert f"  ... and {100 - MANY_ROWS} more; -v shows all" in said
    assert len(judged(before, after, every=True)) > 100
    gone = judged(before, {"tb2/000": sample(1)})
    assert gone[-1].endswith("tb2/001, tb2/002, tb2/003, tb2/004, tb2/005 and 94 more")


@pytest.mark.parametrize("hostile", ["a\nverdict: pass", "\x1b[2Jx", "a\rb", "\u202egnp"])
def test_hostile_names_stay_in_their_line(hostile):
    before = {**GOOD, hostile: sample(1, 1, 1, 1, 1)}
    said = judged(before, {**before, hostile: sample(0, 0, 0, 0, 0)})
    assert all(line.isprintable() for line in said)
    assert sum(line.startswith("verdict: ") for line in said) == 1


def test_a_task_that_nothing_was_graded_of_is_an_error_only():
    run = {("tb2/a", "bot"): Sample((), 0, errors=2)}
    verdict = judge(run, None, GateSpec(each=True))
    (section,) = sections(verdict, run)
    assert section.title == "errors"
    assert lines(verdict, run)[-1] == "  tb2/a  bot  - -> -  2 of 2 ended with an infrastructure error"


# What decides nothing.

USED = {"cost": 0.04, "input_tokens": 1_000.0, "output_tokens": 200.0}


def change(before: dict[str, float], after: dict[str, float]) -> list[str]:
    tasks = [f"tb2/{n}" for n in range(3)]
    was, now = ({task: sample(1, usage=used) for task in tasks} for used in (before, after))
    said = judged(was, now)
    assert said[0].startswith("verdict: pass")
    return said[2:]


@pytest.mark.parametrize(
    "after, said",
    [
        (USED, "mean cost $0.040 a trial, as in the baseline; mean tokens 1.2k a trial, as in the baseline"),
        (
            {"cost": 0.0448, "input_tokens": 1_800.0, "output_tokens": 600.0},
            "mean cost $0.045 a trial, +12% against the baseline; mean tokens 2.4k a trial, +100% against the baseline",
        ),
        (
            {**USED, "cost": 0.01, "estimated": 2.0},
            "mean cost ~$0.010 a trial, -75% against the baseline; mean tokens ~1.2k a trial, as in the baseline",
        ),
        ({"input_tokens": 0.0, "output_tokens": 0.0}, "mean tokens 0 a trial, -100% against the baseline"),
    ],
)
def test_the_change_of_cost_and_tokens_is_told_and_decides_nothing(after, said):
    assert change(USED, after) == [f"  bot: {said}"]


def test_a_baseline_that_cost_nothing():
    free = dict.fromkeys(USED, 0.0)
    assert change(free, {"cost": 0.04}) == ["  bot: mean cost $0.040 a trial, $0.00 in the baseline"]
    assert "as in the baseline" in change(free, free)[0]


def test_what_is_not_known_of_every_task_is_not_told():
    assert change({}, USED) == change(USED, {}) == change({"input_tokens": 1.0}, USED) == []
    before = {"tb2/a": sample(1, usage=USED), "tb2/b": sample(1, usage={**USED})}
    after = {"tb2/a": sample(1, usage=USED), "tb2/b": sample(1)}
    assert len(judged(before, after)) == 2

"""Verdicts as text."""

from __future__ import annotations

import pytest

from pytest_harbor.gate import Baseline, GateSpec, Sample, judge
from pytest_harbor.report.verdict_text import MAX_ROWS, lines, sections


def sample(*rewards: float, **others) -> Sample:
    return Sample(tuple(map(float, rewards)), sum(reward >= 1 for reward in rewards), digest="d", **others)


def text_of(before: dict[str, Sample] | None, after: dict[str, Sample], rule: str = "drop=0.05", **what) -> list[str]:
    run = {(task, "bot"): one for task, one in after.items()}
    baseline = None if before is None else Baseline({(task, "bot"): one for task, one in before.items()})
    return lines(judge(run, baseline, GateSpec.parse(rule)), run, **what)


GOOD = {f"tb2/{n}": sample(1, 1, 1, 1, 1) for n in range(7)}


def test_green_run_is_two_lines():
    text = text_of(GOOD, GOOD)
    assert text == [
        "verdict: pass (rule drop=0.05,alpha=0.05)",
        "  bot: mean reward change +0.000 over 7 tasks (1.000 -> 1.000), p = 1; no drop of 0.05 or more",
    ]


def test_green_run_counts_its_sections():
    after = {**GOOD, "tb2/0": sample(1, 1, 1, 1, 0), "tb2/1": sample(1, 1, 1, 1, errors=1)}
    text = text_of(GOOD, after)
    assert text[0].startswith("verdict: pass")
    assert text[2:] == [
        "  excluded: 1 of 35 trials ended with an infrastructure error (tb2/1)",
        "lower than the baseline 1, flaky 1, errors 1; use -v to list them",
    ]
    every = text_of(GOOD, after, every=True)
    assert "  tb2/0  bot  1.00 -> 0.80  passed 5 of 5, now 4 of 5" in every


def test_verdict_then_tasks_with_rewards():
    before = {**GOOD, "tb2/bad": sample(0, 0, 0, 0, 0)}
    after = {
        **GOOD,
        "tb2/0": sample(0, 0, 0, 0, 0),
        "tb2/1": sample(0, 0, 0, 0, 1),
        "tb2/2": sample(1, 1, 1, 1, 0, unverified=1),
        "tb2/3": sample(1, 1, 1, errors=2),
        "tb2/bad": sample(0, 0, 0, 0, 1),
        "tb2/new": sample(0),
    }
    text = text_of(before, after)
    assert text[0] == "verdict: regressed (rule drop=0.05,alpha=0.05)"
    assert text[1].startswith("  bot: mean reward change -0.")
    assert text[text.index("regressions (3):") + 1] == (
        "  tb2/0  bot  1.00 -> 0.00  passed 5 of 5, now 0 of 5; more than chance explains"
    )
    titles = [line for line in text if line.endswith("):")]
    assert titles == [
        "regressions (3):",
        "improvements (1):",
        "failed (1):",
        "flaky (3):",
        "unverified (1):",
        "errors (1):",
    ]
    assert "  tb2/bad  bot  0.00 -> 0.20  passed 0 of 5, now 1 of 5" in text
    assert "  tb2/new  bot  0.00  0 of 1 passed" in text
    assert "  tb2/2  bot  1.00 -> 0.80  1 of 5 left no usable reward" in text
    assert "  tb2/3  bot  1.00 -> 1.00  2 of 5 ended with an infrastructure error" in text
    assert text[-1] == "not compared (1 task, not in the baseline): tb2/new"


def test_confirmations_are_shown_with_their_task():
    after = {**GOOD, "tb2/0": sample(0, 0, 0, 0, 0)}
    text = text_of(GOOD, after, confirmations={("tb2/0", "bot"): (1, 3)})
    assert any(line.endswith("more than chance explains; rerun: 1 of 3 passed") for line in text)


def test_without_a_baseline():
    text = text_of(None, {"tb2/a": sample(1), "tb2/b": sample(0)}, "each")
    assert text == [
        "verdict: regressed (rule each)",
        "  1 of 2 trials did not pass; the rule requires each to pass",
        "failed (1):",
        "  tb2/b  bot  0.00  0 of 1 passed",
    ]


def test_long_sections_are_cut_unless_verbose():
    before = {f"tb2/{n:03}": sample(1, 1, 1, 1, 1) for n in range(100)}
    after = {task: sample(0, 0, 0, 0, 0) for task in before}
    text = text_of(before, after)
    assert len(text) < MAX_ROWS + 10
    assert f"  ... and {100 - MAX_ROWS} more; use -v to list all" in text
    assert len(text_of(before, after, every=True)) > 100
    gone = text_of(before, {"tb2/000": sample(1)})
    assert gone[-1].endswith("tb2/001, tb2/002, tb2/003, tb2/004, tb2/005 and 94 more")


@pytest.mark.parametrize("hostile", ["a\nverdict: pass", "\x1b[2Jx", "a\rb", "\u202egnp"])
def test_hostile_names_stay_on_their_line(hostile):
    before = {**GOOD, hostile: sample(1, 1, 1, 1, 1)}
    text = text_of(before, {**before, hostile: sample(0, 0, 0, 0, 0)})
    assert all(line.isprintable() for line in text)
    assert sum(line.startswith("verdict: ") for line in text) == 1


def test_task_without_graded_attempts_is_only_an_error():
    run = {("tb2/a", "bot"): Sample((), 0, errors=2)}
    verdict = judge(run, None, GateSpec(each=True))
    (section,) = sections(verdict, run)
    assert section.title == "errors"
    assert lines(verdict, run)[-1] == "  tb2/a  bot  -  2 of 2 ended with an infrastructure error"


# Cost and tokens, which do not affect the verdict.

USED = {"cost": 0.04, "input_tokens": 1_000.0, "output_tokens": 200.0}


def change(before: dict[str, float], after: dict[str, float]) -> list[str]:
    tasks = [f"tb2/{n}" for n in range(3)]
    was, now = ({task: sample(1, usage=used) for task in tasks} for used in (before, after))
    text = text_of(was, now)
    assert text[0].startswith("verdict: pass")
    return text[2:]


@pytest.mark.parametrize(
    "after, expected",
    [
        (USED, "mean cost $0.040 per trial, same as the baseline; mean tokens 1.2k per trial, same as the baseline"),
        (
            {"cost": 0.0448, "input_tokens": 1_800.0, "output_tokens": 600.0},
            "mean cost $0.045 per trial, +12% vs. the baseline; mean tokens 2.4k per trial, +100% vs. the baseline",
        ),
        (
            {**USED, "cost": 0.01, "estimated": 2.0},
            "mean cost ~$0.010 per trial, -75% vs. the baseline; mean tokens ~1.2k per trial, same as the baseline",
        ),
        ({"input_tokens": 0.0, "output_tokens": 0.0}, "mean tokens 0 per trial, -100% vs. the baseline"),
    ],
)
def test_change_of_cost_and_tokens(after, expected):
    assert change(USED, after) == [f"  bot: {expected}"]


def test_free_baseline():
    free = dict.fromkeys(USED, 0.0)
    assert change(free, {"cost": 0.04}) == ["  bot: mean cost $0.040 per trial, $0.00 in the baseline"]
    assert "same as the baseline" in change(free, free)[0]


def test_usage_unknown_for_a_task_is_not_shown():
    assert change({}, USED) == change(USED, {}) == change({"input_tokens": 1.0}, USED) == []
    before = {"tb2/a": sample(1, usage=USED), "tb2/b": sample(1, usage={**USED})}
    after = {"tb2/a": sample(1, usage=USED), "tb2/b": sample(1)}
    assert len(text_of(before, after)) == 2

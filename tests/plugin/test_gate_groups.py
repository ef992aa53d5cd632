"""Limits on cost and time, and rules for groups of tasks, in a run."""

from __future__ import annotations

import pytest

RUN = ("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-infra-retries=0")
COMPARED = (*RUN, "--harbor-baseline=baseline.json")

GATE = """
[tool.pytest-harbor.gate]
rule = "drop=0.9,cost=+20%"

[[tool.pytest-harbor.gate.groups]]
category = "games"
rule = "each"

[[tool.pytest-harbor.gate.groups]]
name = "smoke"
tasks = ["a", "b*"]
rule = "flip"
"""


@pytest.fixture
def saved(project):
    """A project with three tasks that passed and cost ten cents each in the baseline, one of them a game."""
    project.rewards(a=1.0, b=1.0, c=1.0)
    project.file("tb2/c/task.toml", '[metadata]\ncategory = "games"\n')
    project.usage(**{name: {"requests": 1, "input_tokens": 100, "cost": 0.1} for name in "abc"})
    project.run(*RUN, "--harbor-save-baseline=baseline.json").has("saved to ")
    return project


def costs(project, *values: float) -> None:
    project.usage(
        **{name: {"requests": 1, "input_tokens": 100, "cost": cost} for name, cost in zip("abc", values, strict=True)}
    )


def test_dearer_run_has_regressed(saved):
    costs(saved, 0.15, 0.15, 0.15)
    outcome = saved.run(*COMPARED, "--harbor-gate=drop=0.9,cost=+20%,tokens=+25%,seconds=+900000%")
    assert outcome.ret == 1
    outcome.has(
        "verdict: regressed (rule drop=0.9,alpha=0.05,cost=+20%,tokens=+25%,seconds=+900000%)",
        "nop: cost +50% per trial over 3 tasks, allowed +20%: regressed",
        "nop: tokens +0% per trial over 3 tasks, allowed +25%: pass",
        "nop: seconds ",
    )


def test_chance_is_inconclusive(saved):
    costs(saved, 0.1, 0.1, 0.3)
    outcome = saved.run(*COMPARED, "--harbor-gate=drop=0.9,cost=+20%")
    assert outcome.ret == 10
    outcome.has("allowed +20%: inconclusive, may be chance")


def test_unknown_cost_is_not_judged(saved):
    saved.usage()
    outcome = saved.run(*COMPARED, "--harbor-gate=drop=0.9,cost=+20%", "--harbor-inconclusive=pass")
    assert outcome.ret == 11
    outcome.has("nop: cost: unknown in this run for 3 of 3 tasks", "run with --harbor-proxy")


def test_limit_needs_a_baseline(saved):
    outcome = saved.run(*RUN, "--harbor-gate=cost=+20%")
    assert outcome.ret == 4
    outcome.has("compares with a baseline, and there is none")


@pytest.mark.parametrize("workers", [(), ("-n2", "-p", "xdist")])
def test_group_without_tasks_is_a_usage_error_before_the_run(saved, workers):
    outcome = saved.run(*COMPARED, "--harbor-gate=drop=0.5; category:gams: each", *workers, subprocess=bool(workers))
    assert outcome.ret == 4
    outcome.has("--harbor-gate: category:gams: no task has the category 'gams'; did you mean 'games'?")
    assert len(list(saved.path.glob("harbor-results/*/results.jsonl"))) == 1, "only the baseline's run"


def test_group_may_be_deselected(saved):
    outcome = saved.run(*COMPARED, "--harbor-gate=drop=0.5; category:games: each", "-k", "not c")
    assert outcome.ret == 11
    outcome.has("category:games (each): not judged; no trial ran")


def test_rules_in_pyproject(saved):
    saved.file("pyproject.toml", f"[tool.pytest.ini_options]\n{GATE}")
    outcome = saved.run(*COMPARED)
    assert outcome.ret == 0
    outcome.has(
        "verdict: pass (rule drop=0.9,alpha=0.05,cost=+20%; category:games: each; smoke: flip)",
        "category:games (each): pass; the only graded trial passed",
        "smoke (flip): pass; nop: none of 2 tasks got worse in every attempt",
    )
    saved.file("rewards.json", '{"a": 1.0, "b": 0.0, "c": 1.0}')
    outcome = saved.run(*COMPARED)
    assert outcome.ret == 1
    outcome.has("smoke (flip): regressed; nop: worse in every attempt at tb2/b")
    assert saved.run(*COMPARED, "--harbor-gate=drop=0.9").ret == 0, "a flag takes precedence"


def test_rules_in_pyproject_that_compare_wait_for_a_baseline(saved):
    saved.file("pyproject.toml", f"[tool.pytest.ini_options]\n{GATE}")
    outcome = saved.run(*RUN)
    assert outcome.ret == 0
    assert outcome.counts["passed"] == 3
    outcome.lacks("verdict")


def test_rules_in_pyproject_next_to_agents(saved):
    agents = '[[tool.pytest-harbor.agents]]\nname = "nop"\nagent = "nop"\n'
    saved.file("pyproject.toml", f"[tool.pytest.ini_options]\n{agents}{GATE}")
    outcome = saved.run("--harbor-dataset=tb2", "--harbor-baseline=baseline.json")
    assert outcome.ret == 0
    outcome.has("smoke (flip): pass")


@pytest.mark.skipif(int(pytest.__version__.partition(".")[0]) < 9, reason="pytest 9 reads pytest.toml")
def test_rules_in_pytest_toml(saved):
    saved.file("pytest.toml", f"[pytest]\n{GATE.replace('tool.', '')}")
    saved.run(*COMPARED).has("smoke: flip")


@pytest.mark.parametrize(
    "table, message",
    [
        (
            "[tool.pytest-harbor.gate]\nrule = 'drp=1'",
            "[tool.pytest-harbor.gate]: 'drp=1' is not valid; use drop=SHARE",
        ),
        (GATE.replace('"games"', '"gamez"'), "category:gamez: no task has the category 'gamez'; did you mean 'games'?"),
        (GATE.replace('"b*"', '"bb"'), "smoke: no task matches 'bb'"),
    ],
)
def test_mistakes_in_pyproject(saved, table, message):
    saved.file("pyproject.toml", f"[tool.pytest.ini_options]\n{table}")
    outcome = saved.run(*COMPARED)
    assert outcome.ret == 4
    outcome.has("pyproject.toml", message)


def test_table_and_ini_key_exclude_each_other(saved):
    saved.file("pyproject.toml", f"[tool.pytest.ini_options]\nharbor_gate = 'each'\n{GATE}")
    outcome = saved.run(*COMPARED)
    assert outcome.ret == 4
    outcome.has("has a table with the rule of a gate and the ini key harbor_gate; keep one of the two")

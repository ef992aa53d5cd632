"""`--harbor-gate=versus=AGENT`: agents of one run compared with one of them."""

from __future__ import annotations

import json

import pytest

AGENTS = "".join(f'[[agents]]\nname = "{name}"\nagent = "nop"\n' for name in ("main", "pr"))
RUN = ("--harbor-dataset=tb2", "--harbor-agents=agents.toml", "--harbor-infra-retries=0")
VERSUS = "--harbor-gate=versus=main"
SOLVED, BROKEN = [1.0] * 4, [0.0] * 4


@pytest.fixture
def side_by_side(project):
    """Fake the rewards of main and pr, by task, and list both agents."""

    def side_by_side(**rewards):
        project.rewards(**{task: {"main": main, "pr": pr} for task, (main, pr) in rewards.items()})
        project.file("agents.toml", AGENTS)
        return project

    return side_by_side


def nothing_ran(project) -> bool:
    return not any(path.is_dir() for path in project.path.glob("harbor-results/*"))


def test_worse_agent_regresses(side_by_side):
    project = side_by_side(a=(SOLVED, SOLVED), b=(SOLVED, BROKEN), c=(SOLVED, BROKEN), d=(BROKEN, [1.0, 0.0, 0.0, 0.0]))
    project.usage(**{task: {"requests": 1, "input_tokens": 1000, "cost": 0.01} for task in "abcd"})
    outcome = project.run(*RUN, VERSUS, "--harbor-attempts=4")
    assert outcome.ret == 1
    outcome.has(
        "verdict: regressed (rule drop=0.05,alpha=0.05,versus=main)",
        "pr: mean reward change -0.438 against agent main over 4 tasks (0.750 -> 0.312)",
        "regressions (2):",
        "tb2/b  pr  1.00 -> 0.00  passed 0 of 4, agent main 4 of 4; more than chance explains; -0.250 of -0.438",
        "tb2/d  pr  0.00 -> 0.25  passed 1 of 4, agent main 0 of 4; +0.062 of -0.438",
        "pr: mean cost $0.010 per trial, same as agent main; mean tokens 1.0k per trial, same as agent main",
    )
    outcome.lacks("the baseline", "failed (")


def test_what_the_named_agent_fails_is_no_concern(side_by_side):
    project = side_by_side(a=(BROKEN, SOLVED), b=(BROKEN, SOLVED))
    outcome = project.run(*RUN, f"{VERSUS},each", "--harbor-attempts=4")
    assert outcome.ret == 0
    outcome.has("verdict: pass", "against agent main", "all 8 graded trials passed", "improvements 2")


def test_every_other_agent_is_compared(side_by_side):
    project = side_by_side(a=(SOLVED, SOLVED), b=(SOLVED, SOLVED), c=(SOLVED, SOLVED))
    project.file("agents.toml", AGENTS + '[[agents]]\nname = "other"\nagent = "nop"\n')
    rewards = {task: {"main": SOLVED, "pr": SOLVED, "other": BROKEN} for task in "abc"}
    project.file("rewards.json", json.dumps(rewards))
    outcome = project.run(*RUN, VERSUS, "--harbor-attempts=4")
    assert outcome.ret == 1
    outcome.has("other: mean reward change -1.000 against agent main", "regressions (3):")
    outcome.lacks("1.00 -> 1.00")


@pytest.mark.parametrize("main, pr", [([0.0, None, None, None], BROKEN), (SOLVED, [1.0, None, None, None])])
def test_lost_trials_of_either_agent_cannot_decide(side_by_side, main, pr):
    project = side_by_side(a=(main, pr), **{f"t{number}": (SOLVED, SOLVED) for number in range(9)})
    outcome = project.run(*RUN, f"{VERSUS},drop=0.01,alpha=0.5", "--harbor-attempts=4")
    assert outcome.ret == 11
    outcome.has(
        "excluded trials decide: had they passed with agent main and failed with others, the run would have regressed",
        "excluded: 3 of 80 trials ended with an infrastructure error (tb2/a)",
    )


def test_tasks_without_a_graded_trial_are_not_compared(side_by_side):
    project = side_by_side(a=(SOLVED, [None] * 4), b=(SOLVED, SOLVED))
    outcome = project.run(*RUN, VERSUS, "--harbor-attempts=4", "--harbor-max-infra-errors=50%")
    assert outcome.ret == 11
    outcome.has("pr: 1 of 2 tasks of agent main compared; 1 only infrastructure errors; at least 80%")


def test_reports_name_the_agent(side_by_side, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    project = side_by_side(a=([1.0], [0.0]), b=([1.0], [1.0]))
    outcome = project.run(*RUN, VERSUS, "--junitxml=junit.xml")
    assert outcome.ret == 10
    (page,) = project.path.glob("harbor-results/*/report.html")
    for path in (page, project.path / "summary.md", project.path / "junit.xml"):
        text = path.read_text()
        assert "ower than agent main" in text, path
        assert "the baseline" not in text, path
    assert "Compared with agent main" in page.read_text()


# Interleaved order.


def agents_in_order(ids: list[str]) -> list[str]:
    return ["main" if "main" in each else "pr" for each in ids]


def test_agents_alternate_and_take_turns_in_going_first(side_by_side):
    project = side_by_side(a=(SOLVED, SOLVED), b=(SOLVED, SOLVED), c=(SOLVED, SOLVED))
    ids = project.ids(*RUN, VERSUS, "--harbor-attempts=3")
    assert [each.partition("::")[2] for each in ids[:4]] == ["a[main]", "a[pr]", "a[pr-2]", "a[main-2]"]
    order = agents_in_order(ids)
    assert all({order[n], order[n + 1]} == {"main", "pr"} for n in range(0, len(order), 2))
    firsts = order[::2]
    assert abs(firsts.count("main") - firsts.count("pr")) == 1


@pytest.mark.slow
def test_order_is_interleaved_with_workers(side_by_side):
    project = side_by_side(**{f"t{number}": (SOLVED, SOLVED) for number in range(6)})
    outcome = project.run(*RUN, VERSUS, "--harbor-attempts=2", "-n2", subprocess=True)
    assert outcome.ret == 0
    outcome.has("verdict: pass", "against agent main over 6 tasks")
    started = sorted(project.results(), key=lambda result: result["started_at"])
    ahead = [sum(1 if each["agent"] == "main" else -1 for each in started[:n]) for n in range(len(started))]
    assert max(map(abs, ahead)) <= 3, "no agent runs far ahead of the other"


# Mistakes are found before the first build.


@pytest.mark.parametrize(
    "options, texts",
    [
        (["--harbor-gate=versus=mian"], ["this run has no agent mian; did you mean main?"]),
        (["--harbor-gate=versus=something"], ["this run has no agent something; its agents are main, pr"]),
        ([VERSUS, "--harbor-baseline=baseline.json"], ["with agent main of this run", "keep one of the two"]),
        ([VERSUS, "-m", "agent_pr"], ["the selected tests have nothing to compare: this run has no agent main"]),
        ([VERSUS, "-m", "agent_main"], ["main is the only agent of this run; add the agent that is to be compared"]),
        (["--harbor-gate=versus="], ["'versus=' does not name an agent", "versus=AGENT"]),
        (["--harbor-gate=versus=<b>"], ["'versus=<b>' does not name an agent"]),
        (["--harbor-gate=versus=a,versus=b"], ["'versus=b' is not valid"]),
    ],
)
def test_mistakes(side_by_side, options, texts):
    project = side_by_side(a=([1.0], [1.0]))
    outcome = project.run(*RUN, *options)
    assert outcome.ret == 4
    outcome.has(*texts)
    assert nothing_ran(project)


def test_single_agent_has_nothing_to_compare_with(project):
    project.rewards(a=1.0)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-gate=versus=nop")
    assert outcome.ret == 4
    outcome.has("nop is the only agent of this run", "--harbor-agents=FILE lists agents")


def test_shards_are_judged_together(side_by_side):
    project = side_by_side(a=([1.0], [1.0]), b=([1.0], [1.0]))
    outcome = project.run(*RUN, VERSUS, "--harbor-shard=1/2")
    assert outcome.ret == 0
    outcome.has("`pytest-harbor gate RUN... --gate drop=0.05,alpha=0.05,versus=main` judges the runs of all shards")


def test_groups_are_compared_with_the_agent_too(side_by_side):
    project = side_by_side(a=(SOLVED, BROKEN), **{f"t{number}": (SOLVED, SOLVED) for number in range(9)})
    outcome = project.run(*RUN, f"{VERSUS},drop=0.5; task:a: drop=0.1", "--harbor-attempts=4")
    assert outcome.ret == 1
    outcome.has("task:a (drop=0.1,alpha=0.05): regressed; pr: mean reward change -1.000 against agent main over 1 task")


def test_rise_is_that_over_the_agent(side_by_side):
    project = side_by_side(a=(SOLVED, SOLVED), b=(SOLVED, SOLVED))
    project.usage(**{task: {"requests": 1, "input_tokens": 1000, "cost": 0.01} for task in "ab"})
    outcome = project.run(*RUN, f"{VERSUS},cost=+10%", "--harbor-attempts=2")
    assert outcome.ret == 0
    outcome.has("pr: cost +0% per trial over 2 tasks")


def test_rule_in_a_configuration_file_is_for_every_run(side_by_side):
    project = side_by_side(a=([1.0], [1.0]))
    project.file("pyproject.toml", "[tool.pytest.ini_options]\n[tool.pytest-harbor.gate]\nrule = 'versus=main'\n")
    outcome = project.run(*RUN)
    assert outcome.ret == 4
    outcome.has("versus=main is about the agents of one run; give it with --harbor-gate")

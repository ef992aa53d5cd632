"""`--harbor-attempts=N..M`: attempts in rounds, until the verdict is certain."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from pytest_harbor.cli import main

RUN = ("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-infra-retries=0")
TASKS = [f"t{number}" for number in range(8)]
COMPARED = (*RUN, "--harbor-baseline=baseline.json")
XDIST = ("-n2", "--dist=loadfile", "--dist=load", "--dist=worksteal")


@pytest.fixture
def baseline(project):
    """Save a baseline of five attempts, all of which passed, and set other rewards for the next run."""

    def baseline(reward: float | list[float], **others):
        project.rewards(**dict.fromkeys(TASKS, 1.0))
        saved = project.run(*RUN, "--harbor-attempts=5", "--harbor-save-baseline=baseline.json", "-q")
        assert saved.ret == 0, saved
        for run in project.path.glob("harbor-results/*"):
            run.rename(project.path / run.name)
        project.file("rewards.json", json.dumps(dict.fromkeys(TASKS, reward) | others))

    return baseline


def attempts(project) -> Counter[int]:
    return Counter(result["attempt"] for result in project.results())


def rounds(outcome) -> tuple[int, int]:
    """Return the number of rounds and trials of a run that was decided."""
    found = re.search(r"decided after (\d+) of 6 rounds: (\d+) of 48 trials", outcome.out)
    assert found, outcome
    return int(found[1]), int(found[2])


def test_broken_agent_is_decided_in_the_first_round(project, baseline):
    baseline(0.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6", "-v")
    assert outcome.ret == 1
    assert rounds(outcome) == (1, 8)
    assert attempts(project) == {1: 8}
    outcome.has("1 to 6 attempts until the verdict is certain", "verdict: regressed")
    outcome.lacks("[2]")
    assert outcome.counts == {"scored": 8}


def test_unchanged_agent_needs_few_rounds(project, baseline):
    baseline(1.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6")
    assert outcome.ret == 0
    done, trials = rounds(outcome)
    assert done < 6
    assert trials == 8 * done
    assert attempts(project) == dict.fromkeys(range(1, done + 1), 8)


def test_least_attempts_are_made_in_any_case(project, baseline):
    baseline(0.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=3..6")
    assert outcome.ret == 1
    assert rounds(outcome) == (3, 24)
    assert attempts(project) == {1: 8, 2: 8, 3: 8}


@pytest.mark.slow
@pytest.mark.parametrize("dist", ["", *XDIST[1:]])
def test_workers_decide_together(project, baseline, dist):
    baseline(0.0)
    options = ("-n2", *([dist] if dist else ()), "-v")
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6", *options, subprocess=True)
    assert outcome.ret == 1
    done, trials = rounds(outcome)
    assert done == 1
    assert trials == len(project.results())
    assert attempts(project)[1] == 8
    assert outcome.counts == {"scored": trials}
    # The other distributions may begin with late attempts.
    assert trials < 48 or dist in ("--dist=loadfile", "--dist=worksteal")
    outcome.shows_no_bug()


def test_rounds_go_across_tasks_and_keep_other_tests(project, baseline):
    baseline(0.0)
    project.file("test_unit.py", "def test_one(): pass\ndef test_two(): pass\n")
    outcome = project.run("tb2", "test_unit.py", *COMPARED, "--harbor-attempts=2..6", "-v")
    order = [re.sub(r".*::", "", line.split()[0]) for line in outcome.out.splitlines() if "::" in line and "%]" in line]
    assert order == [*TASKS, *(f"{task}[2]" for task in TASKS), "test_one", "test_two"]
    assert outcome.counts == {"scored": 16, "passed": 2}


def test_own_tests_of_trials(project, baseline):
    baseline(0.0)
    project.file(
        "test_own.py",
        "def test_own(harbor_trial):\n    assert harbor_trial.run().reward is not None\n",
    )
    project.run("test_own.py", *RUN, "--harbor-attempts=5", "--harbor-save-baseline=own.json", "-q")
    for run in project.path.glob("harbor-results/*"):
        run.rename(project.path / run.name)
    project.file("rewards.json", json.dumps(dict.fromkeys(TASKS, 0.0)))
    outcome = project.run("test_own.py", *COMPARED, "--harbor-attempts=1..6")
    assert outcome.ret == 1
    assert attempts(project) == {1: 8}
    assert outcome.counts == {"passed": 8}


def test_skipped_tasks_do_not_keep_a_round_open(project, baseline):
    baseline(0.0)
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + "\n\ndef pytest_runtest_setup(item):\n"
        "    if item.name.startswith('t7'):\n        pytest.skip('not now')\n"
    )
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6")
    assert attempts(project) == {1: 8}
    assert outcome.counts == {"scored": 7, "skipped": 1}


def test_infrastructure_errors_do_not_keep_a_round_open(project, baseline):
    baseline(0.0, t7=None)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6")
    assert outcome.ret == 1
    assert attempts(project) == {1: 8}
    assert outcome.counts == {"scored": 7, "errors": 1}


def test_what_is_left_is_in_no_report(project, baseline):
    baseline(0.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6", "--junitxml=j.xml")
    xml = (project.path / "j.xml").read_text()
    assert xml.count("<testcase") == 9
    assert 'name="t0[2]"' not in xml
    assert "decided after 1 of 6 rounds: 8 of 48 trials" in xml
    (page,) = project.path.glob("harbor-results/*/report.html")
    assert "decided after 1 of 6 rounds: 8 of 48 trials" in page.read_text()
    outcome.lacks("did not run")
    again = project.run(*RUN, "--lf", "--harbor-attempts=2", "-q")
    assert again.counts["failed"] == 16, "nothing had failed, so all tests run"


def test_confirmations_stay(project, baseline):
    baseline(0.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6", "--harbor-confirm=2")
    assert rounds(outcome) == (1, 8)
    assert len(project.results()) == 24


def test_fixtures_are_torn_down_before_other_tests(project, baseline):
    baseline(0.0)
    project.file(
        "test_own.py",
        "import pytest\n\n\n@pytest.fixture(scope='module')\ndef thing():\n    yield\n    print('torn down')\n\n\n"
        "def test_own(harbor_trial, thing):\n    pass\n",
    )
    project.file("test_unit.py", "def test_last(): print('last')\n")
    outcome = project.run("test_own.py", "test_unit.py", *COMPARED, "--harbor-attempts=1..6", "-s")
    assert outcome.out.index("torn down") < outcome.out.index("last")
    assert outcome.counts == {"passed": 9}


def test_undecided_run_makes_all_attempts(project, baseline):
    baseline(0.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..2", "--harbor-task=t0", "--harbor-min-coverage=0.1")
    assert attempts(project) == {1: 1, 2: 1}
    assert outcome.ret == 10
    outcome.has("verdict: inconclusive", "not decided before the last of 2 rounds: 2 of 2 trials")


def test_run_that_stops_early_is_not_judged(project, baseline):
    baseline(1.0)
    project.file("test_unit.py", "def test_it(): assert False")
    outcome = project.run("test_unit.py", "tb2", *COMPARED, "--harbor-attempts=1..6", "-x")
    assert outcome.ret == 1
    outcome.lacks("rounds:")


def test_same_least_and_most_is_a_number(project):
    project.rewards(a=1.0)
    assert project.run(*RUN, "--harbor-attempts=3..3").counts == {"passed": 3}


def test_range_needs_a_baseline(project):
    project.rewards(a=1.0)
    outcome = project.run(*RUN, "--harbor-attempts=1..6", "--harbor-gate=each")
    assert outcome.ret == 4
    outcome.has(
        "--harbor-attempts=1..6 stops once a comparison",
        "--harbor-gate=versus=AGENT, or give one number",
    )
    project.ini("harbor_attempts = 1..6")
    assert project.run(*RUN).ret == 4
    assert project.run(*RUN, "--harbor-attempts=2").counts == {"passed": 2}


@pytest.mark.parametrize("option", ["--harbor-save-baseline=new.json", "--harbor-update-baseline"])
def test_range_does_not_save_a_baseline(project, baseline, option):
    baseline(1.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6", option)
    assert outcome.ret == 4
    outcome.has("exclude each other: rewards of attempts that stop at a verdict are biased; give one number, such as 6")


def test_range_and_each_worker(project, baseline):
    baseline(1.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=1..6", "-n2", "--dist=each", subprocess=True)
    assert outcome.ret == 4
    outcome.has("--dist=each exclude each other; give one number")


def test_range_in_an_ini_file(project, baseline):
    baseline(0.0)
    project.ini("harbor_attempts = 1..6", "harbor_baseline = baseline.json")
    outcome = project.run(*RUN)
    assert outcome.ret == 1
    assert rounds(outcome) == (1, 8)


def test_shard_makes_the_least_attempts(project, baseline):
    baseline(0.0)
    outcome = project.run(*COMPARED, "--harbor-attempts=2..6", "--harbor-shard=1/2")
    assert outcome.ret == 0
    assert attempts(project) == {1: 4, 2: 4}
    outcome.has("2 attempts of up to 6: a shard cannot know that more are needed", "run them with more")
    (record,) = project.path.glob("harbor-results/*/run.json")
    assert json.loads(record.read_text())["options"]["attempts"] == "2..6"


def test_spent_budget_is_not_decided(project, baseline):
    baseline(0.0)
    project.usage(**{task: {"requests": 1, "budget": "--harbor-session-budget is spent"} for task in TASKS})
    outcome = project.run(*COMPARED, "--harbor-attempts=1..2")
    assert outcome.ret == 11
    assert attempts(project) == {1: 8, 2: 8}


def test_finished_run_is_judged_by_the_same_rounds(project, baseline, capsys):
    baseline(0.0)
    project.run(*COMPARED, "--harbor-attempts=1..6")
    (results,) = project.path.glob("harbor-results/*/results.jsonl")
    late = {
        **project.results()[0],
        "attempt": 2,
        "reward": 1.0,
        "outcome": "passed",
        "node_id": "tb2/t0/task.toml::t0[2]",
    }
    results.write_text(results.read_text() + json.dumps(late) + "\n")
    run = results.parent
    capsys.readouterr()
    assert main(["gate", str(run), "--baseline", "baseline.json"]) == 1
    output = capsys.readouterr().out
    assert "decided after 1 of 6 rounds: 9 of 48 trials" in output
    assert "(1.000 -> 0.000)" in output
    assert main(["gate", str(run), "--save-baseline", "new.json"]) == 2
    assert "their rewards are biased; run a fixed number of attempts" in capsys.readouterr().err


def test_shards_are_judged_together(project, baseline, capsys):
    baseline(0.0)
    for shard in ("1/2", "2/2"):
        project.run(*COMPARED, "--harbor-attempts=2..6", f"--harbor-shard={shard}")
    capsys.readouterr()
    assert main(["gate", *map(str, project.path.glob("harbor-results/2*")), "--baseline", "baseline.json"]) == 1
    output = capsys.readouterr().out
    assert "a shard makes only the least attempts of --harbor-attempts=2..6; if these do not decide" in output
    assert "rounds" not in output


def test_agents_of_one_run_are_compared_round_by_round(project):
    project.rewards(**{task: {"main": 1.0, "pr": 0.0} for task in TASKS})
    project.file("agents.toml", "".join(f'[[agents]]\nname = "{name}"\nagent = "nop"\n' for name in ("main", "pr")))
    run = ("--harbor-dataset=tb2", "--harbor-agents=agents.toml", "--harbor-infra-retries=0")
    outcome = project.run(*run, "--harbor-gate=versus=main", "--harbor-attempts=1..6")
    assert outcome.ret == 1
    made = attempts(project)
    assert set(made.values()) == {16}
    outcome.has(f"decided after {len(made)} of 6 rounds: {16 * len(made)} of 96 trials")


@pytest.mark.slow
def test_crashed_worker_does_not_keep_a_round_open(project, baseline):
    baseline(0.0)
    project.file(
        "agent.py", "import os\n\ndef dies(task, environment):\n    if task.name == 't3':\n        os._exit(9)\n"
    )
    options = ("--harbor-agent=agent.py:dies", "--harbor-agent-name=nop", "-n2")
    outcome = project.run("--harbor-dataset=tb2", *COMPARED[2:], *options, "--harbor-attempts=1..6", subprocess=True)
    outcome.has("decided after ", "of 6 rounds")
    assert len(project.results()) < 48

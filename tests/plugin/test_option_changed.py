"""`--harbor-changed`: what has not changed since the baseline is not run again, if the agent is deterministic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_harbor.cli import main
from pytest_harbor.gate import Baseline

# Unlike the one of project.rewards(), it overrides no fixture: nobody knows what a fixture does.
CONFTEST = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(Path(__file__).parents[1])!r})

import fake_provider


def pytest_harbor_provider(config):
    return fake_provider.from_file(Path(__file__).parent / "rewards.json")
"""
RUN = ("--harbor-dataset=tb2", "--harbor-infra-retries=0")
NOP = (*RUN, "--harbor-agent=nop")
CHANGED = ("--harbor-baseline=baseline.json", "--harbor-changed")


@pytest.fixture
def baseline(project):
    """Run tasks with these rewards, and save the baseline."""

    def baseline(*options, **rewards):
        project.rewards(**rewards)
        project.file("conftest.py", CONFTEST)
        for name in rewards:
            project.file(f"tb2/{name}/solution/solve.sh", "true\n")
        project.run(*(options or NOP), "--harbor-save-baseline=baseline.json").has("saved to ")
        for run in project.path.glob("harbor-results/*"):
            run.rename(project.path / run.name)
        return project

    return baseline


def ran(project) -> list[str]:
    """Return the names of the tasks that ran."""
    return sorted(result["task"].removeprefix("tb2/") for result in project.results() if result["outcome"] != "skipped")


def test_only_what_changed_runs(baseline):
    project = baseline(a=1.0, b=0.0, c=1.0)
    project.file("tb2/a/instruction.md", "Something else.\n")
    project.task("tb2/d")
    project.file("rewards.json", json.dumps({"a": 1.0, "d": 1.0}))
    outcome = project.run(*NOP, *CHANGED, "-rs", "--harbor-min-coverage=0.5")
    assert outcome.ret == 0
    assert ran(project) == ["a", "d"]
    why = "nop: 2 of 4 tasks not run again, as nothing has changed since the baseline; run: 1 task changed, "
    outcome.has(
        f"harbor: {why}1 task not in the baseline",
        f"  {why}1 task not in the baseline",
        "unchanged since the baseline, whose rewards count",
        "nop: mean reward change +0.000 over 2 tasks (0.500 -> 0.500)",
        "nop: 2 of 3 tasks in the baseline compared; 1 the task has changed",
    )


def test_nothing_changed(baseline):
    project = baseline(a=1.0, b=0.0)
    outcome = project.run(*NOP, *CHANGED, "--harbor-update-baseline")
    assert outcome.ret == 0
    assert ran(project) == []
    outcome.has("verdict: pass", "over 2 tasks (0.500 -> 0.500)", "stays as it is: nothing has changed")


def test_other_rules_count_what_was_taken(baseline):
    project = baseline(a=1.0, b=0.0)
    outcome = project.run(*NOP, *CHANGED, "--harbor-gate=each")
    assert outcome.ret == 1
    outcome.has("1 of 2 trials did not pass")


def test_update_keeps_what_did_not_run(baseline):
    project = baseline(a=1.0, b=1.0)
    project.file("tb2/a/instruction.md", "Something else.\n")
    project.run(*NOP, *CHANGED, "--harbor-update-baseline").has("baseline of 2 tasks saved")
    assert project.run(*NOP, *CHANGED).counts == {"skipped": 2}


@pytest.mark.slow
def test_with_workers(baseline):
    project = baseline(a=1.0, b=0.0, c=1.0)
    project.file("tb2/a/instruction.md", "Something else.\n")
    outcome = project.run(*NOP, *CHANGED, "--harbor-min-coverage=0.5", "-n2", subprocess=True)
    assert outcome.ret == 0
    assert ran(project) == ["a"]
    outcome.has("nop: 2 of 3 tasks not run again, as nothing has changed since the baseline; run: 1 task changed")


# What must run again.


def test_solution_is_the_oracle(baseline):
    project = baseline(*RUN, "--harbor-agent=oracle", a=1.0, b=1.0)
    project.file("tb2/a/solution/solve.sh", "# another\n")
    outcome = project.run(*RUN, "--harbor-agent=oracle", *CHANGED)
    assert ran(project) == ["a"]
    outcome.has(
        "run: 1 task with another agent, settings or cassettes",
        "oracle: the agent or its settings have changed since the baseline (1 of 2 tasks)",
    )


@pytest.mark.parametrize("option", ["--harbor-image=debian:12", "--harbor-timeout-multiplier=2", "--harbor-attempts=2"])
def test_other_settings_run_again(baseline, option):
    project = baseline(a=1.0)
    project.run(*NOP, *CHANGED, option)
    assert set(ran(project)) == {"a"}


def test_other_agents_run_again_with_the_reason(baseline):
    command = (*RUN, "--harbor-agent-command=true", "--harbor-agent-name=mine")
    project = baseline(*command, a=1.0)
    outcome = project.run(*command, *CHANGED)
    assert ran(project) == ["a"]
    outcome.has("run: 1 task because only oracle, nop and replayed model calls are deterministic")


@pytest.mark.parametrize(
    "change, why",
    [
        ({"errors": 1}, "with too few attempts in the baseline"),
        ({"rewards": (1.0, 0.0)}, "flaky in the baseline"),
        ({"settings": ""}, "without settings in the baseline"),
    ],
)
def test_doubtful_baseline(baseline, change, why):
    project = baseline(a=1.0)
    saved = Baseline.read(project.path / "baseline.json")
    samples = {key: replace(sample, **change, runs=()) for key, sample in saved.samples.items()}
    replace(saved, samples=samples).write(project.path / "baseline.json")
    outcome = project.run(*NOP, *CHANGED)
    assert ran(project) == ["a"]
    outcome.has(f"run: 1 task {why}")


def test_another_version_of_this_plugin(baseline):
    project = baseline(a=1.0)
    saved = Baseline.read(project.path / "baseline.json")
    replace(saved, run={"pytest_harbor": "0.0.1"}).write(project.path / "baseline.json")
    outcome = project.run(*NOP, *CHANGED)
    assert ran(project) == ["a"]
    outcome.has("run: 1 task because the baseline is of pytest-harbor 0.0.1, not ")


@pytest.mark.parametrize(
    "code, why",
    [
        ("def pytest_harbor_reward(environment): return 1.0", "with hooks or fixtures of a conftest.py"),
        ("import pytest\n@pytest.fixture\ndef harbor_image(): return 'debian'", "with hooks or fixtures"),
        ("def pytest_harbor_task(task): return task.with_changes(instruction='Other')", "with hooks or fixtures"),
    ],
)
def test_hooks_and_fixtures_may_do_anything(baseline, code, why):
    project = baseline(a=1.0)
    project.file("conftest.py", f"{CONFTEST}\n\n{code}\n")
    outcome = project.run(*NOP, *CHANGED)
    assert ran(project) == ["a"]
    outcome.has(why)


def test_own_tests_run(baseline):
    project = baseline(a=1.0)
    project.file("test_own.py", "def test_it(harbor_trial): assert harbor_trial.reward == 1")
    outcome = project.run("test_own.py", *NOP, *CHANGED)
    assert ran(project) == ["a"]
    outcome.has("used by tests of yours")


# Replays.

REPLAY = (*RUN, "--harbor-agent-command=true", "--harbor-proxy=replay")


def cassette(project, text: str) -> None:
    project.file("cassettes/tb2/a/command.1.json", text)


def test_replay_depends_on_its_cassette(baseline, project):
    cassette(project, '{"schema_version": 1, "calls": []}')
    baseline(*REPLAY, a=1.0)
    outcome = project.run(*REPLAY, *CHANGED)
    assert ran(project) == []
    outcome.has("command: 1 of 1 task not run again")
    for run in project.path.glob("harbor-results/*"):
        run.rename(project.path / run.name)
    cassette(project, '{"schema_version": 1, "calls": [] }')
    project.run(*REPLAY, *CHANGED).has("run: 1 task with another agent, settings or cassettes")
    assert ran(project) == ["a"]


# Mistakes, and finished runs.


@pytest.mark.parametrize(
    "options, text",
    [
        (
            ["--harbor-changed"],
            "--harbor-changed has no effect without a baseline, whose rewards it takes; add --harbor-baseline=FILE",
        ),
        ([*CHANGED, "--harbor-save-baseline=new.json"], "would save only what --harbor-changed ran"),
    ],
)
def test_mistakes(baseline, options, text):
    project = baseline(a=1.0)
    outcome = project.run(*NOP, *options)
    assert outcome.ret == 4
    outcome.has(text)


def test_finished_run_needs_its_baseline(baseline, capsys):
    project = baseline(a=1.0, b=0.0)
    project.file("tb2/a/instruction.md", "Something else.\n")
    project.run(*NOP, *CHANGED, "--harbor-min-coverage=0.5")
    (run,) = (str(file.parent) for file in project.path.glob("harbor-results/*/results.jsonl"))
    capsys.readouterr()
    assert main(["gate", run, f"--baseline={project.path / 'baseline.json'}", "--min-coverage=0.5"]) == 0
    out = capsys.readouterr().out
    assert "over 1 task (0.000 -> 0.000)" in out
    assert "note: 1 task not run again, as nothing had changed: the rewards are those of the baseline" in out
    assert main(["gate", run, "--gate=each"]) == 11
    assert "not run again, and not in this baseline: 1 task (tb2/b)" in capsys.readouterr().out

"""Plugins that run a test more than once: each run is a trial of its own."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

# How each plugin is asked for up to two runs of a failed test, and for two runs of any test.
AGAIN = {
    "rerunfailures": ["--reruns=1"],
    "flaky": ["--force-flaky", "--max-runs=2"],
    "pytest-retry": ["--retries=1"],
}
REPEATED = {"flakefinder": ["--flake-finder", "--flake-runs=2"]}
ENDINGS = (0.0, 1.0)


def options(plugin: str, flags: list[str]) -> list[str]:
    if not importlib.metadata.entry_points(group="pytest11", name=plugin):
        pytest.skip(f"{plugin} is not installed")
    return ["-p", plugin, *flags]


@pytest.fixture(params=AGAIN)
def again(request):
    return options(request.param, AGAIN[request.param])


# A task whose first trial gets the first reward, and whose later trials get the others.
CHANGING = """
import json
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("next.json")


def pytest_harbor_reward(verification):
    first, *others = json.loads(FILE.read_text())
    FILE.write_text(json.dumps(others or [first]))
    return first
"""


@pytest.fixture
def changing(project):
    project.rewards(a=1.0)
    project.path.joinpath("conftest.py").write_text(project.path.joinpath("conftest.py").read_text() + CHANGING)

    def set_rewards(*rewards: float):
        project.file("next.json", str(list(rewards)))
        return project

    return set_rewards


ARGS = ("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-infra-retries=0")


def check_results(project, *outcomes: str) -> list[dict]:
    results = project.results()
    assert [result["outcome"] for result in results] == list(outcomes)
    assert [result["rerun"] for result in results] == list(range(len(outcomes)))
    directories = {result["directory"] for result in results}
    assert len(directories) == len(outcomes)
    assert all(Path(directory, "trial.json").is_file() for directory in directories)
    return results


def test_failed_trial_is_run_again(changing, again):
    project = changing(0.0, 1.0)
    outcome = project.run(*ARGS, *again)
    assert outcome.ret == 0, outcome
    check_results(project, "failed", "passed")
    outcome.has("1 passed, 1 failed", "1 flaky task: tb2/a")


def test_trial_that_fails_again(changing, again):
    project = changing(0.0, 0.5)
    outcome = project.run(*ARGS, *again)
    assert outcome.ret == 1, outcome
    check_results(project, "failed", "failed")


def test_infrastructure_error_is_never_a_pass(project, again):
    project.rewards(a=None)
    outcome = project.run(*ARGS, *again)
    assert outcome.ret == 1, outcome
    assert "passed" not in outcome.counts
    results = project.results()
    assert {result["outcome"] for result in results} == {"error"}
    assert len({result["directory"] for result in results}) == len(results)


# The case that was reported: setup fails once.
FAILS_ONCE = """

@pytest.fixture
def harbor_environment(harbor_environment):
    marker = HERE / "was-here"
    if not marker.exists():
        marker.touch()
        from pytest_harbor.errors import InfrastructureError

        raise InfrastructureError("the engine hiccups")
    return harbor_environment
"""


@pytest.mark.parametrize("reward", ENDINGS)
@pytest.mark.parametrize("plugin", ["rerunfailures", "flaky"])
def test_setup_that_fails_once(project, plugin, reward):
    project.rewards(a=reward)
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + FAILS_ONCE)
    outcome = project.run(*ARGS, *options(plugin, AGAIN[plugin]))
    assert outcome.ret == (0 if reward else 1), outcome
    check_results(project, "error", "passed" if reward else "failed")


def test_own_test_is_run_again(changing, again):
    project = changing(0.0, 1.0)
    project.file(
        "test_mine.py",
        "import pytest\n\n@pytest.mark.harbor('tb2')\n"
        "def test_it(harbor_trial):\n    assert harbor_trial.reward == 1\n",
    )
    outcome = project.run("test_mine.py", *ARGS[1:], *again)
    assert outcome.ret == 0, outcome
    check_results(project, "failed", "passed")


def test_properties_of_each_run(changing):
    project = changing(0.0, 1.0)
    project.run(*ARGS, *options("rerunfailures", ["--reruns=1"]), "--junitxml=junit.xml")
    text = (project.path / "junit.xml").read_text()
    assert re.findall('name="harbor_outcome" value="(.*?)"', text) == ["failed", "passed"]


def test_both_runs_count(changing):
    project = changing(0.0, 1.0)
    outcome = project.run(*ARGS, *options("rerunfailures", ["--reruns=1"]), "--harbor-save-baseline=baseline.json")
    outcome.has("1 passed, 1 failed")
    assert outcome.counts["rerun"] == 1
    assert '"rewards": [0.0, 1.0]' in " ".join((project.path / "baseline.json").read_text().split())


@pytest.mark.parametrize("plugin", REPEATED)
def test_copied_items(changing, plugin):
    project = changing(0.0, 1.0)
    outcome = project.run(*ARGS, *options(plugin, REPEATED[plugin]))
    assert outcome.counts == {"passed": 1, "failed": 1}
    check_results(project, "failed", "passed")


def test_repeat_is_a_number_of_attempts(project):
    project.rewards(a=1.0)
    repeat = options("repeat", ["--count=2"])
    ids = ["tb2/a/task.toml::a", "tb2/a/task.toml::a[2]"]
    assert project.ids("--harbor-dataset=tb2", *repeat) == ids
    assert len(project.ids("--harbor-dataset=tb2", "--harbor-attempts=2", *repeat)) == 4
    outcome = project.run(*ARGS, *repeat)
    assert outcome.counts == {"passed": 2}
    outcome.has("2 attempts")
    assert [result["attempt"] for result in project.results()] == [1, 2]


def test_repeated_own_test(project):
    project.rewards(a=1.0)
    project.file("test_mine.py", "import pytest\n\n@pytest.mark.harbor('tb2')\ndef test_it(harbor_trial): pass\n")
    outcome = project.run("test_mine.py", *ARGS[1:], *options("repeat", ["--count=2"]))
    assert outcome.counts == {"passed": 2}
    assert len({result["directory"] for result in project.results()}) == 2


@pytest.mark.slow
def test_workers_that_run_the_same_tests(project):
    project.rewards(a=1.0, b=0.0)
    outcome = project.run(*ARGS, "-n2", "--dist=each", subprocess=True)
    assert outcome.counts == {"passed": 2, "failed": 2}
    assert len({result["directory"] for result in project.results()}) == 4


@pytest.mark.slow
def test_reruns_in_workers(project):
    project.rewards(a=0.0, b=1.0)
    outcome = project.run(*ARGS, "-n2", *options("rerunfailures", ["--reruns=2"]), subprocess=True)
    assert outcome.counts == {"failed": 1, "rerun": 2, "passed": 1}
    assert [result["rerun"] for result in project.results() if result["task"] == "tb2/a"] == [0, 1, 2]

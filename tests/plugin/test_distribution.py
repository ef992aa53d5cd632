"""Under -n, no task waits behind a slow one while a worker is idle."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

# The slow task's agent ends once all the others have run: whoever waits behind it would wait forever. The deadline only
# keeps a failing test from hanging.
AGENT = """
import os
import time
from pathlib import Path

HERE = Path(__file__).parent


def solve(task, environment):
    if task.name != "slow":
        with (HERE / "done.txt").open("a") as file:
            file.write(task.name + "\\n")
        return
    deadline = time.monotonic() + 120
    while len(set((HERE / "done.txt").read_text().split())) < OTHERS:
        if time.monotonic() > deadline:
            (HERE / "stuck.txt").touch()
            return
        time.sleep(0.05)
"""
DIES = """

def dies(task, environment):
    solve(task, environment)
    if task.name == "y":
        os._exit(9)
"""
ARGS = ("--harbor-dataset=tb2", "--harbor-agent=agent.py:solve")


@pytest.fixture
def tasks(project):
    def make(*names: str):
        project.rewards(**dict.fromkeys(names, 1.0))
        project.file("agent.py", AGENT.replace("OTHERS", str(len(names) - 1)))
        project.file("done.txt", "")
        return project

    return make


def check(project, outcome, count: int) -> None:
    assert outcome.counts == {"passed": count}, outcome
    assert not (project.path / "stuck.txt").exists(), "a task waited behind a slow one"
    results = project.results()
    assert len(results) == len({result["task"] for result in results}) == count, "each task ran once"
    outcome.shows_no_bug()


@pytest.mark.parametrize(
    "names", [("slow", "x"), ("slow", "x", "y"), ("a", "slow", "x", "y"), (*"abcdefgh", "slow", *"xyz")]
)
def test_idle_worker_takes_what_waits_behind_a_slow_task(tasks, names):
    project = tasks(*names)
    check(project, project.run(*ARGS, "-n2", subprocess=True), len(names))


def test_maxschedchunk_and_more_workers(tasks):
    names = ("slow", *"stuvwxyz")
    project = tasks(*names)
    check(project, project.run(*ARGS, "-n3", "--maxschedchunk=4", subprocess=True), len(names))


def test_two_datasets(tasks):
    project = tasks("slow", "x", "y")
    for name in "zw":
        project.task(f"other/{name}")
    project.file("rewards.json", '{"slow": 1, "x": 1, "y": 1, "z": 1, "w": 1}')
    project.file("agent.py", AGENT.replace("OTHERS", "4"))
    check(project, project.run(*ARGS, "--harbor-dataset=other", "-n2", subprocess=True), 5)


def test_own_tests_beside_tasks(tasks):
    project = tasks("slow", "x")
    project.file(
        "test_unit.py",
        "import pytest\n\n\n@pytest.fixture(scope='module')\ndef thing():\n    yield 1\n\n\n"
        "@pytest.mark.parametrize('n', range(5))\ndef test_one(thing, n): pass\n",
    )
    outcome = project.run(*ARGS, ".", "-n2", subprocess=True)
    assert outcome.counts == {"passed": 7}
    assert not (project.path / "stuck.txt").exists()


def test_chosen_distribution_is_kept(tasks):
    project = tasks("x", "y", "z")
    for flags in (["--dist=loadfile"], ["--dist=worksteal"], ["--dist=load"]):
        outcome = project.run(*ARGS, "-n2", "-v", *flags, subprocess=True)
        assert outcome.counts == {"passed": 3}
        outcome.lacks("QueueScheduling")
    project.run(*ARGS, "-n2", "-v", subprocess=True).has("scheduling tests via QueueScheduling")


def test_distribution_of_another_plugin_is_kept(tasks):
    project = tasks("x", "y")
    conftest = project.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + "\n\ndef pytest_xdist_make_scheduler(config, log):\n"
        "    from xdist.scheduler import LoadFileScheduling\n\n    return LoadFileScheduling(config, log)\n"
    )
    outcome = project.run(*ARGS, "-n2", "-v", subprocess=True)
    assert outcome.counts == {"passed": 2}
    outcome.has("scheduling tests via LoadFileScheduling")


def test_projects_without_tasks_are_distributed_by_xdist(project):
    project.file("test_unit.py", "def test_one(): pass\ndef test_two(): pass\n")
    outcome = project.run("-n2", "-v", subprocess=True)
    assert outcome.counts == {"passed": 2}
    outcome.has("scheduling tests via LoadScheduling")


def test_worker_that_dies_behind_a_slow_task(tasks):
    project = tasks("slow", "x", "y", "z")
    project.file("agent.py", project.path.joinpath("agent.py").read_text() + DIES)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=agent.py:dies", "-n2", subprocess=True)
    assert outcome.counts["passed"] == 3, outcome
    assert outcome.ret == 1
    assert not (project.path / "stuck.txt").exists()
    assert sorted(result["task"] for result in project.results()) == ["tb2/slow", "tb2/x", "tb2/y", "tb2/z"]

"""Ten thousand tasks in one run. Function calls are counted, not timed, to detect quadratic steps."""

from __future__ import annotations

import cProfile
import os
import pstats

import pytest

from pytest_harbor.task import task as task_module

MANY = 10_000

pytestmark = pytest.mark.slow


@pytest.fixture
def many(project):
    def make(begin: int, end: int):
        for number in range(begin, end):
            directory = project.path / "data" / f"set{number % 10}" / f"task-{number:05}"
            directory.mkdir(parents=True)
            (directory / "task.toml").write_text(f'[metadata]\ndifficulty = "easy"\ntags = ["t{number}"]\n')
        return project

    return make


def test_ten_thousand_tasks_are_read_once(many, monkeypatch):
    project = many(0, MANY)
    reads = []
    read = task_module.read_toml
    monkeypatch.setattr(task_module, "read_toml", lambda path: reads.append(os.fspath(path)) or read(path))
    outcome = project.run(
        "--harbor-dataset=data", "--collect-only", "-qq", "--strict-markers", "-p", "no:cacheprovider"
    )
    assert outcome.ret == 0
    assert sum(int(line.rpartition(": ")[2]) for line in outcome.out.splitlines() if "task.toml: " in line) == MANY
    assert len(reads) == len(set(reads)) == MANY


def calls(project, *args: str) -> int:
    """Return the number of function calls in a run."""
    profile = cProfile.Profile()
    profile.enable()
    try:
        outcome = project.run(*args, "--collect-only", "-qq", "-p", "no:cacheprovider")
    finally:
        profile.disable()
    assert outcome.ret == 0, str(outcome)
    return pstats.Stats(profile).total_calls


def assert_linear(many, *args: str) -> None:
    """Assert that 100 more tasks cost as much as the first 100, and another 200 cost twice as much."""
    counts = []
    for begin, end in ((0, 10), (10, 50), (50, 100), (100, 200)):
        project = many(begin, end)
        counts.append(calls(project, *args))
    _, a, b, c = counts  # the first run includes one-time work
    assert c - b < 2.3 * (b - a), counts


@pytest.mark.parametrize("more", [[], ["--harbor-task=task-*", "--harbor-exclude-task=task-00000"], ["-m", "tag_t1"]])
def test_work_is_linear_in_the_number_of_tasks(many, more):
    assert_linear(many, "--harbor-dataset=data", "--strict-markers", *more)


def test_user_test_over_many_tasks(many, project):
    project.file("test_mine.py", "def test_it(harbor_task): pass\n")
    assert_linear(many, "--harbor-dataset=data", "--strict-markers", "test_mine.py")

"""A project of a user, in which pytest is run; no engine answers there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from inner_pytest import FEWER_PLUGINS

# Loaded once here: pytester drops what a run inside this process was the first to import.

# What makes a task one that is skipped before any engine is asked for.
SKIPPED = '[environment]\nos = "windows"\n'


# A conftest.py with which trials come to the rewards that rewards.json names by task, or else by agent, without an
# engine. None stands for an environment that is lost while the tests run. usage.json names what trials used of models,
# and which budget they spent.
REWARDS = """
import json
from pathlib import Path

from pytest_harbor.errors import EnvironmentLost
from pytest_harbor.image import Image
from pytest_harbor.trial import Trial, Usage

REWARDS = json.loads(Path(__file__).with_name("rewards.json").read_text())
USAGE = Path(__file__).with_name("usage.json")
KEPT = {}


def grade(self, environment, report):
    with self._phase("verify"):
        reward = REWARDS[self.task.name if self.task.name in REWARDS else self.result.agent]
        reward = reward[self.result.attempt - 1] if isinstance(reward, list) else reward
        if reward is None:
            raise EnvironmentLost("the container is gone")
        return reward


def conclude(self, environment, reward):
    self.result.metrics = {"rows": 7.0}
    self.result.reward = reward
    self.result.outcome = "passed" if reward >= 1 else "failed"
    if USAGE.exists():
        usage = json.loads(USAGE.read_text()).get(self.task.name)
        self.result.budget = usage.pop("budget", "") if usage else ""
        self.result.usage = Usage(**usage) if usage else None


FAKES = {
    "build": lambda self, ref=None: self._note("running"),
    "start": lambda self, image=None: object(),
    "stop": lambda self: None,
    "_work": lambda self, agent, environment: None,
    "_grade": grade,
    "_conclude": conclude,
}


def pytest_configure():
    for name, fake in FAKES.items():
        KEPT[name] = getattr(Trial, name)
        setattr(Trial, name, fake)


def pytest_unconfigure():
    for name, kept in KEPT.items():
        setattr(Trial, name, kept)
"""


class Project:
    """A user's project: tasks in it, and pytest run in it."""

    def __init__(self, pytester: pytest.Pytester, write) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self._write = write

    def task(self, where: str = "tb2/hello", toml: str | bytes = "", **what) -> Path:
        """Write a task below the project's directory, or anywhere by an absolute path."""
        return self._write(self.path / where, toml, **what)

    def rewards(self, **rewards: float | list[float | None] | None) -> None:
        """Write tasks below tb2, and have trials of them come to these rewards; None stands for a lost environment."""
        for name in rewards:
            self.task(f"tb2/{name}")
        self.file("rewards.json", json.dumps(rewards))
        self.file("conftest.py", REWARDS)

    def usage(self, **used: dict[str, Any]) -> None:
        """Have trials of the tasks of rewards() use models, and spend a `budget`."""
        self.file("usage.json", json.dumps(used))

    def ini(self, *lines: str) -> None:
        """Write pytest.ini."""
        self.path.joinpath("pytest.ini").write_text("\n".join(["[pytest]", *lines, ""]), encoding="utf-8")

    def file(self, where: str, text: str) -> Path:
        """Write a file."""
        path = self.path / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *args: object, subprocess: bool = False) -> Outcome:
        """Run pytest in this process, or in one of its own."""
        words = [str(arg) for arg in args]
        run = self.pytester.runpytest_subprocess if subprocess else self.pytester.runpytest_inprocess
        return Outcome(run(*words, *(FEWER_PLUGINS if subprocess else ["-p", "no:xdist"])), self)

    def ids(self, *args: object, subprocess: bool = False) -> list[str]:
        """Return the node ids that pytest collects."""
        outcome = self.run("--collect-only", "-q", *args, subprocess=subprocess)
        assert outcome.ret == 0, str(outcome)
        return outcome.ids

    def results(self) -> list[dict]:
        """Return all lines of the results.jsonl of the only run."""
        (file,) = self.path.glob("harbor-results/*/results.jsonl")
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


class Outcome:
    """What a user sees of a run of pytest."""

    def __init__(self, result: pytest.RunResult, project: Project) -> None:
        self.result = result
        self.ret = int(result.ret)
        self.out = result.stdout.str()
        self.err = result.stderr.str()

    def __str__(self) -> str:
        return f"exit {self.ret}\n{self.out}\n{self.err}"

    @property
    def ids(self) -> list[str]:
        """Node ids of `--collect-only -q`."""
        return [line for line in self.out.splitlines() if re.search(r"\w::", line) and not line.startswith("harbor:")]

    @property
    def counts(self) -> dict[str, int]:
        """What the last line counts: passed, failed, errors, skipped ..."""
        return self.result.parseoutcomes()

    def has(self, *texts: str) -> None:
        """Assert that every text is in the output, standard error included."""
        everything = self.out + "\n" + self.err
        for text in texts:
            assert text in everything, f"{text!r} is not in:\n{self}"

    def lacks(self, *texts: str) -> None:
        """Assert that no text is in the output."""
        for text in texts:
            assert text not in self.out + "\n" + self.err, f"{text!r} is in:\n{self}"

    def tells_of_no_bug(self) -> None:
        """Assert that nothing reads like a failure of our own code."""
        self.lacks("INTERNALERROR", "Traceback", "site-packages", "pytest_harbor/", "assert ")


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    # The provider namespace has no place for its layers then, and does not step in.
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    # This run may be one with -n itself: what it set must not reach those it makes.
    for name in list(os.environ):
        if name.startswith("PYTEST_XDIST"):
            monkeypatch.delenv(name)


@pytest.fixture
def project(pytester, write_task_files):
    return Project(pytester, write_task_files)

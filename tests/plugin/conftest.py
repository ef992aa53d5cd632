"""A user's project in which tests run pytest; the engine there fails as soon as a trial needs it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from failing_engine import failing_engine
from inner_pytest import FEWER_PLUGINS, NO_RERUNS

# Loaded here once: pytester drops the modules that a run inside this process is the first to import.
import pytest_harbor.environment.docker
import pytest_harbor.plugin.activation
import pytest_harbor.plugin.item_reports
import pytest_harbor.report.html  # noqa: F401

# A conftest.py that gives trials the rewards in rewards.json, without an engine (see fake_provider.py), and the model
# usage in usage.json, which may include the budget that was spent.
REWARDS = f"""
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, {str(Path(__file__).parents[1])!r})

import fake_provider
from pytest_harbor.trial import Usage

HERE = Path(__file__).parent


def pytest_harbor_provider(config):
    return fake_provider.from_file(HERE / "rewards.json")


@pytest.fixture
def harbor_trial(harbor_trial):
    if (HERE / "usage.json").exists():
        usage = json.loads((HERE / "usage.json").read_text()).get(harbor_trial.task.name, {{}})
        harbor_trial.result.budget = usage.pop("budget", "")
        harbor_trial.result.usage = Usage(**usage) if usage else None
    return harbor_trial
"""


class Project:
    """A user's project: writes tasks and runs pytest in it."""

    def __init__(self, pytester: pytest.Pytester, write) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self._write = write

    def task(self, where: str = "tb2/hello", toml: str | bytes = "", **what) -> Path:
        """Write a task below the project's directory, or at an absolute path."""
        return self._write(self.path / where, toml, **what)

    def rewards(self, **rewards: Any) -> None:
        """Write tasks below tb2 and fake the rewards of their trials; None means a lost environment."""
        for name in rewards:
            self.task(f"tb2/{name}")
        self.file("rewards.json", json.dumps(rewards))
        self.file("conftest.py", REWARDS)

    def usage(self, **used: dict[str, Any]) -> None:
        """Fake the model usage, and an exhausted `budget`, of the trials set up by rewards()."""
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
        """Run pytest in this process or in a subprocess."""
        words = [str(arg) for arg in args]
        run = self.pytester.runpytest_subprocess if subprocess else self.pytester.runpytest_inprocess
        return Outcome(run(*NO_RERUNS, *words, *(FEWER_PLUGINS if subprocess else ["-p", "no:xdist"])), self)

    def ids(self, *args: object, subprocess: bool = False) -> list[str]:
        """Return the node ids that pytest collects."""
        outcome = self.run("--collect-only", "-q", *args, subprocess=subprocess)
        assert outcome.ret == 0, str(outcome)
        return outcome.ids

    def results(self) -> list[dict]:
        """Return the results.jsonl lines of the only run."""
        (file,) = self.path.glob("harbor-results/*/results.jsonl")
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


class Outcome:
    """The exit status and output of a pytest run."""

    def __init__(self, result: pytest.RunResult, project: Project) -> None:
        self.result = result
        self.ret = int(result.ret)
        self.out = result.stdout.str()
        self.err = result.stderr.str()

    def __str__(self) -> str:
        return f"exit {self.ret}\n{self.out}\n{self.err}"

    @property
    def ids(self) -> list[str]:
        """The node ids that `--collect-only -q` printed."""
        return [line for line in self.out.splitlines() if re.search(r"\w::", line) and not line.startswith("harbor:")]

    @property
    def counts(self) -> dict[str, int]:
        """The counts in the last line: passed, failed, errors, skipped …"""
        return self.result.parseoutcomes()

    def has(self, *texts: str) -> None:
        """Assert that every text is in the output or on standard error."""
        everything = self.out + "\n" + self.err
        for text in texts:
            assert text in everything, f"{text!r} is not in:\n{self}"

    def lacks(self, *texts: str) -> None:
        """Assert that none of the texts is in the output or on standard error."""
        for text in texts:
            assert text not in self.out + "\n" + self.err, f"{text!r} is in:\n{self}"

    def shows_no_bug(self) -> None:
        """Assert that no line looks like a failure of our own code."""
        self.lacks("INTERNALERROR", "Traceback", "site-packages", "pytest_harbor/", "assert ")


@pytest.fixture(scope="session")
def _failing_engine():
    with failing_engine() as address:
        yield address


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch, _failing_engine):
    monkeypatch.setenv("DOCKER_HOST", _failing_engine)
    # Without a cache directory, the namespace provider is unavailable too.
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    # If this run uses -n itself, its environment variables must not reach the inner runs.
    for name in list(os.environ):
        if name.startswith("PYTEST_XDIST"):
            monkeypatch.delenv(name)


@pytest.fixture
def project(pytester, write_task_files):
    return Project(pytester, write_task_files)

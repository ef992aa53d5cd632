"""Gates on real trials: an agent that fails two examples, with one and with five attempts."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[2] / "examples" / "tasks"
WORSE = """
from pytest_harbor.agent import NopAgent


lazy = NopAgent()
lazy.name = "oracle"


def pytest_harbor_agent(task):
    return lazy if task.name in ("hello-world", "sql-report") else None
"""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("namespace", "examples_lock")]


class Runs:
    """Runs of the examples, with results in one directory."""

    def __init__(self, path):
        self.path = path
        (path / "worse.py").write_text(WORSE)

    def pytest(self, *args):
        # One trial at a time: live-rates opens a port, and namespace environments share the ports of the host.
        words = ["-m", "pytest", "-p", "no:cacheprovider", "--harbor-environment=namespace"]
        return self.command(*words, f"--harbor-dataset={TASKS}", "--harbor-agent=oracle", *args)

    def gate(self, *args):
        return self.command("-m", "pytest_harbor.cli", "gate", *map(str, args))

    def command(self, *words):
        done = subprocess.run([sys.executable, *words], cwd=self.path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    @property
    def directories(self):
        return sorted(file.parent for file in self.path.glob("harbor-results/*/results.jsonl"))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return Runs(tmp_path)


def verdict(output):
    """Return the lines of the verdict that are the same in every run."""
    part = output.partition("harbor gate")[2].partition("= harbor =")[0] or output
    return [
        line.rstrip() for line in part.splitlines() if re.match(r"^\S.*(verdict|reward|worse)", line, re.IGNORECASE)
    ]


def test_one_attempt_is_inconclusive(runs):
    status, output = runs.pytest("--harbor-save-baseline=baseline.json")
    assert status == 0, output
    assert "baseline of 7 tasks saved to " in output
    status, output = runs.pytest("--harbor-baseline=baseline.json")
    assert status == 0, output
    assert "7 scored" in output
    status, output = runs.pytest("--harbor-baseline=baseline.json", "-p", "worse", "--harbor-confirm=2")
    assert status == 10, output
    assert "inconclusive" in output
    assert "mean reward change -0.286 over 7 tasks" in output
    assert "would settle it" in output
    assert output.count("rerun: 0 of 2 passed") == 2
    assert "5 passed, 2 failed" in output, "confirmations are not part of the rate"
    (worse,) = runs.directories[2:]
    # Other rules judge the same run; nothing runs again.
    assert runs.gate(worse, "--baseline", "baseline.json")[0] == 10
    assert runs.gate(worse, "--baseline", "baseline.json", "--inconclusive", "pass")[0] == 0
    assert runs.gate(worse, "--baseline", "baseline.json", "--gate", "each")[0] == 1
    assert runs.gate(worse, "--gate", "pass-rate=0.7")[0] == 0
    assert runs.gate(worse, "--gate", "pass-rate=0.8")[0] == 1
    assert len(runs.directories) == 3
    before = json.loads((runs.path / "baseline.json").read_text())
    status, output = runs.pytest(
        "--harbor-baseline=baseline.json", "-p", "worse", "--harbor-update-baseline", "-k", "hello"
    )
    assert status == 0, output
    after = json.loads((runs.path / "baseline.json").read_text())
    changed = {task for task in before["tasks"] if before["tasks"][task] != after["tasks"][task]}
    assert changed == {"tasks/hello-world"}


def test_five_attempts_regress_as_do_their_shards(runs):
    status, output = runs.pytest("--harbor-save-baseline=baseline.json", "--harbor-attempts=5")
    assert status == 0, output
    worse = ("--harbor-baseline=baseline.json", "--harbor-attempts=5", "-p", "worse")
    status, output = runs.pytest(*worse)
    assert status == 1, output
    assert "regressed" in output
    assert "tasks/hello-world, tasks/sql-report" in output
    whole = runs.directories[-1]
    for shard in (1, 2):
        status, output = runs.pytest(*worse, f"--harbor-shard={shard}/2")
        assert status == 0, output
    alone, both = (
        runs.gate(whole, "--baseline", "baseline.json"),
        runs.gate(*runs.directories[2:], "--baseline", "baseline.json"),
    )
    assert alone[0] == both[0] == 1
    assert verdict(alone[1]) == verdict(both[1]) != []
    status, output = runs.gate(runs.directories[2], "--baseline", "baseline.json")
    assert "2/2" in output, "the missing shard is named"
    results = whole / "results.jsonl"
    results.write_text(results.read_text().replace('{"schema', "{{", 1))
    status, output = runs.gate(whole, "--baseline", "baseline.json")
    assert status == 1, output
    assert "line 1" in output

"""The commands of the workflows in examples/github-actions, run in order on the examples and without an engine."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from inner_pytest import FEWER_PLUGINS

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = {"pytest": ["-m", "pytest"], "pytest-harbor": ["-m", "pytest_harbor.cli"]}


class Checkout:
    """A checkout with the examples, in which jobs run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.copytree(EXAMPLES, directory / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        options = ["--harbor-environment=namespace", *FEWER_PLUGINS]
        self.environ = {**os.environ, "PYTEST_ADDOPTS": " ".join(options)}

    def run(self, workflow: str, job: str, shard: int = 1) -> tuple[int, str]:
        """Run a job's commands, except its installation; return the last one's exit status and all output."""
        jobs = yaml.safe_load((EXAMPLES / "github-actions" / workflow).read_text(encoding="utf-8"))["jobs"]
        status, output = 0, ""
        for step in jobs[job]["steps"]:
            # Two shards without workers of their own show the same in less time.
            line = step.get("run", "").replace("${{ matrix.shard }}/4", f"{shard}/2").replace("-n 4", "")
            words = shlex.split(line)
            if not words or words[0] == "pip":
                continue
            words = [match for word in words for match in self.expanded(word)]
            done = subprocess.run(
                [sys.executable, *PROGRAMS[words[0]], *words[1:]],
                cwd=self.directory,
                env=self.environ,
                capture_output=True,
                text=True,
                check=False,
            )
            status, output = done.returncode, output + done.stdout + done.stderr
        return status, output

    def expanded(self, word: str) -> list[str]:
        if "*" not in word:
            return [word]
        return [str(path.relative_to(self.directory)) for path in sorted(self.directory.glob(word))]

    def upload(self, shard: int) -> None:
        """Move the results to where the gate's job downloads them."""
        (self.directory / "harbor-results").rename(self.directory / "shards" / f"harbor-shard-{shard}")

    def shards(self, workflow: str) -> None:
        shutil.rmtree(self.directory / "shards", ignore_errors=True)
        (self.directory / "shards").mkdir()
        for shard in (1, 2):
            status, output = self.run(workflow, "trials", shard)
            assert status == 0, output
            self.upload(shard)


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("namespace")
def test_baseline_and_gate(checkout):
    checkout.shards("harbor-baseline.yml")
    status, output = checkout.run("harbor-baseline.yml", "baseline")
    assert (status, (checkout.directory / "harbor-baseline.json").is_file()) == (0, True), output

    checkout.shards("harbor-gate.yml")
    status, output = checkout.run("harbor-gate.yml", "gate")
    assert status == 0, output
    assert (checkout.directory / "github-comment.md").is_file()


@pytest.mark.usefixtures("namespace")
def test_replay(checkout):
    status, output = checkout.run("harbor-replay.yml", "replay")
    assert status == 0, output

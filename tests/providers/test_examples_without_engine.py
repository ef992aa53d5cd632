"""The examples on the namespace provider: the same rewards as on Docker (see tests/docker/test_examples.py)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[2] / "examples" / "tasks"


@pytest.mark.slow
@pytest.mark.parametrize("agent,reward", [("oracle", 1.0), ("nop", 0.0)])
@pytest.mark.usefixtures("namespace", "examples_lock")
def test_rewards(agent, reward, tmp_path):
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-q", "-n", "2", "--harbor-environment=namespace"]
    process = subprocess.run(
        [sys.executable, *words, f"--harbor-dataset={TASKS}", f"--harbor-agent={agent}", "--harbor-results=results"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (file,) = tmp_path.glob("results/*/results.jsonl")
    results = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {result["task"]: result["reward"] for result in results} == {
        f"tasks/{path.name}": reward for path in TASKS.iterdir()
    }, process.stdout

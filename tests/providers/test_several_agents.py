"""Several agents on one task: each gets the settings of its table, and the options for everything else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("namespace")]

AGENTS = """
[[agents]]
name = "claude"
command = 'echo "$GREETING $SHARED $OPENAI_MODEL" > /app/out.txt'
env = { GREETING = "hello" }
model = "m1"
setup = "echo installed > /opt/state"
files = ["conf:/opt/conf"]

[[agents]]
name = "codex"
command = 'pwd > /tmp/place; echo "$GREETING $SHARED $OPENAI_MODEL" > /app/out.txt'
env = ["GREETING=bye", "SHARED=own"]
workdir = "/tmp"

[[agents]]
name = "python"
callable = "bots.py:solve"
"""
BOT = """
def solve(task, environment):
    return f"{task.name} {environment.variables.get('GREETING')} {environment.variables['SHARED']}"
"""
TEST = """
cat /app/out.txt /tmp/place /opt/state /opt/conf/mode
[ "$(cat /app/out.txt)" = "hello all m1" ] && echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt
"""


def test_settings_of_each_agent(tmp_path, write_task_files):
    dockerfile = "FROM python:3.12-slim\n"
    toml = '[environment]\nworkdir = "/app"\n'
    write_task_files(tmp_path / "tb2" / "a", toml, test=TEST, files={"environment/Dockerfile": dockerfile})
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mode").write_text("fast\n")
    (tmp_path / "agents.toml").write_text(AGENTS)
    (tmp_path / "bots.py").write_text(BOT)
    words = ["-m", "pytest", "-p", "no:cacheprovider", "-v", "--harbor-environment=namespace"]
    options = ["--harbor-agents=agents.toml", "--harbor-agent-env=SHARED=all", "--harbor-model=m0"]
    process = subprocess.run(
        [sys.executable, *words, "--harbor-dataset=tb2", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1, process.stdout
    (file,) = tmp_path.glob("harbor-results/*/results.jsonl")
    results = {result["agent"]: result for result in map(json.loads, file.read_text().splitlines())}
    assert {name: (result["reward"], result["model"]) for name, result in results.items()} == {
        "claude": (1.0, "m1"),
        "codex": (0.0, "m0"),
        "python": (0.0, "m0"),
    }, process.stdout
    left = {name: Path(result["directory"]) for name, result in results.items()}
    outputs = {name: (left[name] / "verifier" / "test-stdout.txt").read_text() for name in ("claude", "codex")}
    assert "hello all m1\n" in outputs["claude"]
    assert "installed\nfast\n" in outputs["claude"]
    assert outputs["codex"].startswith("bye own m0\n/tmp\n")
    assert outputs["codex"].count("No such file") == 2, "setup and files of another agent"
    assert "a None all" in (left["python"] / "agent" / "agent.log").read_text()
    rows = re.findall(r"^tb2/a +(\w+) +([\d.]+)", process.stdout, re.MULTILINE)
    assert rows == [("codex", "0.00"), ("python", "0.00"), ("claude", "1.00")]
    assert "claude: mean reward 1.000, pass rate 100.0% (1 of 1 passed)" in process.stdout
    assert "tb2/a/task.toml::a[codex]" in process.stdout

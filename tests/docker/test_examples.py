"""The examples, run as their README.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import sections
from harbor_runs import REPOSITORY, Harbor

EXAMPLES = REPOSITORY / "examples"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
TASKS = sorted(path.name for path in (EXAMPLES / "tasks").iterdir())
ALL = dict.fromkeys(TASKS, 1.0)
NONE = dict.fromkeys(TASKS, 0.0)

# The rewards of the README's commands, by a unique part of each command.
EARNED = {
    "--harbor-agent=oracle -n 4": ALL,
    "--harbor-agent=nop -n 4": NONE,
    "callable_agent.py:solve": {**NONE, "hello-world": 1.0},
    "callable_agent.py:solve_async": {**NONE, "hello-world": 1.0},
    "tiny_agent.sh": {**NONE, "hello-world": 1.0, "log-top-clients": 1.0},
    "mcp_agent.py": {"hello-world": 1.0},
    "--harbor-agents=examples/agents.toml": {
        "hello-world[echo]": 1.0,
        "hello-world[python]": 1.0,
        "hello-world[idle]": 0.0,
    },
    "--harbor-proxy=replay --harbor-cassettes=examples/cassettes": {"hello-world": 1.0},
    "examples/custom_agent --harbor-agent=oracle": {"hello-world": 1.0, "clean-contacts": 1.0},
}


def commands() -> list[str]:
    """Return the commands of the README."""
    blocks = [block for section in sections(EXAMPLES / "README.md") for block in section.blocks]
    return [re.sub(r" +", " ", command) for block in blocks for command in block.commands]


def part_of(command: str) -> str:
    [found] = [part for part in EARNED if re.search(re.escape(part) + r"(?!\w)", command)]
    return found


def test_readme_covers_all_files() -> None:
    assert sorted(part_of(command) for command in commands()) == sorted(EARNED)
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", README, re.MULTILINE)) == TASKS
    others = {
        path.relative_to(EXAMPLES).as_posix()
        for path in EXAMPLES.rglob("*")
        if path.is_file() and path.relative_to(EXAMPLES).parts[0] != "tasks" and "__pycache__" not in path.parts
    }
    # A command of the README runs each of these, except the workflows: see tests/plugin/test_github_workflows.py.
    assert others == {
        "README.md",
        "agents.toml",
        "agents/callable_agent.py",
        "agents/mcp_agent.py",
        "agents/tiny_agent.sh",
        "cassettes/tasks/hello-world/openai.1.json",
        "custom_agent/conftest.py",
        "custom_agent/test_custom_agent.py",
        "github-actions/harbor-baseline.yml",
        "github-actions/harbor-gate.yml",
        "github-actions/harbor-replay.yml",
    }


@pytest.mark.parametrize("command", commands(), ids=part_of)
def test_readme_commands(harbor: Harbor, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = harbor.path / "harbor-results"
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--harbor-results={results} -p no:cacheprovider")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    run = harbor.finished(set(), done.returncode, done.stdout + done.stderr)
    earned = EARNED[part_of(command)]
    assert run.rewards() == earned, run.text
    assert set(run.outcomes().values()) <= {"passed", "failed"}, run.text
    assert run.code == (0 if set(earned.values()) == {1.0} else 1)


# The README's commands already cover -n4.
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("agent", ["oracle", "nop"])
def test_oracle_solves_and_nop_does_not(harbor: Harbor, agent: str, workers: str) -> None:
    run = harbor.run(workers, agent=(f"--harbor-agent={agent}",), dataset=EXAMPLES / "tasks")
    assert run.rewards() == (ALL if agent == "oracle" else NONE), run.text
    assert all(result["warnings"] == [] for name, result in run.results.items() if name != "slugify"), run.text
    if agent == "oracle":
        assert run["clean-contacts"]["metrics"].keys() == {"rows_ok", "rows_total", "rows_superfluous"}
        images = {run[name]["image"]["id"] for name in ("log-top-clients", "log-outages")}
        assert len(images) == 1
        assert run["slugify"]["image"]["ref"] == "python:3.11-slim"


def test_log_tasks_share_their_environment() -> None:
    trees = [
        {
            path.relative_to(environment).as_posix(): (path.stat().st_mode, path.is_file() and path.read_bytes())
            for path in environment.rglob("*")
        }
        for environment in (EXAMPLES / "tasks" / name / "environment" for name in ("log-top-clients", "log-outages"))
    ]
    assert trees[0] == trees[1]
    assert len(trees[0]) == 4

"""The workflows in examples/github-actions: their commands and options exist."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from pytest_harbor._util.attempts import Attempts
from pytest_harbor.cli import gate
from pytest_harbor.plugin.options import config as options
from pytest_harbor.report.github import MARKER

FOLDER = Path(__file__).parents[2] / "examples" / "github-actions"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
SHARDED = [workflow for workflow in WORKFLOWS if workflow.name != "harbor-replay.yml"]


def steps(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def commands(program: str) -> list[list[str]]:
    """Return the words of each command line of a program, with 1 in place of expressions."""
    lines = [line for workflow in WORKFLOWS for step in steps(workflow) for line in step.get("run", "").splitlines()]
    words = [shlex.split(re.sub(r"\$\{\{.*?\}\}", "1", line)) for line in lines]
    return [each[1:] for each in words if each and each[0] == program]


def test_workflows_have_commands():
    assert [workflow.name for workflow in WORKFLOWS] == ["harbor-baseline.yml", "harbor-gate.yml", "harbor-replay.yml"]
    assert len(commands("pytest")) == 3
    assert len(commands("pytest-harbor")) == 2


@pytest.mark.parametrize("words", commands("pytest"), ids=" ".join)
def test_pytest_options(project, words):
    project.task("examples/tasks/hello-world")
    # xdist, which defines -n, is not loaded in this process.
    place = words.index("-n")
    config = project.pytester.parseconfig(*words[:place], *words[place + 2 :], "-p", "no:cacheprovider")
    assert config.args, "no word is left over as a path"
    assert not [word for word in config.known_args_namespace.file_or_dir or [] if word.startswith("-")]
    read = options.read_options(config)
    if read.proxy == "replay":
        assert (read.agent, read.model) == ("openai", "example-model")
    else:
        assert str(read.shard) == "1/4"
        assert read.attempts == Attempts(3, 3)
    assert read.datasets == (project.path / "examples" / "tasks",)


@pytest.mark.parametrize("words", commands("pytest-harbor"), ids=" ".join)
def test_gate_options(words):
    assert words[0] == "gate"
    parser = argparse.ArgumentParser()
    gate.add(parser.add_subparsers())
    read = parser.parse_args(words)
    assert [str(run) for run in read.runs] == ["shards/*/*"]
    assert read.save_baseline or (read.baseline and read.gate and read.github_comment)


@pytest.mark.parametrize("workflow", SHARDED, ids=lambda workflow: workflow.name)
def test_shards_match_the_matrix(workflow):
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    numbers = jobs["trials"]["strategy"]["matrix"]["shard"]
    (line,) = [line for step in jobs["trials"]["steps"] if "--harbor-shard" in (line := step.get("run", ""))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert f"--harbor-shard=${{{{ matrix.shard }}}}/{len(numbers)}" in line


def test_baseline_survives_infrastructure_errors():
    """A shard with one exits with 1; its results, and the baseline of all shards, are saved nevertheless."""
    jobs = yaml.safe_load((FOLDER / "harbor-baseline.yml").read_text(encoding="utf-8"))["jobs"]
    (upload,) = [step for step in jobs["trials"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert jobs["baseline"]["if"] == upload["if"] == "${{ !cancelled() }}"
    names = [step.get("uses", step.get("name", "")).partition("@")[0] for step in jobs["baseline"]["steps"]]
    order = [names.index(name) for name in ("actions/cache/restore", "Merge the shards", "actions/cache/save")]
    assert order == sorted(order)


def test_comment_is_found_by_its_marker():
    (script,) = [
        step["with"]["script"] for step in steps(FOLDER / "harbor-gate.yml") if "script" in step.get("with", {})
    ]
    assert f"startsWith('{MARKER}')" in script
    assert "updateComment" in script
    assert "createComment" in script
    written = [words[words.index("gate") :] for words in commands("pytest-harbor")]
    assert any("--github-comment=github-comment.md" in words for words in written)
    assert "github-comment.md" in script


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_permissions_and_no_pull_request_data_in_shell_commands(workflow):
    whole = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert whole["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        filled = re.findall(r"\$\{\{\s*(.*?)\s*\}\}", step.get("run", ""))
        assert set(filled) <= {"matrix.shard"}

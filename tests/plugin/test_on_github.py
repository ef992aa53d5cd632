"""Runs in a GitHub Actions job."""

from __future__ import annotations

import pytest


@pytest.fixture
def summary(project, monkeypatch):
    file = project.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path))
    return file


@pytest.mark.parametrize("workers", [False, True])
def test_summary_comment_and_annotations(project, summary, workers):
    project.task("tb2/a")
    project.task("tb2/b")
    options = ["-n", "2"] if workers else []
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", *options, subprocess=workers)
    assert outcome.ret == 1
    lines = [line for line in outcome.out.splitlines() if line.startswith("::")]
    assert len(lines) == 2
    assert lines[0].startswith("::error file=tb2/a/task.toml,line=1,title=error%3A tb2/a::looking for image")
    assert "2 trials in total: 0 passed, 0 failed, 0 unverified, 2 errors" in summary.read_text()
    assert summary.read_text().count("## pytest-harbor") == 1
    (comment,) = project.path.glob("harbor-results/*/github-comment.md")
    assert comment.read_text() == f"<!-- pytest-harbor -->\n{summary.read_text()}"


def test_summary_contains_the_verdict(project, summary):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-gate=each")
    assert outcome.ret == 11
    assert "**Verdict: not judged**" in summary.read_text()


def test_nothing_is_written_outside_github_actions(project, summary, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS")
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    outcome.lacks("::error")
    assert not summary.exists()
    assert not list(project.path.glob("harbor-results/*/github-comment.md"))


def test_nothing_is_written_without_trials(project, summary):
    project.file("test_unit.py", "def test_one(): pass\n")
    assert project.run().ret == 0
    assert not summary.exists()


def test_log_content_is_not_a_workflow_command(project, summary):
    project.task("tb2/a")
    project.file(
        "conftest.py",
        "import pytest\n"
        "from pytest_harbor.errors import InfrastructureError\n\n\n"
        "def pytest_harbor_image(task):\n"
        "    raise InfrastructureError('\\n::set-output name=x::y\\n  ::add-mask::z ##[error]no')\n",
    )
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    commands = [line for line in outcome.out.splitlines() if line.lstrip().startswith("::") or "##[" in line]
    assert all(line.startswith("::error file=tb2/a/task.toml,") for line in commands)
    outcome.has("\\::set-output name=x::y")

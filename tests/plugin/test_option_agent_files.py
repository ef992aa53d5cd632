"""--harbor-agent-files: a missing source is a usage error if an agent gets the files."""

from __future__ import annotations

import pytest


@pytest.fixture
def tasks(project):
    project.task("tb2/a", '[environment]\nos = "windows"\n')
    return project


def test_missing_source(tasks):
    tasks.ini("harbor_agent_files = gone:/agent")
    outcome = tasks.run("--harbor-dataset=tb2", "--harbor-agent-command=true")
    assert outcome.ret == 4
    outcome.has(f"ERROR: --harbor-agent-files: {tasks.path / 'gone'} does not exist; give the path of a file or")
    outcome.shows_no_bug()
    assert not list(tasks.path.glob("harbor-results"))


@pytest.mark.parametrize("args", [["--harbor-agent=oracle"], ["--harbor-agent=nop"], ["--collect-only"]])
def test_missing_source_without_an_agent_that_gets_files(tasks, args):
    tasks.ini("harbor_agent_files = gone:/agent", "harbor_agent_setup = false")
    assert tasks.run("--harbor-dataset=tb2", *args).ret == 0


def test_script_with_crlf(project):
    project.rewards(a=1.0, b=1.0)
    (project.path / "run.sh").write_bytes(b"#!/bin/bash\r\ntrue\r\n")
    words = ["--harbor-dataset=tb2", "--harbor-agent-files=run.sh:/agent/run.sh"]
    outcome = project.run(*words, "--harbor-agent-command=bash /agent/run.sh")
    assert outcome.ret == 4
    outcome.has(
        "ERROR: the agent's /agent/run.sh has CRLF line endings, with which it cannot be run as a script; convert"
    )
    outcome.shows_no_bug()
    assert project.run(*words, "--harbor-agent-command=run").ret == 0

"""--harbor-agent-files: what is not there ends the run before it begins, where an agent is to get it."""

from __future__ import annotations

import pytest


@pytest.fixture
def tasks(project):
    project.task("tb2/a", '[environment]\nos = "windows"\n')
    return project


def test_a_source_that_does_not_exist(tasks):
    tasks.ini("harbor_agent_files = gone:/agent")
    outcome = tasks.run("--harbor-dataset=tb2", "--harbor-agent-command=true")
    assert outcome.ret == 4
    outcome.has(f"ERROR: --harbor-agent-files: {tasks.path / 'gone'} does not exist; give the path of a file or")
    outcome.shows_no_bug()
    assert not list(tasks.path.glob("harbor-results"))


@pytest.mark.parametrize("args", [["--harbor-agent=oracle"], ["--harbor-agent=nop"], ["--collect-only"]])
def test_nobody_misses_it_who_gets_no_files(tasks, args):
    tasks.ini("harbor_agent_files = gone:/agent", "harbor_agent_setup = false")
    assert tasks.run("--harbor-dataset=tb2", *args).ret == 0

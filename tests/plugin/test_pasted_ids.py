"""Pasted node ids of tests that this run does not have: the message says which option or which name is missing."""

from __future__ import annotations

import pytest

AGENTS = "\n".join(f'[[agents]]\nname = "{name}"\nagent = "nop"' for name in ("claude", "codex"))
ONE = ("--harbor-agent=nop",)
SEVERAL = ("--harbor-agents=agents.toml",)


@pytest.fixture
def tasks(project):
    project.task("tb2/hello-world")
    project.file("agents.toml", AGENTS)
    return project


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("hello-world[2]", ONE, "this run has 1 attempt; add --harbor-attempts=2"),
        ("hello-world[5]", (*ONE, "--harbor-attempts=3"), "this run has 3 attempts; add --harbor-attempts=5"),
        ("hello-world[claude-2]", SEVERAL, "this run has 1 attempt; add --harbor-attempts=2"),
        ("hello-world[claud]", SEVERAL, "no agent 'claud' among those listed: claude, codex; did you mean [claude]?"),
        ("hello-world[claude]", ONE, "this run has one agent; add the --harbor-agents=FILE that lists"),
        (
            "hello-word[2]",
            ONE,
            "the test of this task is named hello-world; did you mean tb2/hello-world/task.toml::hello-world[2]?",
        ),
    ],
)
def test_wrong_id(tasks, name, options, message):
    given = f"tb2/hello-world/task.toml::{name}"
    outcome = tasks.run(given, *options)
    assert outcome.ret == 4
    outcome.has(f"ERROR: {given}: {message}")
    outcome.lacks("not found: ")


@pytest.mark.parametrize(
    "name, options",
    [
        ("hello-world", ONE),
        ("hello-world[2]", (*ONE, "--harbor-attempts=2")),
        ("hello-world[codex-2]", (*SEVERAL, "--harbor-attempts=2")),
        ("hello-world", SEVERAL),
    ],
)
def test_right_id(tasks, name, options):
    assert all(f"::{name}" in found for found in tasks.ids(f"tb2/hello-world/task.toml::{name}", *options))

"""What is said about a value that names no agent."""

from __future__ import annotations

import pytest

from pytest_harbor._util.agent_names import explain_invalid, is_callable_spec

VALID = ("oracle", "nop", "openai", "command")


@pytest.mark.parametrize("value", ["agents:solve", "pkg.agents:Bot.run", "my_agent.py:solve", "/a b/my-agent.py:solve"])
def test_callables(value):
    assert is_callable_spec(value)


@pytest.mark.parametrize(
    "value", ["", "agents", "agents:", ":solve", "my_agent.py", "harbor:claude-code", "harbor:oracle", "a b:c", "a:b c"]
)
def test_not_callables(value):
    assert not is_callable_spec(value)


@pytest.mark.parametrize(
    "value, page",
    [
        ("claude-code", "docs/agents.md has a recipe"),
        ("Codex", "docs/agents.md has a recipe"),
        ("harbor:openhands", "docs/agents.md has a recipe"),
        ("aider@0.86", "docs/agents.md has a recipe"),
        ("terminus-2", "docs/agents.md explains how"),
        ("gemini-cli", "docs/agents.md explains how"),
    ],
)
def test_agent_that_is_not_built_in(value, page):
    text = explain_invalid(value, VALID)
    assert text.startswith("is not built in yet; install and run it with --harbor-agent-setup=CMD and ")
    assert "--harbor-agent-command=CMD" in text
    assert text.endswith(page)


def test_file_without_a_callable(tmp_path):
    (tmp_path / "agent.py").write_text("def solve(t, e): pass\ndef _no(): pass\nasync def other(t, e): pass\n")
    (tmp_path / "empty.py").write_text("")
    assert explain_invalid("agent.py", VALID, tmp_path) == "names no callable; use agent.py:solve or agent.py:other"
    assert explain_invalid("empty.py", VALID, tmp_path) == "names no callable; use empty.py:CALLABLE"
    assert explain_invalid("none.py", VALID, tmp_path).startswith("names no callable and does not exist; use FILE.py:")


@pytest.mark.parametrize("value", ["./run_agent.sh", "run.sh", "/opt/agent", "sh"])
def test_command(value):
    assert explain_invalid(value, VALID).endswith(f"; use --harbor-agent-command={value}")


def test_command_with_arguments():
    assert explain_invalid("python3 agent.py", VALID).endswith('; use --harbor-agent-command="python3 agent.py"')


def test_typo():
    text = explain_invalid("orcale", VALID)
    assert text == (
        "is not valid; did you mean 'oracle'? Use oracle, nop, openai, command, MODULE:CALLABLE or FILE.py:CALLABLE"
    )
    assert explain_invalid("xyzzy", VALID).startswith("is not valid; use oracle, nop,")

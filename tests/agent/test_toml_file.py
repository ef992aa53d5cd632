"""Agents listed in a TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_harbor.agent import CommandAgent, HostCommandAgent, NopAgent
from pytest_harbor.agent.toml_file import AgentFileError, AgentSpec, find_name_clash, read_agents


def agents(*names: str) -> str:
    """Return tables of nop agents."""
    return "\n".join(f'[[agents]]\nname = "{name}"\nagent = "nop"\n' for name in names)


@pytest.fixture
def read(tmp_path):
    """Return a function that writes an agents file and reads it."""

    def read(text: str, *tables: str) -> tuple[AgentSpec, ...]:
        file = tmp_path / "conf" / "agents.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return read_agents(file, tables)

    return read


def test_table_with_every_key(read, tmp_path, monkeypatch):
    monkeypatch.setenv("FROM_HOST", "kept")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "install.sh").write_text("#!/bin/sh\npip install me\n")
    first, second, third = read(
        """
        [[agents]]
        name = "my-agent.v2"
        command = "run it"
        where = "host"
        setup = "install.sh"
        files = ["src:/opt/src/", "/abs:/opt/abs"]
        env = {A = "1", B = ""}
        model = "m"
        workdir = "/work"

        [[agents]]
        name = "other"
        callable = "bots.py:solve"
        setup = "pip install other"
        env = ["FROM_HOST", "C=d=e"]
        files = []

        [[agents]]
        name = "5x"
        agent = "nop"
        """
    )
    conf = tmp_path / "conf"
    assert first == AgentSpec(
        "my-agent.v2",
        command="run it",
        where="host",
        setup="#!/bin/sh\npip install me\n",
        files=((conf / "src", "/opt/src"), (Path("/abs"), "/opt/abs")),
        env=(("A", "1"), ("B", "")),
        model="m",
        workdir="/work",
    )
    assert (second.agent, second.setup, second.files) == (f"{conf / 'bots.py'}:solve", "pip install other", ())
    assert second.env == (("FROM_HOST", "kept"), ("C", "d=e"))
    assert third == AgentSpec("5x", "nop")


def test_make(read, tmp_path):
    host, either, idle = (
        spec
        for spec in read(
            "[[agents]]\nname = 'h'\ncommand = 'x'\nwhere = 'host'\n[[agents]]\nname = 'e'\ncommand = 'x'\n"
            + agents("i")
        )
    )
    assert isinstance(host.make("container"), HostCommandAgent)
    assert isinstance(either.make("container"), CommandAgent)
    assert isinstance(either.make("host"), HostCommandAgent)
    assert isinstance(idle.make("host"), NopAgent)
    assert [spec.make("container").name for spec in (host, either, idle)] == ["h", "e", "i"]
    assert [spec.kind for spec in (host, either, idle)] == ["command", "command", "nop"]


def test_agents_in_a_shared_file(read):
    text = '[project]\nname = "x"\n'
    assert read(text, "tool", "pytest-harbor") == ()
    assert read(f"{text}[tool.other]\n", "tool", "pytest-harbor") == ()
    (spec,) = read(text + agents("a").replace("agents", "tool.pytest-harbor.agents"), "tool", "pytest-harbor")
    assert spec == AgentSpec("a", "nop")
    with pytest.raises(AgentFileError, match=r"pytest-harbor must be a table, got 3"):
        read("[tool]\npytest-harbor = 3\n", "tool", "pytest-harbor")


@pytest.mark.parametrize(
    "names, attempts, found",
    [
        ("a b", 9, None),
        ("a a-2", 1, None),
        ("a a-2", 2, ("a", 2)),
        ("a a-10 a-11", 10, ("a", 10)),
        ("a-2 a-2-2", 2, ("a-2", 2)),
    ],
)
def test_find_name_clash(names, attempts, found):
    assert find_name_clash(names.split(), attempts) == found


@pytest.mark.parametrize(
    "text, parts",
    [
        ("", ["no agents are listed", "[[agents]]"]),
        ("agents = []", ["no agents are listed", "[[agents]]"]),
        ("agents = 3", ["no agents are listed", "[[agents]]"]),
        ("agents = [", ["line 1", "[[agents]]"]),
        ("[[agent]]\nname = 'x'", ['unknown key "agent"', "[[agents]]"]),
        ("[[agents]]\nagent = 'nop'", ["agent 1", "name is missing"]),
        ("[[agents]]\nname = 3\nagent = 'nop'", ["agent 1", "name must be a string", "3"]),
        *(
            (f"[[agents]]\nname = '{name}'\nagent = 'nop'", ["name", "letters, digits"])
            for name in ("", "2", "a b", "a/b", "..", "a[1]", "-x", "ä", "a::b", "x" * 101)
        ),
        ("[[agents]]\nname = 'x'", ['agent "x"', "exactly one of agent, command, callable", "none of them"]),
        ("[[agents]]\nname = 'x'\nagent = 'nop'\ncommand = 'y'", ["exactly one of", "found agent and command"]),
        ("[[agents]]\nname = 'x'\nagent = 'command'", ['agent "command"', "oracle, nop, openai, MODULE:CALLABLE or"]),
        ("[[agents]]\nname = 'x'\ncallable = 'nop'", ['callable "nop"', "MODULE:CALLABLE"]),
        ("[[agents]]\nname = 'x'\ncommand = ' '", ["command is empty"]),
        ("[[agents]]\nname = 'x'\ncommand = ['y']", ["command must be a string", "a list"]),
        ("[[agents]]\nname = 'x'\ncomand = 'y'", ['unknown key "comand"', "name, agent, command, callable, setup"]),
        ("[[agents]]\nname = 'x'\ncommand = 'y'\nwhere = 'cloud'", ['where "cloud"', "container or host"]),
        ("[[agents]]\nname = 'x'\ncallable = 'm:f'\nwhere = 'container'", ["always runs on the host"]),
        ("[[agents]]\nname = 'x'\ncommand = 'y'\nmodel = 3", ["model must be a string", "3"]),
        ("[[agents]]\nname = 'x'\ncommand = 'y'\nsetup = 'gone.sh'", ["setup: ", "gone.sh does not exist"]),
        ("[[agents]]\nname = 'x'\ncommand = 'y'\nfiles = 'a:/b'", ["files must be a list of strings SRC:DST"]),
        ("[[agents]]\nname = 'x'\ncommand = 'y'\nfiles = ['a:b']", ["files: 'a:b'", "SRC:DST"]),
        (
            "[[agents]]\nname = 'x'\ncommand = 'y'\nenv = 'A=1'",
            ["env must be a table of strings, or a list of K=V and K"],
        ),
        ("[[agents]]\nname = 'x'\ncommand = 'y'\nenv = {A = 1}", ["env: A must be a string", "1"]),
        (
            "[[agents]]\nname = 'x'\ncommand = 'y'\nenv = {'A-B' = '1'}",
            ['env: "A-B" is not a valid name for an environment variable'],
        ),
        ("[[agents]]\nname = 'x'\ncommand = 'y'\nenv = ['UNSET_1']", ["env: UNSET_1 is not set on the host"]),
        (agents("x", "x"), ["agent 'x'", "given twice"]),
        (agents("x", "X"), ["agent 'X'", "differs from 'x' only in case"]),
    ],
)
def test_invalid_file(read, text, parts):
    with pytest.raises(AgentFileError) as caught:
        read(text)
    for part in ("agents.toml", *parts):
        assert part in str(caught.value)

"""Mistyped flags and ini keys are refused with the one that was meant."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("--harbor-agent-comand=echo 1", "--harbor-agent-command"),
        ("--harbor-agent-comand=echo", "--harbor-agent-command"),
        ("--harbor-datset=tb2", "--harbor-dataset"),
        ("--harbor_dataset=tb2", "--harbor-dataset"),
        ("--harbour-dataset=tb2", "--harbor-dataset"),
        ("--harbor-attempt=3", "--harbor-attempts"),
        ("--harbor-att=3", "--harbor-attempts"),
        ("--harbor-reward=k", "--harbor-reward-key or --harbor-reward-precedence"),
        ("--harbor-record_only", "--harbor-record-only"),
    ],
)
@pytest.mark.parametrize("where", ["command line", "addopts"])
def test_mistyped_flag(project, typed, meant, where):
    project.task("tb2/a")
    if where == "addopts":
        project.ini(f"addopts = '{typed}'")
    outcome = project.run(*([typed] if where == "command line" else []), "--harbor-agent=nop")
    assert outcome.ret == 4
    outcome.has(f"ERROR: {typed.partition('=')[0]} is not an option; did you mean {meant}?")
    outcome.lacks("harbor: ", "test session starts")
    outcome.shows_no_bug()


def test_flag_that_is_like_no_other(project):
    for typed in ("--harbor-zzz=1 2", "--harbor-zzz=1"):
        outcome = project.run(typed)
        assert outcome.ret == 4
        outcome.has("--harbor-zzz is not an option; `pytest --help` lists")


def test_flags_of_others(project):
    project.file("conftest.py", "def pytest_addoption(parser): parser.addoption('--harbor-agents-x')\n")
    project.file("test_unit.py", "def test_one(): pass\n")
    assert project.run("--harbor-agents-x=1 2").counts == {"passed": 1}
    outcome = project.run("--handle=1")
    assert outcome.ret == 4
    outcome.has("unrecognized arguments: --handle=1")


@pytest.mark.parametrize(
    "key, meant",
    [("harbor_datset", "harbor_dataset"), ("harbor-dataset", "harbor_dataset"), ("harbour_agent", "harbor_agent")],
)
def test_mistyped_ini_key(project, key, meant):
    project.ini(f"{key} = x")
    outcome = project.run()
    assert outcome.ret == 4
    outcome.has(f"ERROR: ini key {key} does not exist; did you mean {meant}?")


def test_ini_keys_of_others(project):
    project.file("conftest.py", "def pytest_addoption(parser): parser.addini('harbor_mine', '')\n")
    project.file("test_unit.py", "def test_one(): pass\n")
    project.ini("harbor_mine = x")
    assert project.run().counts == {"passed": 1}
    project.ini("harbor_zzz = x")
    outcome = project.run()
    assert outcome.ret == 4
    outcome.has("ini key harbor_zzz does not exist; `pytest --help` lists")


def test_markers_are_listed(project):
    project.run("--markers").has(
        "@pytest.mark.harbor(dataset=None, task='*')",
        "@pytest.mark.difficulty_<x>, category_<x>, tag_<x>: on tasks",
        "@pytest.mark.agent_<name>: on tasks",
    )


def test_version_of_the_command(capsys):
    from pytest_harbor.cli import main

    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out.startswith("pytest-harbor 0.")

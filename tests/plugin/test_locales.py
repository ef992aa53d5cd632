"""No name, locale or encoding ends a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "C with an encoding": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    "latin-1": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"},
    "UTF-8": {"LC_ALL": "C.UTF-8"},
}
NAMES = ("ascii", "ünïcödé", "任务", b"latin-\xe9", "new\nline")
AGENT = """
def solve(task, environment):
    environment.log("Grüße 日本 \\udcff")
    raise ValueError("ärger 日本 \\udcff")
"""
CONFTEST = """
import sys

sys.path.insert(0, {tests!r})

import fake_provider


class Rewards(dict):
    def __contains__(self, name):
        return True

    def __getitem__(self, name):
        return 0.0 if name == "ascii" else 1.0


def pytest_harbor_provider(config):
    return fake_provider.FakeProvider(Rewards())
"""


@pytest.fixture(params=LOCALES)
def foreign(project, request, monkeypatch):
    for name in NAMES:
        task = project.task(f"evals/{os.fsdecode(name)}", "[metadata]\ncategory = 'Übung'\ntags = ['日本']\n")
        (task / "instruction.md").write_text("Schreibe „hällo“ 日本\n", encoding="utf-8")
        (task / os.fsdecode(b"tests/latin-\xe9.txt")).write_bytes(b"\xff")
    project.file("agent.py", AGENT)
    project.file("conftest.py", CONFTEST.format(tests=str(Path(__file__).parents[1])))
    for variable, value in LOCALES[request.param].items():
        monkeypatch.setenv(variable, value)
    return project


@pytest.mark.parametrize("flags", [["-v"], ["-n2", "-v", "--junitxml=junit.xml"]], ids=str)
def test_names_that_the_locale_lacks(foreign, flags):
    outcome = foreign.run("evals", "--harbor-agent=agent.py:solve", *flags, subprocess=True)
    assert outcome.counts == {"passed": 4, "failed": 1}, outcome
    outcome.lacks("INTERNALERROR", "UnicodeEncodeError", "UnicodeDecodeError")
    results = foreign.results()
    assert len({result["directory"] for result in results}) == len(NAMES)
    outcome = foreign.run("evals", "--harbor-agent=agent.py:solve", "--lf", subprocess=True)
    assert outcome.counts == {"failed": 1}, outcome


def test_node_id_with_a_name_that_the_locale_lacks(foreign):
    outcome = foreign.run("evals/任务/task.toml::任务", "--harbor-agent=agent.py:solve", subprocess=True)
    assert outcome.counts == {"passed": 1}, outcome
    outcome = foreign.run("--harbor-dataset=evals", "--harbor-task=任务", "--co", subprocess=True)
    outcome.has("1 test collected")


def test_tasks_without_an_agent(foreign):
    for flags in ([], ["-n2"]):
        outcome = foreign.run("evals", *flags, subprocess=True)
        assert outcome.ret == 5, outcome
        outcome.has("5 Harbor tasks below evals were not collected")

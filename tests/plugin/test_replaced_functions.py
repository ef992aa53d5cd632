"""Test suites that replace what files are written with: an error of the task that names it, never of the session."""

from __future__ import annotations

import pytest

FIXTURE = """

import builtins
import io
import os
import pathlib
import tempfile


@pytest.fixture(autouse=True)
def replaced(monkeypatch):
    def forbidden(*args, **kwargs):
        raise RuntimeError("forbidden")

    monkeypatch.setattr({name}, forbidden)
"""


@pytest.mark.parametrize(
    "name",
    [
        "builtins.open",
        "io.open",
        "os.open",
        "os.replace",
        "os.mkdir",
        "pathlib.Path.mkdir",
        "pathlib.Path.open",
        "pathlib.Path.read_text",
    ],
)
def test_session_goes_on(project, name):
    project.rewards(a=1.0)
    owner, _, attribute = name.rpartition(".")
    conftest = project.path / "tb2" / "conftest.py"
    conftest.write_text("import pytest\n" + FIXTURE.format(name=f'{owner}, "{attribute}"'))
    project.file("test_mine.py", "def test_mine():\n    pass\n")
    outcome = project.run(".", "--harbor-agent=nop", subprocess=True)
    outcome.lacks("INTERNALERROR", "Traceback")
    assert outcome.counts["passed"] + outcome.counts.get("errors", 0) == 2, outcome
    if "errors" in outcome.counts:
        assert outcome.ret == 1
        outcome.has("forbidden")
        assert "conftest replaces" in outcome.out or "tb2/conftest.py" in outcome.out

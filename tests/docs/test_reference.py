"""The tables in docs/ say what the code says."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

import pytest_harbor
from pytest_harbor import plugin
from pytest_harbor.errors import Phase
from pytest_harbor.gate import INCONCLUSIVE, NOT_JUDGED
from pytest_harbor.plugin import hookspecs
from pytest_harbor.results import RunRecord
from pytest_harbor.trial import Outcome, TrialResult, Usage

REPOSITORY = Path(__file__).parents[2]
REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
RESULTS = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")

# Fixtures that the others use and nobody overrides.
INTERNAL = {"harbor_checked_agent"}

WORDS = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def section(page: str, heading: str) -> str:
    """Return what is below a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no {heading}"
    return found[1]


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    lines = section(page, heading).split("\n| --- |", 1)[1].splitlines()[1:]
    table = lines[: next((number for number, line in enumerate(lines) if not line.startswith("|")), None)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def type_words(hint: Any) -> str:
    """Return a type as the tables of results.md write it."""
    if hint in WORDS:
        return WORDS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "string"
    if origin in (Union, UnionType):
        return " or ".join(type_words(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"list of {type_words(arguments[0])}s"
    if origin is dict:
        return "object" if arguments[1] is Any else f"object of {type_words(arguments[1])}s"
    return "object"


def fields(kind: type) -> list[tuple[str, str]]:
    hints = get_type_hints(kind)
    return [(each.name, type_words(hints[each.name])) for each in dataclasses.fields(kind)]


@pytest.mark.parametrize(
    "heading,kind", [("## results.jsonl", TrialResult), ("### usage", Usage), ("## run.json", RunRecord)]
)
def test_result_fields(heading, kind):
    expected = fields(kind) if kind is Usage else [("schema_version", "integer"), *fields(kind)]
    assert [(name, row[1]) for row in rows(RESULTS, heading) for name in names(row[0])] == expected


def test_options():
    spec = importlib.util.spec_from_file_location("update_reference", REPOSITORY / "scripts" / "update_reference.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.updated(REFERENCE) == REFERENCE, "run python scripts/update_reference.py"


def test_fixtures():
    provided = {name for name in vars(plugin) if name.startswith("harbor_")}
    assert {name for row in rows(REFERENCE, "## Fixtures") for name in names(row[0])} == provided - INTERNAL


def test_hooks():
    specs = [(name, spec) for name, spec in vars(hookspecs).items() if name.startswith("pytest_harbor_")]
    table = rows(REFERENCE, "## Hooks")
    assert [names(row[0])[0] for row in table] == [
        f"{name}({', '.join(inspect.signature(spec).parameters)})" for name, spec in specs
    ]
    returns_value = [spec.pytest_spec["firstresult"] for _, spec in specs]
    assert [not row[1].startswith("nothing") for row in table] == returns_value


def test_marks(pytester):
    result = pytester.runpytest_subprocess("--markers")
    (harbor,) = [line for line in result.outlines if line.startswith("@pytest.mark.harbor(")]
    signature = re.match(r"@pytest\.mark\.(harbor\(.*?\)):", harbor)[1]
    assert f"`{signature}`" in section(REFERENCE, "## Marks")


def test_outcomes_and_phases():
    assert [row[0] for row in rows(REFERENCE, "## Outcomes")] == list(get_args(Outcome))
    assert [names(row[0])[0] for row in rows(REFERENCE, "## Phases and deadlines")] == list(get_args(Phase))


def test_exit_statuses():
    # pytest.ExitCode has 0 to 5, and later versions more that have nothing to do with us.
    assert [int(row[0]) for row in rows(REFERENCE, "## Exit statuses")] == [
        0,
        1,
        2,
        3,
        4,
        5,
        INCONCLUSIVE,
        NOT_JUDGED,
        130,
    ]


def test_python_names():
    text = section(REFERENCE, "## From Python")
    assert [name for name in pytest_harbor.__all__ if f"`{name}" not in text and name not in text] == []


@pytest.mark.parametrize("command", ["gate", "history", "images"])
def test_command_line_options(command):
    done = subprocess.run(
        [sys.executable, "-m", "pytest_harbor.cli", command, "--help"], capture_output=True, text=True, check=True
    )
    accepted = set(re.findall(r"--[a-z][\w-]*", done.stdout)) - {"--help"}
    text = section(REFERENCE, f"## pytest-harbor {command}")
    assert {option for option in accepted if option not in text} == set()
    usage = text.split("```")[1]
    assert set(re.findall(r"--[a-z][\w-]*", usage)) - {"--help"} <= accepted

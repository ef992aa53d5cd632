"""The rule of a gate in a table of a configuration file: `[tool.pytest-harbor.gate]`, or `[pytest-harbor.gate]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_harbor._util.choices import CONFIG_TABLES
from pytest_harbor.gate.groups import new_group, with_groups
from pytest_harbor.gate.spec import GateSpec, Group, Kind
from pytest_harbor.task import TaskError
from pytest_harbor.task.document import format_value, read_toml

_KEYS = ("rule", "groups")
# Tasks are several, so their key is a plural.
_SELECTORS: dict[str, Kind] = {
    "category": "category",
    "difficulty": "difficulty",
    "dataset": "dataset",
    "tasks": "task",
}


class GateTableError(ValueError):
    """A table that is not valid; the message names the file, the group and the key, and what is valid."""


def find_gate(directory: Path) -> tuple[Path, GateSpec] | None:
    """Return the configuration file in a directory that has a rule, and the rule; None if there is none.

    Raises:
        GateTableError: a rule is not valid.

    """
    for name in CONFIG_TABLES:
        file = directory / name
        if file.is_file() and (found := read_gate(file)) is not None:
            return file, found
    return None


def read_gate(file: Path) -> GateSpec | None:
    """Return the rule in a configuration file, or None if it has none.

    Raises:
        GateTableError: the file cannot be read, or the rule is not valid.

    """
    try:
        document: Any = read_toml(file)
    except TaskError as error:
        raise GateTableError(str(error)) from error
    path = (*CONFIG_TABLES[file.name], "gate")
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return None
        document = document[name]
    where = f"{file}: [{'.'.join(path)}]"
    if not isinstance(document, dict):
        raise GateTableError(f"{where} must be a table, got {format_value(document)}")
    try:
        return _parse(document)
    except ValueError as error:
        raise GateTableError(f"{where}: {error}") from error


def _parse(table: dict[str, Any]) -> GateSpec:
    _refuse_unknown(table, _KEYS)
    groups = table.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise ValueError("groups must be a list of tables")
    if not table:
        raise ValueError("it is empty; give a rule, such as rule = 'drop=0.05'")
    rule = GateSpec.parse(_text(table, "rule")) if "rule" in table else GateSpec()
    if rule.versus:
        raise ValueError(f"versus={rule.versus} is about the agents of one run; give it with --harbor-gate")
    return with_groups(rule, [_group(number, group) for number, group in enumerate(groups, 1)])


def _group(number: int, table: dict[str, Any]) -> Group:
    name = table.get("name")
    which = format_value(name) if isinstance(name, str) and name else number
    try:
        _refuse_unknown(table, ("name", *_SELECTORS, "rule"))
        label = _text(table, "name") if "name" in table else ""
        given = [key for key in _SELECTORS if key in table]
        if len(given) != 1:
            raise ValueError(f"it needs exactly one of {', '.join(_SELECTORS)}")
        if "rule" not in table:
            raise ValueError("rule is missing")
        kind = _SELECTORS[given[0]]
        values = _texts(table, "tasks") if kind == "task" else (_text(table, kind),)
        rule = _text(table, "rule")
    except ValueError as error:
        raise ValueError(f"group {which}: {error}") from error
    return new_group(kind, values, rule, label)


def _refuse_unknown(table: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := [key for key in table if key not in known]:
        raise ValueError(f"unknown key {format_value(unknown[0])}; use {', '.join(known)}")


def _text(table: dict[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a text, got {format_value(value)}")
    return value


def _texts(table: dict[str, Any], key: str) -> tuple[str, ...]:
    value = table[key]
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{key} must be a list of globs, got {format_value(value)}")
    return tuple(value)

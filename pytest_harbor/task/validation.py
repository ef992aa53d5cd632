"""Validation of task.toml: errors and warnings as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pytest_harbor.task.document import format_value, key_path
from pytest_harbor.task.errors import TaskError
from pytest_harbor.task.schema import Table, TaskConfig

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

_TASK_NAME = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_SHOWN_ERRORS = 5
_EXPECTED = {
    "model_type": "a table",
    "dict_type": "a table",
    "list_type": "a list",
    "string_type": "a string",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}


def parse_config(document: dict[str, Any], path: Path) -> TaskConfig:
    """Return the configuration of a parsed task.toml.

    Raises:
        TaskError: values are not valid; the message lists them.

    """
    try:
        return TaskConfig.model_validate(document)
    except ValidationError as error:
        raise TaskError(path, describe_errors(error)) from error


def describe_errors(error: ValidationError) -> str:
    """Return the errors in a task.toml, each with the table, the key, and the expected and the actual value."""
    errors = error.errors(include_url=False)
    lines = [_describe(details) for details in errors[:_SHOWN_ERRORS]]
    if len(errors) > _SHOWN_ERRORS:
        lines.append(f"and {len(errors) - _SHOWN_ERRORS} more")
    return "; ".join(lines)


def _describe(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    location, found = details["loc"], format_value(details["input"])
    if context.get("key") is not None:
        location, found = (*location, context["key"]), context["found"]
    place = key_path(location)
    if details["type"] == "missing":
        return f"{place}: is missing"
    if details["type"] == "literal_error":
        expected = context["expected"].replace("'", '"')
    elif details["type"] == "expected":
        expected = context["expected"]
    elif details["type"] in _EXPECTED:
        expected = _EXPECTED[details["type"]]
    else:
        return f"{place}: {details['msg']}"
    return f"{place}: must be {expected}, got {found}"


def config_warnings(document: dict[str, Any], config: TaskConfig) -> list[str]:
    """Return what a valid task.toml contains that is ignored here, or that Harbor would reject."""
    found = list(_unknown_keys(document, config, ()))
    name = config.task.name
    if name is not None and not _TASK_NAME.fullmatch(name):
        found.append(f'[task] name: {format_value(name)} is not "org/name", so Harbor rejects this task')
    return found


def _unknown_keys(table: dict[str, Any], model: Table, location: tuple[str | int, ...]) -> list[str]:
    found: list[str] = []
    for key, value in table.items():
        if key in model.old_names:
            new = model.old_names[key]
            if new in table:
                found.append(f"{key_path((*location, key))}: ignored, because {new} is set too")
        elif key not in type(model).model_fields:
            found.append(f"{key_path((*location, key))}: unknown key, ignored")
        else:
            parsed = getattr(model, key)
            if isinstance(parsed, Table):
                found += _unknown_keys(value, parsed, (*location, key))
            elif isinstance(parsed, list):
                for index, (item, part) in enumerate(zip(value, parsed, strict=True)):
                    if isinstance(part, Table) and isinstance(item, dict):
                        found += _unknown_keys(item, part, (*location, key, index))
    return found

"""Validation of task.toml: errors and warnings as text."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import ValidationError

from pytest_harbor.task.document import format_value, key_path
from pytest_harbor.task.errors import TaskError
from pytest_harbor.task.schema import Table, TaskConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
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
        unknown = [f"{problem}{hint}" for problem, hint in _unknown_keys(document, TaskConfig, ())]
        raise TaskError(path, "; ".join([describe_errors(error), *unknown[:_SHOWN_ERRORS]])) from error


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
    found = [f"{problem}, ignored{hint}" for problem, hint in _unknown_keys(document, TaskConfig, ())]
    found += _old_names(document, TaskConfig, ())
    name = config.task.name
    if name is not None and not _TASK_NAME.fullmatch(name):
        found.append(f'[task] name: {format_value(name)} is not "org/name", so Harbor rejects this task')
    return found


def _unknown_keys(
    table: dict[str, Any], model: type[Table], location: tuple[str | int, ...]
) -> Iterator[tuple[str, str]]:
    """Yield each key that the schema does not have, as text, and the one that was probably meant, as a hint."""
    known = [*model.model_fields, *model.old_names]
    for key in table:
        if key in known:
            continue
        what = "table" if isinstance(table[key], dict) else "key"
        near = get_close_matches(key, known, 1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{key_path((*location, key))}: unknown {what}", hint
    for inner, part, place in _inner_tables(table, model, location):
        yield from _unknown_keys(inner, part, place)


def _old_names(table: dict[str, Any], model: type[Table], location: tuple[str | int, ...]) -> Iterator[str]:
    """Yield that deprecated keys are ignored, where those that replace them are set too."""
    for old, new in model.old_names.items():
        if old in table and new in table:
            yield f"{key_path((*location, old))}: ignored, because {new} is set too"
    for inner, part, place in _inner_tables(table, model, location):
        yield from _old_names(inner, part, place)


def _inner_tables(
    table: dict[str, Any], model: type[Table], location: tuple[str | int, ...]
) -> Iterator[tuple[dict[str, Any], type[Table], tuple[str | int, ...]]]:
    """Yield each table in a table that the schema knows, with its model and its place."""
    for key, field in model.model_fields.items():
        part, value = _table_in(field.annotation), table.get(key)
        if part is None:
            continue
        if isinstance(value, dict):
            yield value, part, (*location, key)
        for index, item in enumerate(value) if isinstance(value, list) else ():
            if isinstance(item, dict):
                yield item, part, (*location, key, index)


def _table_in(annotation: Any) -> type[Table] | None:
    """Return the model of a table in a type such as `EnvironmentConfig | None` or `list[StepConfig]`, if any."""
    # On Python 3.10, `dict[str, Any]` is an instance of `type`, too.
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, Table):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_in(part))), None)

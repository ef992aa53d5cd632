"""The tables of task.toml's keys in docs/write-a-task.md say what the schema says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from pytest_harbor.task import schema

PAGE = (Path(__file__).parents[2] / "docs" / "write-a-task.md").read_text(encoding="utf-8")
TABLES = dict(re.findall(r"<!-- checked: (\w+) -->(.*?)\n(?=#|\Z)", PAGE, re.DOTALL))

# Tables of tasks that are skipped.
NOT_DESCRIBED = {"StepConfig"}


def default(field: FieldInfo) -> str:
    """Return a field's default as the page writes it."""
    if field.is_required():
        return "required"
    value: Any = field.default
    if value is None or isinstance(value, schema.Table) or field.default_factory:
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{json.dumps(value)}`"


def test_all_tables_are_described():
    assert set(TABLES) == {table.__name__ for table in schema.Table.__subclasses__()} - NOT_DESCRIBED


@pytest.mark.parametrize("name", TABLES)
def test_keys_and_defaults(name):
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| \S", TABLES[name], re.MULTILINE)
    fields = getattr(schema, name).model_fields
    assert dict(rows) == {key: default(field) for key, field in fields.items()}

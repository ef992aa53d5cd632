"""`${VAR}` and `${VAR:-default}` in env tables."""

from __future__ import annotations

import pytest

from pytest_harbor.task.variables import MissingVariable, resolve_variables

HOST = {"SET": "value", "EMPTY": "", "NESTED": "${SET}"}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("plain", "plain"),
        ("", ""),
        ("${SET}", "value"),
        ("a-${SET}-${SET}", "a-value-value"),
        ("${SET:-other}", "value"),
        ("${UNSET:-other}", "other"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a b/c:-d}", "a b/c:-d"),
        ("${EMPTY}", ""),
        ("$SET", "$SET"),
        ("$$", "$$"),
        ("${}", "${}"),
        ("${1X}", "${1X}"),
        ("${SET", "${SET"),
        ("${NESTED}", "${SET}"),
    ],
)
def test_references(text, expected):
    assert resolve_variables({"KEY": text}, "[environment].env", HOST) == {"KEY": expected}


def test_missing_variable():
    with pytest.raises(MissingVariable) as caught:
        resolve_variables({"OK": "${SET}", "API": "https://${UNSET}/x"}, "[verifier].env", HOST)
    assert str(caught.value) == "[verifier].env API needs ${UNSET}, which is not set on the host"
    assert caught.value.name == "UNSET"


def test_default_is_the_environment_of_this_process(monkeypatch):
    monkeypatch.setenv("OF_THIS_PROCESS", "1")
    assert resolve_variables({"A": "${OF_THIS_PROCESS}"}, "x") == {"A": "1"}


def test_table_is_not_changed():
    table = {"A": "${SET}"}
    resolve_variables(table, "x", HOST)
    assert table == {"A": "${SET}"}

"""Which environments a cleanup removes."""

import pytest

from pytest_harbor._util.process import machine_id, process_token
from pytest_harbor.environment.base import is_in_scope


@pytest.mark.parametrize(
    "owner, machine, scopes",
    [
        ("SELF", "HERE", {"all", "mine"}),
        ("DEAD", "HERE", {"all", "dead", "ended"}),
        ("SELF", "elsewhere", {"all", "ended"}),
        ("DEAD", "elsewhere", {"all", "ended"}),
        ("", "", {"all", "ended"}),
    ],
)
def test_cleanup_scope(owner, machine, scopes):
    owner = {"SELF": process_token(), "DEAD": f"{process_token()}0"}.get(owner, owner)
    machine = machine_id() if machine == "HERE" else machine
    assert {scope for scope in ("all", "mine", "dead", "ended") if is_in_scope(scope, owner, machine)} == scopes

"""The parsers of options: each turns the text of a flag or an ini key into a value.

Each raises pytest.UsageError with the flag and the valid values. Imported in every project that has the plugin
installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

import pytest

from pytest_harbor._util.attempts import Attempts
from pytest_harbor._util.choices import BUILT_IN_AGENTS, COMMAND
from pytest_harbor._util.text import alternatives

if TYPE_CHECKING:
    from pytest_harbor.gate import GateSpec, Limit
    from pytest_harbor.proxy.budget import SessionBudget
    from pytest_harbor.task.shards import Shard

T = TypeVar("T")


def text(value: str, flag: str) -> str:
    """Return the text unchanged."""
    return value


def path(value: str, flag: str) -> str:
    """Return a path with `~` expanded."""
    if not value.strip():
        raise pytest.UsageError(
            f"{flag}: an empty path is not valid; give the path of a task, a dataset or another directory or file"
        )
    return os.path.expanduser(value)  # noqa: PTH111 - shells do not expand --flag=~/x


def path_or_off(value: str, flag: str) -> str | Literal[False]:
    """Return a path with `~` expanded, or False for `off`."""
    return False if value == "off" else path(value, flag)


def choice(*choices: str) -> Callable[[str, str], str]:
    """Return a parser for one of several words."""

    def parse(value: str, flag: str) -> str:
        if value not in choices:
            raise pytest.UsageError(f"{flag}: {value!r} is not valid; use {alternatives(choices)}")
        return value

    return parse


def number(lowest: float, what: str) -> Callable[[str, str], float]:
    """Return a parser for a finite number; `what` describes the valid ones in messages."""

    def parse(value: str, flag: str) -> float:
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not math.isfinite(found) or found < lowest or (lowest == 0 and what.startswith("above") and found == 0):
            raise pytest.UsageError(f"{flag}: {value!r} is not valid; use a number {what}")
        return found

    return parse


def whole(lowest: int) -> Callable[[str, str], int]:
    """Return a parser for a whole number."""

    def parse(value: str, flag: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < lowest:
            raise pytest.UsageError(f"{flag}: {value!r} is not valid; use a whole number from {lowest}")
        return int(value)

    return parse


POSITIVE = number(0, "above 0")


def attempts(value: str, flag: str) -> Attempts:
    """Return a number of attempts, or the least and the most."""
    return _parsed(Attempts.parse, value, f"{flag}: {value!r} is not valid;")


def finite(value: str, flag: str) -> float:
    """Return any finite number."""
    return number(-math.inf, "such as 1.0 or 0.5")(value, flag)


def agent(value: str, flag: str) -> str:
    """Return the name of a built-in agent, or a callable as MODULE:CALLABLE."""
    names = (*BUILT_IN_AGENTS, COMMAND)
    if value in names:
        return value
    from pytest_harbor._util.agent_names import explain_invalid, is_callable_spec

    if is_callable_spec(value):
        return value
    raise pytest.UsageError(f"{flag}: {value!r} {explain_invalid(value, names)}")


def registry(value: str, flag: str) -> str:
    """Return HOST/PREFIX of a registry."""
    from pytest_harbor.image.registry import parse_repository

    return _parsed(parse_repository, value, f"{flag}: {value!r} is not valid;")


def rule(value: str, flag: str) -> GateSpec:
    """Return the rule of a verdict."""
    from pytest_harbor.gate.groups import parse_gate

    return _parsed(parse_gate, value, f"{flag}:")


def limit(value: str, flag: str) -> Limit:
    """Return a limit: a number or a share."""
    from pytest_harbor.gate.verdict import Limit

    return _parsed(Limit.parse, value, f"{flag}: {value!r} is not valid;")


def share(value: str, flag: str) -> float:
    """Return a share from 0 to 1, which may be written as a percentage."""
    from pytest_harbor.gate.spec import parse_share

    return _parsed(parse_share, value, f"{flag}: {value!r} is not valid;")


def shard(value: str, flag: str) -> Shard:
    """Return the shard K/N."""
    from pytest_harbor.task.shards import Shard

    return _parsed(Shard.parse, value, f"{flag}: {value!r} is not valid;")


def variable(value: str, flag: str) -> tuple[str, str]:
    """Return name and value of NAME=VALUE or NAME."""
    from pytest_harbor._util.agent_values import parse_env_variable

    return _parsed(parse_env_variable, value, f"{flag}:")


def name(value: str, flag: str) -> str:
    """Return the name of an environment variable."""
    from pytest_harbor._util.agent_values import is_env_name

    if not is_env_name(value):
        # The value is not shown, since it may be the API key itself.
        raise pytest.UsageError(
            f"{flag}: this is not the name of an environment variable; give one, such as OPENAI_API_KEY"
        )
    return value


def url(value: str, flag: str) -> str:
    """Return an HTTP URL without a trailing slash."""
    # At the top of this module, it would add 3 ms to every start of pytest.
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        valid = False
    if not valid or parts.username is not None or any(c.isspace() for c in value):
        raise pytest.UsageError(f"{flag}: {value!r} is not valid; use http(s)://HOST[:PORT][/PATH]")
    return value.rstrip("/")


def files(value: str, flag: str) -> tuple[str, str]:
    """Return source and target of SRC:DST."""
    from pytest_harbor._util.agent_values import parse_file_mapping

    return _parsed(parse_file_mapping, value, f"{flag}:")


def session_budget(value: str, flag: str) -> SessionBudget:
    """Return a budget in dollars or tokens."""
    from pytest_harbor.proxy.budget import SessionBudget

    return _parsed(SessionBudget.parse, value, f"{flag}: {value!r} is not valid;")


def _parsed(parse: Callable[[str], T], value: str, before: str) -> T:
    """Parse a value with another module's parser, whose message on a bad value follows `before`."""
    try:
        return parse(value)
    except ValueError as error:
        raise pytest.UsageError(f"{before} {error}") from error

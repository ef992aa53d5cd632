"""Mistyped flags and ini keys: refused with the one that was meant.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pytest

from pytest_harbor._util.text import alternatives
from pytest_harbor.plugin.options.table import OPTIONS

_FLAGS = tuple(option.flag for option in OPTIONS)
# How many flags that begin as a typed one does are named.
_BEGUN = 3
_KEYS = tuple(option.key for option in OPTIONS)


def refuse_unknown_flags(parser: pytest.Parser, args: list[str]) -> None:
    """Refuse flags that look like one of ours.

    pytest itself takes an unknown flag whose value has a space for a path, and says that this does not exist.

    Raises:
        pytest.UsageError: there is one; the message names the flag that was meant.

    """
    typed = [arg.partition("=")[0] for arg in args if arg.startswith("--ha")]
    if not any(flag not in _FLAGS for flag in typed):
        return
    # Options of a conftest.py are known by now.
    given, unknown = parser.parse_known_and_unknown_args(args)
    for arg in (*unknown, *getattr(given, "file_or_dir", ())):
        flag = str(arg).partition("=")[0]
        begun = [known for known in _FLAGS if known.startswith(flag)]
        if flag in typed and 0 < len(begun) <= _BEGUN:
            raise pytest.UsageError(f"{flag} is not an option; did you mean {alternatives(begun)}?")
        if flag in typed and (near := _nearest(flag.replace("_", "-"), _FLAGS)):
            raise pytest.UsageError(f"{flag} is not an option; did you mean {near}?")
        if flag in typed and flag.startswith("--harbor-"):
            raise pytest.UsageError(f"{flag} is not an option; `pytest --help` lists those that begin with --harbor-")


def refuse_unknown_keys(keys: Iterable[str]) -> None:
    """Refuse ini keys that look like one of ours; pytest only warns of them.

    Raises:
        pytest.UsageError: there is one; the message names the key that was meant.

    """
    for key in sorted(keys):
        if not key.startswith("ha"):
            continue
        if near := _nearest(key.replace("-", "_"), _KEYS):
            raise pytest.UsageError(f"ini key {key} does not exist; did you mean {near}?")
        if key.startswith("harbor_"):
            raise pytest.UsageError(
                f"ini key {key} does not exist; `pytest --help` lists those that begin with harbor_"
            )


def _nearest(name: str, names: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.8)), "")

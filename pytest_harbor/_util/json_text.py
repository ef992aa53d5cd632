"""JSON files that people commit: what a merge may leave in them is an error, and never read silently."""

from __future__ import annotations

import json
import re
from typing import Any

_CONFLICT = re.compile(r"^(<{7}|\|{7}|>{7})( .*)?\r?$|^={7}\r?$", re.MULTILINE)


class DuplicateKey(ValueError):
    """An object has a key twice; Python's own parser would keep the last one silently."""


def has_conflicts(text: str) -> bool:
    """Return True if a text has the conflict markers of a version control system."""
    return _CONFLICT.search(text) is not None


def unique_keys(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        DuplicateKey: an object has a key twice.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.

    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise DuplicateKey(f"has {twice!r} twice")
    return found

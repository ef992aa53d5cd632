"""Requests as a cassette holds them: each with what it adds to an earlier one.

An agent says the whole conversation again with every call, so that a file of whole requests would grow with the square
of their number, and a change at its beginning would change all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LIKE, GROWN, GONE = "like", "grown", "gone"


def compact(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return requests with what their bodies share with that of an earlier one left out.

    A body is then held in up to four parts: `like`, the number of the earlier request, from 1; `body`, the fields that
    are others; `grown`, lists that begin as those of the earlier one, by how many entries, and what follows; `gone`,
    fields that it does not have any more.
    """
    return [_compact_one(request, requests[:number]) for number, request in enumerate(requests)]


def expand(held: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the requests that compact() was given.

    Raises:
        ValueError: they refer to what is not there.

    """
    requests: list[dict[str, Any]] = []
    for entry in held:
        try:
            if not isinstance(entry, dict):
                raise TypeError("it is no object")
            requests.append(_expand_one(dict(entry), requests))
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"request {len(requests) + 1}: {type(error).__name__}: {error}") from error
    return requests


def _compact_one(request: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> dict[str, Any]:
    body = request.get("body")
    if not isinstance(body, dict):
        return request
    candidates = [number for number, other in enumerate(earlier, 1) if isinstance(other.get("body"), dict)]
    shared = {number: _shared(body, earlier[number - 1]["body"]) for number in candidates}
    best = max(candidates, key=lambda number: (shared[number], number), default=0)
    if not best or shared[best] == 0:
        return request
    other = earlier[best - 1]["body"]
    changed: dict[str, Any] = {}
    grown: dict[str, Any] = {}
    for key, value in body.items():
        kept = _beginning(value, other.get(key))
        if key in other and _same(value, other[key]):
            continue
        if kept:
            grown[key] = {"from": kept, "by": value[kept:]}
        else:
            changed[key] = value
    parts = {LIKE: best, "body": changed, GROWN: grown, GONE: [key for key in other if key not in body]}
    return {**request, **parts}


def _expand_one(entry: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> dict[str, Any]:
    number = entry.pop(LIKE, None)
    if number is None:
        return entry
    if type(number) is not int or not 0 < number <= len(earlier):
        raise IndexError(f"there is no earlier request {number!r}")
    other = earlier[number - 1]["body"]
    gone, grown = entry.pop(GONE), entry.pop(GROWN)
    body = {key: value for key, value in other.items() if key not in gone}
    body.update(entry["body"])
    for key, growth in grown.items():
        body[key] = [*other[key][: growth["from"]], *growth["by"]]
    return {**entry, "body": body}


def _shared(body: dict[str, Any], other: dict[str, Any]) -> int:
    """Return how much two bodies share: whole fields, and entries that lists begin with."""
    whole = sum(1 for key, value in body.items() if key in other and _same(value, other[key]))
    return whole + sum(_beginning(value, other.get(key)) for key, value in body.items())


def _beginning(value: Any, other: Any) -> int:
    """Return with how many equal entries two lists begin; 0 where they are none."""
    if not isinstance(value, list) or not isinstance(other, list):
        return 0
    count = 0
    for one, two in zip(value, other, strict=False):
        if not _same(one, two):
            break
        count += 1
    return count


def _same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are equal; 1, 1.0 and true are not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)

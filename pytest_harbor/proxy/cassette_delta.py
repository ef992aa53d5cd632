"""Delta encoding of requests: a cassette stores only what each request adds to an earlier one.

An agent sends the whole conversation with every call. A file of whole requests would grow with the square of their
number, and a change near the start of the conversation would change all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Keys of the file format.
LIKE, GROWN, GONE = "like", "grown", "gone"


def compact(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return requests without the parts that their bodies share with that of an earlier one.

    A delta has up to four keys: `like` is the number of the earlier request, from 1; `body` has the fields that differ;
    `grown` has lists that start with entries of the earlier list: how many (`from`) and what follows (`by`); `gone`
    names fields that were removed.
    """
    return [_compact_one(request, requests[:number]) for number, request in enumerate(requests)]


def expand(deltas: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the requests that compact() was given.

    Raises:
        ValueError: a delta refers to something that does not exist.

    """
    requests: list[dict[str, Any]] = []
    for delta in deltas:
        try:
            if not isinstance(delta, dict):
                raise TypeError("it is not an object")
            requests.append(_expand_one(dict(delta), requests))
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"request {len(requests) + 1}: {type(error).__name__}: {error}") from error
    return requests


def _compact_one(request: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> dict[str, Any]:
    body = request.get("body")
    if not isinstance(body, dict):
        return request
    candidates = [number for number, other in enumerate(earlier, 1) if isinstance(other.get("body"), dict)]
    shared = {number: _shared_count(body, earlier[number - 1]["body"]) for number in candidates}
    best = max(candidates, key=lambda number: (shared[number], number), default=0)
    if not best or shared[best] == 0:
        return request
    other = earlier[best - 1]["body"]
    changed: dict[str, Any] = {}
    grown: dict[str, Any] = {}
    for key, value in body.items():
        if key in other and _equal(value, other[key]):
            continue
        kept = _common_prefix(value, other.get(key))
        if kept:
            grown[key] = {"from": kept, "by": value[kept:]}
        else:
            changed[key] = value
    delta = {LIKE: best, "body": changed, GROWN: grown, GONE: [key for key in other if key not in body]}
    return {**request, **delta}


def _expand_one(delta: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> dict[str, Any]:
    number = delta.pop(LIKE, None)
    if number is None:
        return delta
    if type(number) is not int or not 0 < number <= len(earlier):
        raise IndexError(f"there is no earlier request {number!r}")
    other = earlier[number - 1]["body"]
    gone, grown = delta.pop(GONE), delta.pop(GROWN)
    body = {key: value for key, value in other.items() if key not in gone}
    body.update(delta["body"])
    for key, growth in grown.items():
        body[key] = [*other[key][: growth["from"]], *growth["by"]]
    return {**delta, "body": body}


def _shared_count(body: dict[str, Any], other: dict[str, Any]) -> int:
    """Return how much two bodies share: the number of equal fields plus that of equal entries at the start of lists."""
    fields = sum(1 for key, value in body.items() if key in other and _equal(value, other[key]))
    return fields + sum(_common_prefix(value, other.get(key)) for key, value in body.items())


def _common_prefix(value: Any, other: Any) -> int:
    """Return the number of equal entries at the start of two lists; 0 if either is not a list."""
    if not isinstance(value, list) or not isinstance(other, list):
        return 0
    count = 0
    for one, two in zip(value, other, strict=False):
        if not _equal(one, two):
            break
        count += 1
    return count


def _equal(one: Any, other: Any) -> bool:
    """Return True if two JSON values are equal; 1, 1.0 and true are different."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)

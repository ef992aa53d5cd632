"""Requests that are held as what they add to one another."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.proxy.cassette_delta import compact, expand

keys = st.sampled_from(["like", "body", "x"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=6,
)
bodies = st.dictionaries(st.sampled_from(["messages", "tools", "model", "like"]), values, max_size=4) | values
requests = st.builds(lambda path, body: {"method": "POST", "path": path, "body": body}, st.sampled_from("ab"), bodies)


@given(st.lists(requests, max_size=6))
def test_what_was_made_compact_is_made_whole_again(several):
    held = json.loads(json.dumps(compact(several)))
    assert json.dumps(expand(held), sort_keys=True) == json.dumps(several, sort_keys=True)


def test_a_conversation_takes_no_more_room_than_its_end():
    messages = [{"role": "user", "content": f"{number} {'x' * 1000}"} for number in range(100)]
    tools = [{"name": "y" * 5000}]
    several = [
        {"method": "POST", "path": "/v1", "body": {"model": "m", "tools": tools, "messages": messages[:number]}}
        for number in range(1, 101)
    ]
    held = compact(several)
    assert len(json.dumps(several)) > 5_000_000
    assert len(json.dumps(held)) < 130_000
    assert held[50]["grown"]["messages"]["by"] == [messages[50]]
    assert expand(held) == several


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {"like": 1, "body": {}, "grown": {}, "gone": []},
        {"like": 0, "body": {}, "grown": {}, "gone": []},
        {"like": "1", "body": {}},
        {"like": True, "body": {}, "grown": {}, "gone": []},
    ],
)
def test_what_refers_to_nothing_is_refused(entry):
    with pytest.raises(ValueError, match="request 1"):
        expand([entry])
    first = {"method": "POST", "path": "/", "body": {"a": 1}}
    with pytest.raises(ValueError, match="request 2"):
        expand([first, {"like": 1, "body": {}, "grown": {"b": {"from": 1, "by": []}}, "gone": []}])

"""Delta encoding of requests in cassettes."""

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
request = st.builds(lambda path, body: {"method": "POST", "path": path, "body": body}, st.sampled_from("ab"), bodies)


@given(st.lists(request, max_size=6))
def test_expand_restores_compacted_requests(requests):
    deltas = json.loads(json.dumps(compact(requests)))
    assert json.dumps(expand(deltas), sort_keys=True) == json.dumps(requests, sort_keys=True)


def test_size_grows_with_the_conversation_not_its_square():
    messages = [{"role": "user", "content": f"{number} {'x' * 1000}"} for number in range(100)]
    tools = [{"name": "y" * 5000}]
    requests = [
        {"method": "POST", "path": "/v1", "body": {"model": "m", "tools": tools, "messages": messages[:number]}}
        for number in range(1, 101)
    ]
    deltas = compact(requests)
    assert len(json.dumps(requests)) > 5_000_000
    assert len(json.dumps(deltas)) < 130_000
    assert deltas[50]["grown"]["messages"]["by"] == [messages[50]]
    assert expand(deltas) == requests


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
def test_dangling_reference_is_an_error(entry):
    with pytest.raises(ValueError, match="request 1"):
        expand([entry])
    first = {"method": "POST", "path": "/", "body": {"a": 1}}
    with pytest.raises(ValueError, match="request 2"):
        expand([first, {"like": 1, "body": {}, "grown": {"b": {"from": 1, "by": []}}, "gone": []}])

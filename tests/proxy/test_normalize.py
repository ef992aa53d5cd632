"""Differences between requests that normalization removes, and those that it keeps."""

from __future__ import annotations

import pytest

from pytest_harbor.proxy.normalize import normalize_body, request_digest

PLACEHOLDERS = [("hello__1a2b3c4", "<trial>"), ("127.0.0.1:40001", "<proxy>"), ("harbor-hello-77aa88", "<environment>")]
OTHER_PLACEHOLDERS = [
    ("hello__9z9z9z9", "<trial>"),
    ("172.17.0.1:5", "<proxy>"),
    ("harbor-hello-00ff11", "<environment>"),
]

SAME = [
    ("in hello__1a2b3c4 at http://127.0.0.1:40001/v1", "in hello__9z9z9z9 at http://172.17.0.1:5/v1"),
    ("root@harbor-hello-77aa88:/app#", "root@harbor-hello-00ff11:/app#"),
    ("id 550e8400-e29b-41d4-a716-446655440000.", "id 6BA7B810-9DAD-11D1-80B4-00C04FD430C8."),
    ("call_a1B2c3D4e5F6g7H8", "call_zzzzzzzzzzzz9999"),
    ("toolu_01A09q90qw90lq917835lq9", "toolu_02B09q90qw90lq917835lq9"),
    ("2026-11-21T13:30:01.123Z", "2025-01-02T03:04:05+02:00"),
    ("on 2026-11-21", "on 2027-02-03"),
    ("at 2026-11-21 13:30:01,532 ok", "at 2026-11-22 01:02:03,4 ok"),
    ("Sat Nov 21 13:30:01 UTC 2026", "Sun Mar  1 03:00:00 CET 2027"),
    ("Sat, 21 Nov 2026 13:30:01 GMT", "Sun, 01 Mar 2027 00:00:00 GMT"),
    ("-rw-r--r-- 1 root root 14 Nov 21 08:28 a", "-rw-r--r-- 1 root root 14 Mar  1  2025 a"),
    ("12:30:01 up", "01:02:03 up"),
    ("1 passed in 0.12s", "1 passed in 13.4s"),
    ("real\t0m1.002s", "real\t12m0.5s"),
    ("took 3.5 ms", "took 12.25 ms"),
    ("/tmp/tmp.Ab3dE6gH9i/x", "/tmp/tmp.zzzzzzzzzz/x"),
    ("/tmp/tmpab3d_6gh/x", "/tmp/tmp00000000/x"),
    ("<Foo object at 0x7f8f8e485a10>", "<Foo object at 0x7fffffffffff>"),
]
DIFFERENT = [
    ("List the files", "List the file"),
    ("rows: 120", "rows: 121"),
    ("wait 30 s", "wait 60 s"),
    ("0.12", "0.13"),
    ("exit code 1", "exit code 0"),
    ("call_function_name_long", "call_function_name_else"),
    ("v1.2.3", "v1.2.4"),
    ("/tmp/data.csv", "/tmp/date.csv"),
    ("color 0xff", "color 0xfe"),
    ("deadbeef", "deadbeee"),
]


@pytest.mark.parametrize("one, other", SAME)
def test_equal_after_normalization(one, other):
    for wrap in (lambda text: text, lambda text: [{"content": text}], lambda text: {text: 1}):
        assert normalize_body(wrap(one), PLACEHOLDERS) == normalize_body(wrap(other), OTHER_PLACEHOLDERS)


@pytest.mark.parametrize("one, other", DIFFERENT)
def test_still_different(one, other):
    assert normalize_body([one], PLACEHOLDERS) != normalize_body([other], PLACEHOLDERS)


def test_fields_that_identify_the_caller_are_ignored():
    body = {"model": "a", "messages": [{"role": "user", "user": "inner"}]}
    more = {"user": "u", "metadata": {"a": 1}, "prompt_cache_key": "k", "safety_identifier": "s", "client_metadata": {}}
    assert normalize_body({**body, **more}, PLACEHOLDERS) == body


def test_digest_ignores_key_order_and_not_types():
    assert request_digest({"a": 1, "b": [2, 3]}) == request_digest({"b": [2, 3], "a": 1})
    assert request_digest({"a": 1}) != request_digest({"a": "1"})
    assert request_digest({"a": [1, 2]}) != request_digest({"a": [2, 1]})


def test_images_become_digests():
    image, other = "iVBORw0KGgo" * 1000, "iVBORw0KGgp" * 1000
    found = normalize_body([f"data:image/png;base64,{image}", image], PLACEHOLDERS)
    assert len(str(found)) < 300
    assert found != normalize_body([f"data:image/png;base64,{other}", other], PLACEHOLDERS)
    assert found == normalize_body([f"data:image/png;base64,{image}", image], OTHER_PLACEHOLDERS)

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_harbor.trial.ctrf import InnerTest, InnerTests, read_ctrf


@pytest.fixture
def report(tmp_path):
    def write(content):
        path = tmp_path / "ctrf.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def listing(*entries, **results):
    return {"results": {"tests": list(entries), **results}}


def failed(name="t", **fields):
    return {"name": name, "status": "failed", **fields}


def test_a_report_as_pytest_json_ctrf_writes_it(report):
    path = report(
        {
            "results": {
                "tool": {"name": "pytest", "version": "8.4.1"},
                "summary": {"tests": 5, "passed": 1, "failed": 1, "skipped": 1, "pending": 1, "other": 1},
                "tests": [
                    {"name": "test_outputs.py::test_a", "status": "passed", "duration": 0.01},
                    {
                        "name": "test_outputs.py::test_b",
                        "status": "failed",
                        "message": "assert 1 == 2",
                        "trace": "a long trace",
                    },
                    {"name": "c", "status": "skipped"},
                    {"name": "d", "status": "pending"},
                    {"name": "e", "status": "other"},
                ],
            }
        }
    )
    assert read_ctrf(path) == InnerTests(1, 1, 2, 1, [InnerTest("test_outputs.py::test_b", "assert 1 == 2")])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"1",
        [],
        {},
        {"results": []},
        {"results": {}},
        {"results": {"tests": []}},
        {"results": {"tests": "x", "summary": "y"}},
        {"results": {"tests": [1, None], "summary": {}}},
        {"results": {"summary": {"passed": "1", "failed": True, "skipped": -1, "other": None}}},
        b'{"results": {"summary": {"passed": 1e400}}}',
        b'{"results": {"summary": {"passed": NaN}}}',
        b'{"results": {"summary": {"passed": ' + b"9" * 5000 + b"}}}",
    ],
)
def test_unusable(report, content):
    assert read_ctrf(report(content)) is None


def test_no_file(tmp_path):
    assert read_ctrf(tmp_path / "none") is None
    assert read_ctrf(tmp_path) is None


def test_too_large(report):
    good = json.dumps(listing(failed())).encode()
    assert read_ctrf(report(good + b" " * (16 * 2**20 - len(good)))) is not None
    assert read_ctrf(report(good + b" " * (16 * 2**20 - len(good) + 1))) is None


def test_the_summary_where_no_test_is_listed(report):
    summary = {"passed": 3, "failed": 1.0, "skipped": 2, "pending": 1, "other": "?"}
    assert read_ctrf(report({"results": {"summary": summary}})) == InnerTests(3, 1, 3, 0, [])
    assert read_ctrf(report(listing(failed(), summary=summary))) == InnerTests(0, 1, 0, 0, [InnerTest("t", "")])


def test_from_json_is_the_inverse_of_asdict():
    inner = InnerTests(1, 2, 3, 4, [InnerTest("a", "b"), InnerTest("c", "")])
    assert InnerTests.from_json(json.loads(json.dumps(dataclasses.asdict(inner)))) == inner
    for broken in ({"failures": [{"name": "a"}]}, {"unknown": 1}, []):
        with pytest.raises(TypeError):
            InnerTests.from_json(broken)


def test_lenient_entries(report):
    path = report(listing({}, 7, {"status": ["x"]}, {"status": "PASSED"}, failed(None), failed(5, message=[1])))
    assert read_ctrf(path) == InnerTests(0, 2, 0, 3, [InnerTest("(unnamed)", "")] * 2)


def test_the_limit(report):
    path = report(listing(*(failed(f"t{i}") for i in range(30))))
    inner = read_ctrf(path)
    assert inner.failed == 30
    assert [test.name for test in inner.failures] == [f"t{i}" for i in range(20)]
    assert len(read_ctrf(path, limit=3).failures) == 3
    assert read_ctrf(path, limit=0).failures == []


def test_the_trace_where_there_is_no_message(report):
    inner = read_ctrf(report(listing(failed(message=" \x1b[0m", trace="E  boom\n"))))
    assert inner.failures == [InnerTest("t", "E  boom")]


@pytest.mark.parametrize(
    "text, clean",
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdevice\x1b\\text", "text"),
        ("\x1b(Btext\x1bc", "text"),
        ("\x1b[", ""),
        ("a\x00b\x08c\x7fd\x85", "abcd"),
        ("line\r\nnext\tcolumn", "line\nnext\tcolumn"),
        ("\u202eevil\u2066", "evil"),
        ("\ud800x", "x"),
        ("größe 日本 ✓", "größe 日本 ✓"),
    ],
)
def test_escapes_are_removed(report, text, clean):
    assert read_ctrf(report(listing(failed(message=text)))).failures[0].message == clean


def test_a_name_is_one_line(report):
    inner = read_ctrf(report(listing(failed("a\n::error::b\x1b[2J"), failed("n" * 1000))))
    assert inner.failures[0].name == "a ::error::b"
    assert inner.failures[1].name == "n" * 299 + "…"


def test_messages_are_shortened(report):
    inner = read_ctrf(report(listing(failed(message="x" * 2000), failed(message="x" * 2001))))
    assert [test.message for test in inner.failures] == ["x" * 2000, "x" * 1999 + "…"]


def test_a_message_of_megabytes_of_escapes(report):
    inner = read_ctrf(report(listing(failed(message="\x1b[" * 2**20), failed(message="\x1b]" * 2**20))))
    assert [test.message for test in inner.failures] == ["", ""]


VALUES = st.none() | st.booleans() | st.floats() | st.text(max_size=10) | st.lists(st.text(max_size=3), max_size=2)
STATUSES = st.sampled_from(["passed", "failed", "skipped", "pending"]) | VALUES


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({}, optional={"name": VALUES, "status": STATUSES, "message": VALUES}) | VALUES),
    VALUES | st.fixed_dictionaries({}, optional={"passed": VALUES, "failed": VALUES}),
)
def test_any_report(tmp_path_factory, entries, summary):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(listing(*entries, summary=summary)))
    inner = read_ctrf(path)
    listed = [entry for entry in entries if isinstance(entry, dict)]
    if listed:
        assert inner.passed + inner.failed + inner.skipped + inner.other == len(listed)
        assert inner.failed == sum(entry.get("status") == "failed" for entry in listed)
    for test in inner.failures if inner else ():
        assert test.name.isprintable()
        assert all(c.isprintable() or c in "\n\t\u00a0\u3000" for c in test.message)

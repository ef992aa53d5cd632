"""Command output of bounded size."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor._util.logs import BoundedOutput, LogFile, tail


def bounded(*pieces: bytes, head: int = 4, end: int = 4) -> BoundedOutput:
    output = BoundedOutput(head, end)
    for piece in pieces:
        output.add(piece)
    return output


@pytest.mark.parametrize(
    "pieces, text",
    [
        ([], ""),
        ([b"abc"], "abc"),
        ([b"abcdefgh"], "abcdefgh"),
        ([b"abcd", b"efgh"], "abcdefgh"),
        ([b"abcdefghi"], "abcd\n[... 1 byte omitted ...]\nfghi"),
        ([b"a" * 2000 + b"end!"], "aaaa\n[... 1,996 bytes omitted ...]\nend!"),
        ([b"a"] * 20, "aaaa\n[... 12 bytes omitted ...]\naaaa"),
        ([b"", b"abc", b""], "abc"),
    ],
)
def test_beginning_and_end_are_kept(pieces, text):
    assert bounded(*pieces).text() == text


@given(st.lists(st.binary(max_size=12)), st.integers(0, 8), st.integers(1, 8))
def test_pieces_of_any_size(pieces, head, end):
    whole = b"".join(pieces)
    output = bounded(*pieces, head=head, end=end)
    assert output.size == len(whole)
    assert output.text() == bounded(whole, head=head, end=end).text()
    if len(whole) <= head + end:
        assert output.text() == whole.decode("utf-8", "replace")
    else:
        assert (bytes(output._head) + output.rest()).startswith(whole[:head])
        assert output.rest().endswith(whole[-end:])


def test_memory_is_bounded():
    output = BoundedOutput(1000, 1000)
    chunk = b"x" * 65536
    tracemalloc.start()
    for _ in range(2000):
        output.add(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert output.size == 2000 * 65536
    assert peak < 1_000_000


def test_memory_is_bounded_for_tiny_pieces():
    output = BoundedOutput(0, 100)
    for n in range(20_000):
        output.add(b"%d" % (n % 10))
    assert len(output._tail) <= 101


def test_log_file_can_be_followed(tmp_path):
    seen = []
    with LogFile(tmp_path / "deep" / "log.txt", seen.append) as log:
        log(b"one\n")
        assert log.path.read_bytes() == b"one\n"
        log(b"two\n")
    assert log.path.read_bytes() == b"one\ntwo\n"
    assert seen == [b"one\n", b"two\n"]
    assert log.size == 8
    log.close()


def test_long_log_file_keeps_both_ends(tmp_path):
    with LogFile(tmp_path / "log.txt") as log:
        for _ in range(24):
            log(b"x" * (1 << 20))
        log(b"the end")
    content = log.path.read_bytes()
    assert len(content) < 18 << 20
    assert content.endswith(b"the end")
    assert b"bytes omitted" in content


def test_output_after_close_is_ignored(tmp_path):
    """A callable agent whose time ran out may still write."""
    with LogFile(tmp_path / "log.txt") as log:
        log(b"in time")
    log(b"too late")
    assert log.path.read_bytes() == b"in time"


def test_tail(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(10_000)))
    assert tail(path, lines=2) == "line 9998\nline 9999"
    assert len(tail(path, lines=10**6, limit=100)) <= 100
    assert tail(None) == tail(tmp_path / "gone") == tail(tmp_path) == ""
    path.write_bytes(b"\xff\n\n\n")
    assert tail(path) == "\ufffd"

"""Files that are replaced in one step, and digests."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading

import pytest

from pytest_harbor._util.files import Digest, check_writable, file_digest, write_atomically, write_output


@pytest.mark.parametrize(
    "content, expected",
    [
        ("ü\r\nline\n", "ü\r\nline\n".encode()),
        (b"\x00\xff\r\n", b"\x00\xff\r\n"),
        (iter(["one\n", "two\n"]), b"one\ntwo\n"),
        ("", b""),
    ],
)
def test_write(tmp_path, content, expected):
    path = tmp_path / "new" / "directory" / "file.txt"
    write_atomically(path, content)
    assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path], "no temporary file remains"


def test_replace(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old, and longer than the new content")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old, and longer than the new content", "a reader keeps what it opened"
    assert path.read_text() == "new"


@pytest.mark.parametrize("exists", [True, False])
def test_output_through_a_link(tmp_path, exists):
    target = tmp_path / "directory" / "file.txt"
    if exists:
        write_output(target, "old")
    link = tmp_path / "link"
    link.symlink_to(target)
    check_writable(link)
    write_output(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def content():
        yield "new, in part"
        raise RuntimeError("failed")

    with pytest.raises(RuntimeError):
        write_atomically(path, content())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path):
    def content():
        yield "in part"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file.txt", content())
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_the_way(tmp_path):
    path = tmp_path / "file.txt"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="irectory"):
        write_atomically(path, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_name(tmp_path):
    path = tmp_path / ("x" * 255)
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_readers_and_writers_see_whole_files_only(tmp_path):
    path = tmp_path / "file.txt"
    contents = [str(number) * 100_000 for number in range(4)]
    write_atomically(path, contents[0])

    def write(content):
        for _ in range(25):
            write_atomically(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        seen.add(path.read_text())
    for thread in threads:
        thread.join()
    assert seen <= set(contents)
    assert list(tmp_path.iterdir()) == [path]


def digest(*parts):
    total = Digest()
    total.add(*parts)
    return total.hex()


def test_digest_is_stable():
    assert digest("a", b"bc") == hashlib.sha256(b"1:a2:bc").hexdigest()
    assert digest() == hashlib.sha256().hexdigest()


def test_parts_cannot_be_confused():
    sequences = [("ab",), ("a", "b"), ("", "ab"), ("ab", ""), ("a", "", "b"), ("1:a",), ("a1:b",), ("2:ab",), ()]
    for one, other in itertools.combinations(sequences, 2):
        assert digest(*one) != digest(*other)


def test_text_and_its_bytes_are_the_same_part():
    assert digest("ü") == digest("ü".encode())


def test_names_that_are_not_utf8():
    assert digest("a\udcff") == digest(b"a\xff")


def test_parts_may_be_added_one_by_one():
    total = Digest()
    total.add("a")
    total.add("b", "c")
    assert total.hex() == digest("a", "b", "c")


def test_file_digest(tmp_path):
    content = b"x" * ((1 << 20) + 1)
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).digest()
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "gone")


def test_check_writable_leaves_no_trace(tmp_path):
    (tmp_path / "old").write_text("x")
    for path in ("old", "new", "a/b/new"):
        check_writable(tmp_path / path)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_devices_and_pipes_are_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is not a regular file"):
        write_atomically(path, "new")
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["file/new", "directory", "pipe", "/proc/x/new", "/dev/null/new", "/dev/null"])
def test_unwritable_files(tmp_path, path):
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        check_writable(tmp_path / path)

"""What is uploaded: scripts that can run, and files that an agent can change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_harbor.environment.uploads import line_problem, user_uploads
from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.trial.start import check_agent_files

OWNER = (1000, 1001)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory made under a strict umask, with links of all kinds."""
    before = os.umask(0o077)
    try:
        outside = tmp_path / "outside"
        (outside / "below").mkdir(parents=True)
        (outside / "below" / "file").write_text("out")
        top = tmp_path / "top"
        (top / "sub").mkdir(parents=True)
        (top / "plain").write_text("in")
        (top / "program").write_text("#!/bin/sh\n")
        (top / "program").chmod(0o700)
        (top / "sub" / "inside").symlink_to("../plain")
        (top / "outside").symlink_to(outside)
        (top / "absolute").symlink_to(top / "plain")
        (top / "dangling").symlink_to(tmp_path / "nowhere")
        (top / "sub" / "up").symlink_to("..")
        (top / "loop").symlink_to(tmp_path)
        os.mkfifo(top / "pipe")
    finally:
        os.umask(before)
    return top


def test_user_uploads(tree: Path) -> None:
    found = {upload.target: upload for upload in user_uploads(tree, "/data/set/", OWNER)}
    assert {target: oct(upload.mode) if upload.mode else "link" for target, upload in found.items()} == {
        "/data": "0o755",
        "/data/set": "0o755",
        "/data/set/absolute": "0o644",
        "/data/set/dangling": "link",
        "/data/set/outside": "0o755",
        "/data/set/outside/below": "0o755",
        "/data/set/outside/below/file": "0o644",
        "/data/set/plain": "0o644",
        "/data/set/program": "0o755",
        "/data/set/sub": "0o755",
        "/data/set/sub/inside": "link",
        "/data/set/sub/up": "link",
    }
    assert {upload.owner for upload in found.values()} == {OWNER}
    assert {target for target, upload in found.items() if upload.keep} == {
        "/data", "/data/set", "/data/set/outside", "/data/set/outside/below", "/data/set/sub"
    }  # fmt: skip


def test_link_that_leaves_the_directory_and_comes_back(tree: Path) -> None:
    (tree / "sub" / "back").symlink_to(f"../../{tree.name}/plain")
    (tree / "outside" / "again").symlink_to("below/file")
    found = {upload.target: upload.source for upload in user_uploads(tree, "/other", OWNER)}
    assert found["/other/sub/back"] == tree / "plain"
    assert found["/other/outside/again"] == (tree / "outside" / "below" / "file").resolve()


def test_special_file_as_source(tree: Path) -> None:
    with pytest.raises(OSError, match="neither a file nor a directory"):
        user_uploads(tree / "pipe", "/x", OWNER)


def test_link_as_source_is_followed(tree: Path) -> None:
    (upload,) = user_uploads(tree / "sub" / "inside", "/plain", OWNER)
    assert (upload.source, upload.mode) == (tree / "plain", 0o644)


def test_dangling_link_as_source(tree: Path) -> None:
    with pytest.raises(FileNotFoundError):
        user_uploads(tree / "dangling", "/x", OWNER)


@pytest.mark.parametrize(
    "name, content, problem",
    [
        ("run", b"#!/bin/sh\r\ntrue\r\n", "CRLF line endings"),
        ("run.py", b"#!/usr/bin/env python3\r\n", "CRLF line endings"),
        ("lib.sh", b"true\r\n", "CRLF line endings"),
        ("run", b"\xef\xbb\xbf#!/bin/sh\ntrue\n", "a byte order mark"),
        ("run", b"#!/bin/sh\nprintf 'a\r\n'\n", ""),
        ("data.csv", b"a,b\r\n", ""),
        ("data.csv", b"\xef\xbb\xbfa,b\n", ""),
        ("empty.sh", b"", ""),
    ],
)
def test_line_problem(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert line_problem(tmp_path / name) == problem


def test_agent_files_with_crlf(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_bytes(b"#!/bin/bash\r\ntrue\r\n")
    (tmp_path / "other.sh").write_bytes(b"#!/bin/bash\ntrue\n")
    files = [(tmp_path, "/agent")]
    note = "the agent's /agent/run.sh has CRLF line endings, with which it cannot be run as a script"
    assert check_agent_files(files, "bash /agent/other.sh") == [note]
    for line in ("bash /agent/run.sh", "cd /app && /agent/run.sh", "timeout 60 /agent/run.sh"):
        with pytest.raises(UnmetRequirement, match=f"{note}; convert it with dos2unix"):
            check_agent_files(files, line)


def test_agent_file_with_crlf_that_its_interpreter_accepts(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_bytes(b"#!/usr/bin/env python3\r\nprint()\r\n")
    (tmp_path / "run.py").chmod(0o755)
    files = [(tmp_path, "/agent")]
    note = "the agent's /agent/run.py has CRLF line endings, with which it cannot be run as a script"
    assert check_agent_files(files, "python3 /agent/run.py") == [note]
    with pytest.raises(UnmetRequirement, match=note):
        check_agent_files(files, "/agent/run.py --now")

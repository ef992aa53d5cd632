"""Ignore files: BuildKit's answers, and the details of reading and walking."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ignore_cases import write_tree

from pytest_harbor.image.ignore import IgnoreMatcher, IgnorePatternError, clean, read_patterns

# Written by scripts/record_buildkit.py.
ANSWERS = json.loads((Path(__file__).parent / "buildkit_ignore.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("context")
    write_tree(root)
    return root


@pytest.mark.parametrize("case", ANSWERS, ids=range(len(ANSWERS)))
def test_answers_of_buildkit(tree, case):
    try:
        excluded = sorted(
            set(IgnoreMatcher([]).walk(tree)) - set(IgnoreMatcher(read_patterns(case["text"])).walk(tree))
        )
    except IgnorePatternError:
        excluded = None
    assert excluded == case["excluded"], case["text"]


@pytest.mark.parametrize(
    "text, patterns",
    [
        ("", []),
        ("\ufeffa\n", ["a"]),
        ("# comment\n #pattern\n\n\t\nb  \r\n", ["#pattern", "b"]),
        ("/a/\n./b//c/.\n../d\n/\n.\na/..\n", ["a", "b/c", "../d", "/", ".", "."]),
        ("! /a/\n!\n!!b\n", ["!a", "!", "!!b"]),
        ("\u3000a\xa0\n", ["a"]),
    ],
)
def test_reading(text, patterns):
    assert read_patterns(text) == patterns


@pytest.mark.parametrize(
    "path, shortest",
    [("", "."), ("a//b/./c/..", "a/b"), ("/..", "/"), ("../../a", "../../a"), ("a/../..", ".."), ("/a/", "/a")],
)
def test_clean(path, shortest):
    assert clean(path) == shortest


@pytest.mark.parametrize("pattern", ["!", "[", "[]a]", "[a-]", "[-a]", "a\\", "*[", "?*[", "[^]a]"])
def test_refused_patterns(pattern):
    with pytest.raises(IgnorePatternError, match="ignore pattern"):
        IgnoreMatcher([pattern])


def test_excludes_agrees_with_the_walk(tree):
    matcher = IgnoreMatcher(["data", "!data/deep/*", "**/*.py", "!pkg"])
    kept = set(matcher.walk(tree))
    files = [path for path in IgnoreMatcher([]).walk(tree) if (tree / path).is_file()]
    assert {path for path in files if not matcher.excludes(path)} == {path for path in kept if (tree / path).is_file()}


def test_directories_come_with_what_is_in_them(tree):
    kept = list(IgnoreMatcher(["*", "!**/raw.csv"]).walk(tree))
    assert kept == ["data", "data/deep", "data/deep/er", "data/deep/er/raw.csv", "data/deep/raw.csv"]


def test_excluded_directories_are_not_read(tmp_path, monkeypatch):
    (tmp_path / "node_modules" / "x").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    read = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(Path(path).name) or scandir(path))
    assert list(IgnoreMatcher(["node_modules", "!data/a", "!node_module"]).walk(tmp_path)) == ["data"]
    assert read == [tmp_path.name, "data"]


def test_links_are_not_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert list(IgnoreMatcher(["x"]).walk(tmp_path)) == ["link"]

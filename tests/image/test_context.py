"""The digest of a build context changes with everything that a build sees, and with nothing else."""

from __future__ import annotations

import os

import pytest

from pytest_harbor.errors import ImageError
from pytest_harbor.image import BuildContext


@pytest.fixture
def tree(tmp_path):
    def make(name: str = "context"):
        root = tmp_path / name / "environment"
        (root / "data").mkdir(parents=True)
        (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        (root / "data" / "a.txt").write_text("a")
        (root / "run.sh").write_text("#!/bin/sh\n")
        (root / "run.sh").chmod(0o755)
        (root / "link").symlink_to("data/a.txt")
        return root

    return make


def digest(root, *arguments) -> str:
    return BuildContext(root, tuple(arguments)).digest


def test_two_checkouts_share_a_digest(tree):
    one, two = tree("one"), tree("two")
    os.utime(two / "run.sh", (1, 1))
    # As checked out with umask 002 instead of 022.
    (two / "data").chmod(0o775)
    (two / "data" / "a.txt").chmod(0o664)
    (two / "run.sh").chmod(0o775)
    assert digest(one) == digest(two)
    assert len(digest(one)) == 64


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "Dockerfile").write_text("FROM scratch\n"),
        lambda root: (root / "data" / "a.txt").write_text("b"),
        lambda root: (root / "data" / "a.txt").rename(root / "data" / "b.txt"),
        lambda root: (root / "data" / "b.txt").write_text(""),
        lambda root: (root / "run.sh").chmod(0o644),
        lambda root: (root / "data").chmod(0o700),
        lambda root: (root / "data").chmod(0o777),
        lambda root: [(root / "link").unlink(), (root / "link").symlink_to("run.sh")],
        lambda root: [(root / "link").unlink(), (root / "link").write_text("a")],
        lambda root: (root / "empty").mkdir(),
        lambda root: (root / ".hidden").write_text("x"),
        lambda root: (root / "gone").symlink_to("nowhere"),
    ],
)
def test_everything_a_build_sees_changes_the_digest(tree, change):
    root = tree()
    before = digest(root)
    change(root)
    assert digest(root) != before


def test_arguments_change_the_digest_but_not_their_order(tree):
    root = tree()
    assert len({digest(root), digest(root, ("A", "1")), digest(root, ("A", "2")), digest(root, ("B", "1"))}) == 4
    assert digest(root, ("A", "1"), ("B", "2")) == digest(root, ("B", "2"), ("A", "1"))


def test_names_and_contents_are_not_confused(tree):
    one, two = tree("one"), tree("two")
    (one / "x").write_text("yz")
    (two / "xy").write_text("z")
    assert digest(one) != digest(two)


def test_ignored_files_do_not_count(tree):
    root = tree()
    (root / ".dockerignore").write_text("# notes stay here\n\nnotes/\n**/*.md\n!keep.md\n  spaced.txt  \n")
    before = digest(root)
    (root / "notes").mkdir()
    (root / "notes" / "x").write_text("x")
    (root / "data" / "README.md").write_text("x")
    (root / "spaced.txt").write_text("x")
    assert digest(root) == before
    (root / "keep.md").write_text("x")
    assert digest(root) != before


def test_the_dockerfile_always_counts(tree):
    root = tree()
    (root / ".dockerignore").write_text("*\n")
    before = digest(root)
    assert list(BuildContext(root).files()) == []
    (root / ".dockerignore").write_text("*\n# comment\n")
    assert digest(root) == before
    (root / "Dockerfile").write_text("FROM debian\n")
    assert digest(root) != before


def test_the_dockerfiles_own_ignore_file_takes_precedence(tree):
    root = tree()
    (root / ".dockerignore").write_text("data\n")
    (root / "Dockerfile.dockerignore").write_text("run.sh\n")
    files = set(BuildContext(root).files())
    assert "data/a.txt" in files
    assert "run.sh" not in files


def test_byte_order_mark_in_the_ignore_file(tree):
    root = tree()
    (root / ".dockerignore").write_text("\ufeffdata\n", encoding="utf-8")
    assert "data/a.txt" not in set(BuildContext(root).files())


def test_unreadable_ignore_file_is_named(tree):
    root = tree()
    (root / ".dockerignore").write_bytes(b"\xff")
    with pytest.raises(ImageError, match=r"\.dockerignore cannot be read"):
        digest(root)


def test_pattern_that_buildkit_refuses(tree):
    root = tree()
    (root / ".dockerignore").write_text("data\n[a-\n")
    with pytest.raises(ImageError, match=r"ignore pattern '\[a-' has an invalid character class; correct it"):
        digest(root)


def test_a_vanished_file_is_an_image_error(tree, monkeypatch):
    root = tree()
    monkeypatch.setattr(BuildContext, "files", lambda self: iter(["Dockerfile", "vanished"]))
    with pytest.raises(ImageError, match="vanished"):
        digest(root)


def test_links_are_not_followed(tree, tmp_path):
    root = tree()
    (tmp_path / "outside").mkdir()
    (root / "out").symlink_to(tmp_path / "outside")
    before = digest(root)
    (tmp_path / "outside" / "new").write_text("x")
    assert digest(root) == before


def test_special_files_do_not_block(tree):
    root = tree()
    os.mkfifo(root / "fifo")
    assert digest(root)


def test_names_that_are_not_utf8_count(tree):
    root = tree()
    before = digest(root)
    (root / os.fsdecode(b"bad\xff")).write_text("x")
    assert digest(root) != before

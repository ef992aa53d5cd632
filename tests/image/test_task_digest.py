"""The digest by which results of a task are paired: equal as long as its trials are."""

from __future__ import annotations

import os
import shutil

import pytest

from pytest_harbor.hud.convert import convert
from pytest_harbor.image.task_digest import task_digest
from pytest_harbor.task import Dataset, Task, TaskError


def digest(path) -> str:
    return task_digest(Task.load(path))


@pytest.fixture
def tree(make_task):
    """Return a function that writes a task with an environment."""

    def tree(where: str = "tb2/one"):
        files = {"environment/Dockerfile": "FROM debian\nCMD x\n", "environment/data": "1", "README.md": "Read me.\n"}
        path = make_task(where, files={**files, "notes/README.md": "Notes.\n", "tests/deep/x": "x"}, solution="x")
        (path / "environment" / "link").symlink_to("data")
        return path

    return tree


def test_times_and_tool_files_do_not_matter(tree):
    one, two = tree("a/one"), tree("b/two")
    (two / "tests" / "__pycache__").mkdir()
    (two / "tests" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (two / ".git").mkdir()
    (two / ".git" / "HEAD").write_text("x")
    (two / ".DS_Store").write_text("x")
    (two / "empty").mkdir()
    os.utime(two / "task.toml", (1, 1))
    assert digest(one) == digest(two)
    assert len(digest(one)) == 64


@pytest.mark.parametrize(
    "change",
    [
        lambda task: (task / "solution" / "solve.sh").write_text("other"),
        lambda task: shutil.rmtree(task / "solution"),
        lambda task: (task / "README.md").write_text("other"),
        lambda task: (task / "README.md").unlink(),
        lambda task: (task / "readme_de.txt").write_text("x"),
        lambda task: [(task / "steps/a/solution").mkdir(parents=True), (task / "steps/a/solution/x").touch()],
        lambda task: [(task / "task.toml").rename(task.parent / "t"), (task / "task.toml").symlink_to("../t")],
        lambda task: [(task / "tests").rename(task.parent / "t"), (task / "tests").symlink_to("../t")],
    ],
    ids=[
        "solution",
        "no solution",
        "readme",
        "no readme",
        "new readme",
        "step's solution",
        "linked toml",
        "linked tests",
    ],
)
def test_what_no_trial_depends_on_does_not_matter(tree, change):
    path = tree()
    before = digest(path)
    change(path)
    assert digest(path) == before


def test_tests_that_are_not_uploaded_do_not_matter(tree):
    path = tree()
    (path / ".harborignore").write_text("*.log\ntests/big/\n")
    before = digest(path)
    (path / "tests" / "x.log").write_text("x")
    (path / "tests" / "big").mkdir()
    (path / "tests" / "big" / "x").write_text("x")
    assert digest(path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda task: (task / "environment" / "data").write_bytes(b"2"),
        lambda task: (task / "environment" / "Dockerfile").write_text("FROM debian\n"),
        lambda task: (task / "environment" / "Dockerfile").chmod(0o755),
        lambda task: (task / "environment" / "README.md").write_text(""),
        lambda task: (task / "notes" / "README.md").write_text("other"),
        lambda task: (task / "tests" / "test.sh").chmod(0o755),
        lambda task: (task / "tests" / "solution").write_text("x"),
        lambda task: (task / "environment" / "data").rename(task / "environment" / "other"),
        lambda task: (task / "new").write_text(""),
        lambda task: (task / "task.toml").write_text("[agent]\n"),
        lambda task: (task / "instruction.md").write_text("Say bye.\n"),
        lambda task: [(task / "environment/link").unlink(), (task / "environment/link").symlink_to("dat")],
        lambda task: [(task / "environment/link").unlink(), (task / "environment/link").write_text("data")],
    ],
    ids=[
        "content",
        "Dockerfile",
        "mode",
        "context",
        "notes",
        "test",
        "name-in-tests",
        "name",
        "file",
        "toml",
        "instruction",
        "target",
        "kind",
    ],
)
def test_depends_on(tree, change):
    path = tree()
    before = digest(path)
    change(path)
    assert digest(path) != before


def test_links_out_of_the_task_are_not_followed(tree, tmp_path):
    path, outside = tree(), tmp_path / "outside"
    outside.mkdir()
    (path / "link").symlink_to(outside)
    before = digest(path)
    (outside / "file").write_text("new")
    assert digest(path) == before


def test_unreadable_file_is_named(tree):
    path = tree()
    (path / ".harborignore").mkdir()
    with pytest.raises(TaskError, match=r"\.harborignore"):
        digest(path)


# A converted task has the digest of its source.


@pytest.fixture
def converted(tree, tmp_path):
    """The folder that a dataset of one task was converted to."""
    tree()
    convert(tmp_path / "tb2", tmp_path / "out")
    return Dataset(tmp_path / "out")["one"]


def test_converted_task(converted, tmp_path):
    assert converted.converted is not None
    assert task_digest(converted) == digest(tmp_path / "tb2" / "one")


@pytest.mark.parametrize(
    "files",
    [
        {"environment/Dockerfile": "FROM debian\nCOPY . /app\nENTRYPOINT x", "environment/.dockerignore": "*\n"},
        {"environment/Dockerfile": "FROM debian\n", "environment/Dockerfile.dockerignore": "x\n"},
        {"environment/data": "1"},
        {},
        {"tests/a.log": "x", "tests/b": "x", ".harborignore": "*.log\n"},
        {"environment/__pycache__/x": "x", "environment/deep/.git": "x", "solution/solve.sh": "x", "README": "x"},
    ],
    ids=["original context", "own ignore file", "no Dockerfile", "no environment", "harborignore", "ignored"],
)
def test_kinds_of_converted_tasks(make_task, tmp_path, files):
    source = make_task("tb2/one", '[environment]\ndocker_image = "debian"\n', files=files)
    convert(tmp_path / "tb2", tmp_path / "out")
    assert task_digest(Dataset(tmp_path / "out")["one"]) == digest(source)


def test_converted_task_with_links(make_task, tmp_path):
    source = make_task(
        "tb2/one", files={"shared/Dockerfile": "FROM debian\n", "texts/i.md": "Say.\n"}, instruction=None
    )
    (source / "instruction.md").symlink_to("texts/i.md")
    (source / "environment").mkdir()
    (source / "environment" / "Dockerfile").symlink_to("../shared/Dockerfile")
    (source / "tests" / "link").symlink_to("test.sh")
    convert(tmp_path / "tb2", tmp_path / "out")
    assert task_digest(Dataset(tmp_path / "out")["one"]) == digest(source)


@pytest.mark.parametrize("name", ["data", "Dockerfile.hud", "tasks/one/tests/test.sh"])
def test_change_after_the_conversion(converted, name):
    file = converted.environment_dir / name
    file.write_text(file.read_text().replace("CMD x", "CMD y") + "\n" if name == "Dockerfile.hud" else "2")
    assert digest(converted.path) != digest(converted.environment_dir.parents[1] / "tb2" / "one")


@pytest.mark.parametrize("name", ["env.py", "pyproject.toml"])
def test_generated_files_do_not_matter(converted, name):
    (converted.environment_dir / name).write_text("# by another version\n")
    assert digest(converted.path) == digest(converted.environment_dir.parents[1] / "tb2" / "one")

"""`pytest-harbor convert`: the files it writes, the tasks it rejects, and the files it never touches."""

from __future__ import annotations

import json
import os
import stat

import pytest

from pytest_harbor.cli import main
from pytest_harbor.hud.convert import write
from pytest_harbor.hud.names import base_name

DOCKERFILE = {"environment/Dockerfile": "FROM debian\nCMD x\n"}
ENVIRONMENT = "hud-harbor-tb2"


class Conversions:
    """Runs the command on the dataset `tb2`, with the output directory `out`."""

    def __init__(self, path, capsys) -> None:
        self.path = path
        self.out = path / "out"
        self._capsys = capsys
        self.stdout = self.stderr = ""

    def __call__(self, *options, source="tb2", output="out") -> int:
        status = main(["convert", str(self.path / source), "--output", str(self.path / output), *options])
        self.stdout, self.stderr = self._capsys.readouterr()
        return status

    @property
    def rows(self) -> list[dict]:
        return json.loads((self.out / "taskset.json").read_text(encoding="utf-8"))

    def tree(self) -> dict[str, tuple]:
        """Return all paths with their modes and contents or link targets."""
        return {
            path.relative_to(self.out).as_posix(): (
                path.lstat().st_mode,
                str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None,
            )
            for path in self.out.rglob("*")
        }

    def names(self) -> set[str]:
        return {name for name, (mode, _) in self.tree().items() if not stat.S_ISDIR(mode)}


@pytest.fixture
def convert(tmp_path, capsys):
    return Conversions(tmp_path, capsys)


def test_a_task_becomes_an_environment(make_task, convert):
    make_task(toml='[metadata]\ndifficulty = "easy"\n', solution="x", files={**DOCKERFILE, "environment/a/b": "c"})
    assert convert() == 0
    assert convert.names() == {
        ".pytest-harbor-convert.json",
        "taskset.json",
        f"{ENVIRONMENT}/Dockerfile.hud",
        f"{ENVIRONMENT}/a/b",
        f"{ENVIRONMENT}/env.py",
        f"{ENVIRONMENT}/pyproject.toml",
        f"{ENVIRONMENT}/tasks/hello/instruction.md",
        f"{ENVIRONMENT}/tasks/hello/task.toml",
        f"{ENVIRONMENT}/tasks/hello/tests/test.sh",
    }
    assert convert.rows == [
        {
            "env": {"name": ENVIRONMENT},
            "scenario": f"{ENVIRONMENT}:run-task",
            "args": {"task_id": "hello"},
            "metadata": {"harbor_source": "tb2/hello", "difficulty": "easy"},
        }
    ]
    assert "converted 1 task into 1 environment" in convert.stdout
    assert convert.stderr == ""


@pytest.mark.parametrize("source", ["tb2/hello", "tb2/hello/task.toml", "tb2", "."])
def test_kinds_of_source(make_task, convert, source, tmp_path):
    make_task()
    output = "out" if source != "." else f"../{tmp_path.name}-out"
    convert.out = tmp_path / output
    assert convert(source=source, output=output) == 0
    assert [row["metadata"]["harbor_source"] for row in convert.rows] == ["tb2/hello"]


@pytest.mark.parametrize(
    "dataset, name",
    [
        ("tb2", "tb2"),
        ("Terminal_Bench 2.0", "terminal-bench-20"),
        (" __x--y__ ", "x-y"),
        ("…", "converted"),
        ("a/tb2", "a-tb2"),
    ],
)
def test_environment_name(dataset, name):
    assert base_name(dataset) == f"hud-harbor-{name}"


def test_tasks_are_grouped_by_build_context_largest_group_first(make_task, convert):
    for name, content in {"a": "1", "b": "2", "c": "2", "d": "3"}.items():
        make_task(f"tb2/{name}", files={**DOCKERFILE, "environment/data": content})
    make_task("tb2/e")
    make_task("tb2/f")
    assert convert() == 0
    groups: dict[str, list[str]] = {}
    for row in convert.rows:
        groups.setdefault(row["env"]["name"], []).append(row["args"]["task_id"])
    assert groups == {
        f"{ENVIRONMENT}-g1": ["b", "c"],
        f"{ENVIRONMENT}-g2": ["e", "f"],
        f"{ENVIRONMENT}-g3": ["a"],
        f"{ENVIRONMENT}-g4": ["d"],
    }
    assert list(groups) == sorted(groups)


@pytest.mark.parametrize(
    "change",
    [
        lambda task: (task / "environment/run.sh").chmod(0o755),
        lambda task: [(task / "environment/link").unlink(), (task / "environment/link").symlink_to("Dockerfile")],
        lambda task: (task / "environment/empty").mkdir(),
    ],
)
def test_visible_differences_separate_tasks(make_task, convert, change):
    for name in ("a", "b"):
        task = make_task(f"tb2/{name}", files={**DOCKERFILE, "environment/run.sh": ""})
        (task / "environment/run.sh").chmod(0o644)
        (task / "environment/link").symlink_to("run.sh")
    change(task)
    assert convert() == 0
    assert len({row["env"]["name"] for row in convert.rows}) == 2


def test_docker_image_separates_tasks_without_a_dockerfile(make_task, convert):
    for name, image in {"a": "x:1", "b": "x:2", "c": "x:1"}.items():
        make_task(f"tb2/{name}", f'[environment]\ndocker_image = "{image}"\n')
    for name in ("d", "e"):
        make_task(f"tb2/{name}", f'[environment]\ndocker_image = "{name}"\n', files=DOCKERFILE)
    assert convert() == 0
    assert [row["args"]["task_id"] for row in convert.rows] == ["a", "c", "d", "e", "b"]
    bases = {}
    for environment in convert.out.glob("hud-*"):
        text = (environment / "Dockerfile.hud").read_text()
        bases[environment.name[-2:]] = [line for line in text.splitlines() if line.startswith("FROM ")][-1]
    assert bases == {"g1": "FROM x:1", "g2": "FROM debian", "g3": "FROM x:2"}


def test_a_task_without_an_image_gets_the_fallback_and_app(make_task, convert):
    make_task()
    assert convert() == 0
    text = (convert.out / ENVIRONMENT / "Dockerfile.hud").read_text()
    assert "\nFROM python:3.11-slim\n" in text
    assert "\nRUN apt-get" in text
    assert "\nWORKDIR /app\n" in text


def test_output_is_reproducible(make_task, convert, tmp_path):
    for parent in ("x", "y"):
        make_task(f"{parent}/tb2/a", files=DOCKERFILE)
        make_task(f"{parent}/tb2/b", files={"tests/data.bin": "\0\x01"})
    assert convert(source="x/tb2") == 0
    first = convert.tree()
    assert convert(source="x/tb2") == 0
    assert convert.tree() == first
    convert.out = tmp_path / "z"
    assert convert(source="y/tb2", output="z") == 0
    assert convert.tree() == first
    assert not any(str(tmp_path).encode() in content for _, content in first.values() if isinstance(content, bytes))


def test_files_are_copied_unchanged(make_task, convert):
    task = make_task(files={**DOCKERFILE, "environment/ü b": "x", "environment/d/run.sh": "a\r\nb\r\n"})
    (task / "environment/d/run.sh").chmod(0o755)
    (task / "environment/d").chmod(0o700)
    (task / "environment" / os.fsdecode(b"\xff.bin")).write_bytes(bytes(range(256)))
    (task / "environment/link").symlink_to("/nowhere")
    (task / "environment/empty").mkdir()
    (task / "tests/link").symlink_to("test.sh")
    (task / "tests/test.sh").chmod(0o750)
    assert convert() == 0
    tree = {path.removeprefix(f"{ENVIRONMENT}/"): entry for path, entry in convert.tree().items()}
    assert tree["d/run.sh"] == (stat.S_IFREG | 0o755, b"a\r\nb\r\n")
    assert stat.S_IMODE(tree["d"][0]) == 0o700
    assert tree[os.fsdecode(b"\xff.bin")][1] == bytes(range(256))
    assert tree["link"][1] == "/nowhere"
    assert tree["empty"][1] is None
    assert tree["ü b"][1] == b"x"
    assert tree["tasks/hello/tests/link"][1] == "test.sh"
    assert stat.S_IMODE(tree["tasks/hello/tests/test.sh"][0]) == 0o750
    # A second conversion can remove read-only directories.
    (task / "environment/d").chmod(0o500)
    assert convert() == 0
    assert convert() == 0


def test_only_uploaded_tests_are_copied(make_task, convert):
    make_task(files={".harborignore": "tests/drafts/\n", "tests/drafts/x": "x", "tests/keep": "x", "README.md": "x"})
    assert convert() == 0
    kept = {name.partition("tasks/hello/")[2] for name in convert.names() if "tasks/hello" in name}
    assert kept == {".harborignore", "README.md", "instruction.md", "task.toml", "tests/keep", "tests/test.sh"}


def test_leftovers_of_tools_are_not_copied(make_task, convert):
    make_task(files={"__pycache__/x.pyc": "x", ".git/config": "x", ".DS_Store": "x"})
    assert convert() == 0
    assert not [name for name in convert.names() if "pycache" in name or ".git" in name or "DS_Store" in name]


def test_a_linked_instruction_becomes_a_file(make_task, convert, tmp_path):
    task = make_task(instruction=None)
    (tmp_path / "shared.md").write_text("Do it.")
    (task / "instruction.md").symlink_to(tmp_path / "shared.md")
    assert convert() == 0
    copied = convert.out / ENVIRONMENT / "tasks/hello/instruction.md"
    assert not copied.is_symlink()
    assert copied.read_text() == "Do it."


def test_metadata_types(make_task, convert):
    make_task(
        toml="[metadata]\nday = 2024-02-29\nwhen = 2024-01-02T03:04:05Z\nx = nan\nmixed = [1, 'a', {b = 1.5}]\n"
        "harbor_source = 'elsewhere'\nname = 'ü'\n"
    )
    assert convert() == 0
    assert convert.rows[0]["metadata"] == {
        "harbor_source": "tb2/hello",
        "day": "2024-02-29",
        "when": "2024-01-02T03:04:05+00:00",
        "x": "nan",
        "mixed": [1, "a", {"b": 1.5}],
        "name": "ü",
    }


@pytest.mark.parametrize(
    "task, reason",
    [
        ({"toml": "x ="}, "task.toml: line 1"),
        ({"toml": "[[steps]]\nname = 'a'\n"}, "multi-step tasks are not supported yet"),
        ({"files": {"environment/docker-compose.yaml": ""}}, "docker-compose environments are not supported yet"),
        ({"toml": "[environment]\nos = 'windows'\n"}, "windows environments are not supported"),
        ({"instruction": None}, "instruction.md: the file is missing"),
        ({"test": None}, "tests/test.sh: the file is missing"),
        ({"toml": f"[metadata]\nx = 0x{'f' * 5000}\n"}, "[metadata] cannot be written as JSON"),
        ({"toml": "[environment]\ndocker_image = 'x\\ny'\n"}, "docker_image"),
        (
            {"files": {**DOCKERFILE, "environment/env.py": ""}},
            "environment/env.py: the conversion generates a file",
        ),
        ({"files": {**DOCKERFILE, "environment/tasks/x": ""}}, "environment/tasks: the conversion generates"),
        ({"files": {"environment/pyproject.toml": ""}}, "environment/pyproject.toml: the conversion generates"),
        ({"files": {"environment/Dockerfile": "RUN x\n"}}, "environment/Dockerfile: it has no FROM"),
        ({"files": {"environment/Dockerfile": "FROM a\nRUN <<E\n"}}, "environment/Dockerfile: line 2: heredoc E"),
        ({"files": {"environment/Dockerfile": "FROM a\nADD * /x/\n"}}, "environment/Dockerfile: line 2: this ADD"),
        (
            {"files": {"environment/Dockerfile": "FROM a AS harbor-layer\n"}},
            "environment/Dockerfile: line 1: the stage name harbor-layer",
        ),
        ({"files": {".harborignore": ""}}, ".harborignore"),
    ],
)
def test_rejected_tasks_are_listed(make_task, convert, task, reason):
    make_task("tb2/good")
    make_task("tb2/bad", **task)
    if "harborignore" in reason:
        (convert.path / "tb2/bad/.harborignore").write_bytes(b"\xff")
    assert convert() == 1
    assert f"not converted: tb2/bad: {reason}" in convert.stderr
    assert len(convert.stderr.splitlines()) == 1
    assert [row["args"]["task_id"] for row in convert.rows] == ["good"]
    assert convert("--skip-unsupported") == 0
    assert "not converted: tb2/bad" in convert.stderr


def test_special_files_are_named(make_task, convert):
    os.mkfifo(make_task(files=DOCKERFILE) / "environment/pipe")
    assert convert() == 1
    assert "environment/pipe: not a file, directory or link" in convert.stderr


def test_nothing_is_written_if_no_task_can_be_converted(make_task, convert):
    make_task(toml="x =")
    assert convert("--skip-unsupported") == 1
    assert "nothing was written" in convert.stderr
    assert not convert.out.exists()


def test_a_second_run_removes_stale_environments(make_task, convert):
    for name in ("a", "b"):
        make_task(f"tb2/{name}", files={**DOCKERFILE, "environment/x": name})
    assert convert() == 0
    assert len(list(convert.out.glob("hud-*"))) == 2
    (convert.path / "tb2/b/task.toml").unlink()
    assert convert() == 0
    assert [path.name for path in convert.out.glob("hud-*")] == [ENVIRONMENT]
    assert sorted(path.name for path in convert.path.iterdir()) == ["out", "tb2"]


def test_other_files_in_the_output_directory_stay(make_task, convert):
    make_task()
    assert convert() == 0
    (convert.out / "README.md").write_text("mine")
    (convert.out / "harbor-results").mkdir()
    assert convert() == 0
    assert (convert.out / "README.md").read_text() == "mine"
    assert (convert.out / "harbor-results").is_dir()


@pytest.mark.parametrize("where", ["notes.txt", "tasks/hello/notes.txt", "tasks/mine/task.toml"])
def test_foreign_files_in_an_environment_are_not_removed(make_task, convert, where):
    make_task()
    assert convert() == 0
    path = convert.out / ENVIRONMENT / where
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = convert.tree()
    assert convert() == 1
    assert f"{ENVIRONMENT}/{where}; move them away, or choose another directory" in convert.stderr
    assert convert.tree() == before


def test_a_directory_that_is_not_a_conversion_is_not_touched(make_task, convert):
    make_task()
    convert.out.mkdir()
    assert convert() == 0, "an empty directory is fine"
    other = convert.path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    assert convert(output="other") == 1
    assert "is not empty, and not written by this command; choose another directory" in convert.stderr
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    assert convert(output="other/thesis.txt") == 1
    assert "is not a directory" in convert.stderr


def test_an_existing_directory_with_an_environments_name_is_not_touched(make_task, convert):
    make_task("tb2/a", files={**DOCKERFILE, "environment/x": "1"})
    assert convert() == 0
    (convert.out / f"{ENVIRONMENT}-g1").mkdir()
    make_task("tb2/b")
    before = convert.tree()
    assert convert() == 1
    assert f"{ENVIRONMENT}-g1 exists, and no conversion wrote it; move it away" in convert.stderr
    assert convert.tree() == before


def test_an_interrupted_run_keeps_the_old_conversion(make_task, convert, monkeypatch):
    make_task("tb2/a", files=DOCKERFILE)
    assert convert() == 0
    before = convert.tree()
    make_task("tb2/b")
    rename, renamed = write.Path.rename, []

    def interrupted(self, target):
        if len(renamed) == 3:
            monkeypatch.undo()
            raise KeyboardInterrupt
        renamed.append(rename(self, target))

    monkeypatch.setattr(write.Path, "rename", interrupted)
    assert convert() == 130
    assert convert.tree() == before
    assert sorted(path.name for path in convert.path.iterdir()) == ["out", "tb2"]


@pytest.mark.parametrize("source, output", [("tb2", "tb2/out"), ("tb2", "tb2"), ("tb2", "."), ("tb2/hello", "tb2")])
def test_source_and_output_must_not_overlap(make_task, convert, source, output):
    make_task()
    assert convert(source=source, output=output) == 1
    assert "overlap; choose an output directory outside the source" in convert.stderr


def test_a_converted_dataset_is_rejected(make_task, convert):
    make_task()
    assert convert() == 0
    assert convert(source="out", output="again") == 1
    assert "is already converted" in convert.stderr


def test_datasets_with_the_same_environment_name(make_task, convert):
    make_task("all/a_b/x")
    make_task("all/a-b/x")
    assert convert(source="all") == 1
    assert f"would both become {base_name('a-b')}; convert them separately" in convert.stderr


def test_missing_source(convert):
    assert convert() == 1
    assert "does not exist" in convert.stderr


@pytest.mark.parametrize(
    "name, patterns, needed",
    [
        (".dockerignore", "*.log\n", False),
        (".dockerignore", "*\n!data\n", True),
        (".dockerignore", "**/*.md", True),
        ("Dockerfile.dockerignore", "*.log\n", True),
    ],
)
def test_ignore_files_never_exclude_generated_files(make_task, convert, name, patterns, needed):
    make_task(files={**DOCKERFILE, f"environment/{name}": patterns})
    assert convert() == 0
    environment = convert.out / ENVIRONMENT
    assert (environment / name).read_text() == patterns
    own = environment / "Dockerfile.hud.dockerignore"
    assert own.exists() is needed
    if needed:
        text = own.read_text()
        assert text.startswith(patterns)
        assert text.endswith("\n!env.py\n!pyproject.toml\n!tasks\n!tasks/**\n")

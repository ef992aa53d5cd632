"""Our tree is that of hud-python 0.5.41 itself, but for the differences that docs/hud.md lists, each of them asserted.

hud_convert.json is what was recorded of the original's outcome: names, rows, hashes and the few lines that matter here,
for machines where it cannot be installed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_harbor.cli import main
from pytest_harbor.image import BuildContext
from pytest_harbor.image.restore import BEGIN, END, ConvertedContext, restore
from pytest_harbor.task import Dataset

RECORD = Path(__file__).parent / "hud_convert.json"
ORIGINAL_MARK = "# [harbor original] "
PYTHON = """\
FROM python:3.12-slim
WORKDIR /app
COPY data/words.txt tool.sh ./
ENTRYPOINT ["/app/tool.sh"]
CMD ["serve"]
"""
DEBIAN = """\
FROM debian:bookworm-slim AS build
RUN echo built > /built
FROM debian:bookworm-slim
COPY --from=build /built /
"""
METADATA = (
    '[metadata]\ndifficulty = "easy"\ntags = ["a", "ü"]\nminutes = 2.5\nexpert = true\n[metadata.author]\nid = 7\n'
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_task_files) -> Path:
    """Two tasks with one Dockerfile, one with another, one without."""
    top = tmp_path_factory.mktemp("golden") / "Golden_Set 1.0"
    shared = {
        "environment/Dockerfile": PYTHON,
        "environment/data/words.txt": "one\ntwo\n",
        "environment/tool.sh": '#!/bin/sh\nexec "$@"\n',
    }
    write_task_files(top / "first", METADATA, files={"environment/Dockerfile": DEBIAN}, solution="x")
    write_task_files(top / "second", METADATA, files=shared, solution="x")
    write_task_files(top / "third", "[verifier]\ntimeout_sec = 30\n", files={**shared, "notes/README.md": "Read me.\n"})
    write_task_files(top / "fourth", files={"tests/data.bin": "\0\x01\n", "tests/deep/x": "x"})
    for path in top.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.name == "tool.sh" else 0o644)
    return top


def facts(folder: Path) -> dict:
    """What is compared of a converted folder."""
    found: dict = {"files": {}, "rows": json.loads((folder / "taskset.json").read_text(encoding="utf-8"))}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            data = path.read_bytes()
            found["files"][name] = [oct(path.stat().st_mode & 0o777), hashlib.sha256(data).hexdigest()]
            if path.name in ("Dockerfile.hud", "env.py", "pyproject.toml"):
                # The mode alone: what is in them is compared below.
                found["files"][name][1] = ""
    for path in sorted(folder.glob("*/Dockerfile.hud")):
        environment = found.setdefault("environments", {}).setdefault(path.parent.name, {})
        text = path.read_text(encoding="utf-8")
        environment["original"] = original(text)
        environment["command"] = json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[-1])
        code = (path.parent / "env.py").read_text(encoding="utf-8")
        environment["tasks"], environment["default"] = scenario(code)
        project = (path.parent / "pyproject.toml").read_text(encoding="utf-8")
        environment["name"] = re.findall(r'^name = "(.*)"$', project, re.MULTILINE)[0]
    return found


def original(text: str) -> list[str]:
    """The lines of a Dockerfile.hud that are the task's, and those that are comments now."""
    before = text.partition("# HUD MCP server layer\n")[0].rpartition("# ====")[0]
    before = re.sub(rf"{BEGIN}\n.*?{END}\n", "", before, flags=re.DOTALL)
    return [line for line in before.splitlines() if not line.startswith("# Source: ")]


def scenario(code: str) -> tuple[list[str], str]:
    """The tasks that the scenario of an env.py takes, and its default."""
    tree = ast.parse(code)
    (function,) = (node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name == "run_task")
    assert [ast.unparse(node) for node in function.decorator_list] == ["env.scenario('run-task')"]
    assert [argument.arg for argument in function.args.args] == ["task_id"]
    if function.args.defaults:
        return [], ast.literal_eval(function.args.defaults[0])
    assert ast.unparse(function.args.args[0].annotation) == "TaskId"
    literal = next(
        node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TaskId"
    )
    return sorted(ast.literal_eval(literal.value.slice)), ""


def digest(task: Path) -> str:
    """What names the image of a task's build context."""
    return BuildContext(task / "environment").digest


@pytest.fixture(scope="module")
def ours(dataset) -> Path:
    folder = dataset.parent / "ours"
    assert main(["convert", str(dataset), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def theirs() -> dict:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def hud_convert(python: Path, source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Run the original."""
    command = [str(python.with_name("hud")), "convert", str(source), "--output", str(output)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(output.parent), "HUD_TELEMETRY_ENABLED": "false"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment, umask=0o022
    )


@pytest.mark.slow
def test_the_record_is_what_hud_python_makes_of_the_dataset(hud_python, dataset, theirs):
    folder = dataset.parent / "theirs"
    done = hud_convert(hud_python, dataset, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert facts(folder) == theirs
    # It runs as a dataset too, with the very images of its source.
    for task in Dataset(folder):
        source = dataset / task.name
        assert task.id == f"{dataset.name}/{task.name}"
        if (source / "environment").is_dir():
            assert ConvertedContext(task.environment_dir, name="Dockerfile.hud").digest == digest(source)
        else:
            assert task.dockerfile is None


def test_names_grouping_order_and_rows_are_the_same(ours, theirs):
    assert facts(ours)["rows"] == theirs["rows"]
    # Not only as values: the file is the same.
    assert (ours / "taskset.json").read_text(encoding="utf-8") == json.dumps(
        theirs["rows"], ensure_ascii=False, indent=2
    ) + "\n"


def test_every_file_is_the_same_but_for_one_of_our_own(ours, theirs):
    files = facts(ours)["files"]
    assert files.pop(".pytest-harbor-convert.json")
    assert files == theirs["files"]


def test_a_dockerfile_is_kept_with_the_same_comments(ours, theirs):
    found = facts(ours)["environments"]
    assert found.keys() == theirs["environments"].keys()
    for name, environment in theirs["environments"].items():
        if "# Harbor environment base" in environment["original"]:
            assert found[name]["original"] == environment["original"]
    comments = [line for line in found["hud-harbor-golden-set-10-g1"]["original"] if line.startswith(ORIGINAL_MARK)]
    assert len(comments) == 2


def test_the_fallback_starts_from_the_same_image_with_the_same_tools(ours, theirs):
    """Ours is also where such a task runs: in /app."""
    own, other = (each["environments"]["hud-harbor-golden-set-10-g3"]["original"] for each in (facts(ours), theirs))
    assert own[0] == other[0] == "FROM python:3.11-slim"
    tools = {"build-essential", "curl", "git"}
    assert tools <= set(" ".join(own).split())
    assert tools <= set(" ".join(other).split())
    assert own[-1] == "WORKDIR /app"
    assert "WORKDIR" not in " ".join(other)


def test_the_scenario_takes_the_same_tasks(ours, theirs):
    for name, environment in facts(ours)["environments"].items():
        other = theirs["environments"][name]
        assert (environment["tasks"], environment["default"], environment["name"]) == (
            other["tasks"],
            other["default"],
            other["name"],
        )


def test_what_the_layer_does_differently(ours, theirs):
    """Its Python is its own, and neither WORKDIR nor ENTRYPOINT is lost."""
    for name, environment in facts(ours)["environments"].items():
        text = (ours / name / "Dockerfile.hud").read_text(encoding="utf-8")
        layer = text.partition("# HUD MCP server layer")[2]
        assert environment["command"] == ["/hud/.venv/bin/python", "-I", "/hud/env.py"]
        assert theirs["environments"][name]["command"][:2] == ["uv", "run"]
        assert "WORKDIR" not in layer
        assert "curl" not in layer
        assert "\nCOPY tasks/ /harbor/tasks/\n" in layer


def test_what_is_installed_is_pinned(ours):
    for path in ours.glob("*/pyproject.toml"):
        text = path.read_text(encoding="utf-8")
        assert 'requires-python = ">=3.11,<3.13"' in text
        assert '"hud-python==0.5.41"' in text


def test_no_path_of_the_machine_is_written(ours):
    for path in ours.rglob("*"):
        assert not path.is_file() or b"golden" not in path.read_bytes().replace(b"golden-set", b"")


def test_the_original_comes_back(ours, dataset):
    for task in Dataset(ours):
        if task.dockerfile is not None:
            converted = ConvertedContext(task.environment_dir, name="Dockerfile.hud")
            assert converted.digest == digest(dataset / task.name)
    texts = [restore((ours / f"hud-harbor-golden-set-10-g{n}" / "Dockerfile.hud").read_text()) for n in (1, 2)]
    assert texts == [PYTHON, DEBIAN]


# What `hud convert` does and we do not: asserted of both.


@pytest.fixture(scope="module")
def odd(tmp_path_factory, write_task_files) -> Path:
    """A dataset of one task on which the two differ."""
    top = tmp_path_factory.mktemp("odd") / "odd"
    task = write_task_files(
        top / "a",
        files={
            "environment/Dockerfile": "FROM debian\nHEALTHCHECK \\\n  CMD true\nCMD\tx\n",
            "environment/crlf.sh": "",
            "environment/env.py": "",
            "tests/drafts/x": "x",
            ".harborignore": "tests/drafts/\n",
        },
    )
    (task / "environment/crlf.sh").write_bytes(b"echo 1\r\n")
    (task / "environment/link").symlink_to("crlf.sh")
    (task / "__pycache__").mkdir()
    (task / "__pycache__/x.pyc").write_bytes(b"x")
    return top


@pytest.mark.slow
def test_the_documented_differences_are_there(hud_python, odd, tmp_path, capsys):
    assert hud_convert(hud_python, odd, tmp_path / "theirs").returncode == 0
    theirs = tmp_path / "theirs/hud-harbor-odd"

    # A file of the context takes the place of a generated one; ours refuses.
    assert (theirs / "env.py").read_text() == ""
    assert main(["convert", str(odd), "--output", str(tmp_path / "ours")]) == 1
    assert "environment/env.py: a conversion writes a file of this name" in capsys.readouterr().err
    (odd / "a/environment/env.py").unlink()
    assert main(["convert", str(odd), "--output", str(tmp_path / "ours")]) == 0
    ours = tmp_path / "ours/hud-harbor-odd"

    # CMD after a tab is missed, that of a HEALTHCHECK is taken.
    assert original((theirs / "Dockerfile.hud").read_text())[-2:] == [f"{ORIGINAL_MARK}  CMD true", "CMD\tx"]
    assert original((ours / "Dockerfile.hud").read_text())[-2:] == ["  CMD true", f"{ORIGINAL_MARK}CMD\tx"]

    # Line ends are changed, links are followed; ours keeps both, as the image of a trial has them.
    assert (theirs / "crlf.sh").read_bytes() == b"echo 1\n"
    assert (ours / "crlf.sh").read_bytes() == b"echo 1\r\n"
    assert not (theirs / "link").is_symlink()
    assert (ours / "link").is_symlink()

    # What a trial would not upload, and what tools leave.
    assert (theirs / "tasks/a/tests/drafts/x").exists()
    assert not (ours / "tasks/a/tests/drafts").exists()
    assert (theirs / "tasks/a/__pycache__").exists()
    assert not (ours / "tasks/a/__pycache__").exists()

    # The machine's own paths.
    assert str(odd) in (theirs / "Dockerfile.hud").read_text()
    assert str(odd) not in (ours / "Dockerfile.hud").read_text()

    # A task by itself has lost its dataset.
    assert hud_convert(hud_python, odd / "a", tmp_path / "single").returncode == 0
    row = json.loads((tmp_path / "single/taskset.json").read_text())[0]
    assert row["metadata"]["harbor_source"] == "a"
    assert row["env"]["name"] == "hud-harbor-odd"


@pytest.mark.slow
def test_the_differences_between_tasks_are_there(hud_python, write_task_files, tmp_path, capsys):
    top = tmp_path / "mixed"
    dockerfile = {"environment/Dockerfile": "FROM debian\nCOPY . /app\n", "environment/run.sh": ""}
    for name, mode in {"a": 0o644, "b": 0o755}.items():
        task = write_task_files(top / name, "[metadata]\nharbor_source = 'mine'\n", files=dockerfile)
        (task / "environment/run.sh").chmod(mode)
    write_task_files(top / "broken", "x =", files={"environment/Dockerfile": "FROM broken\n"})
    write_task_files(top / "image", '[environment]\ndocker_image = "named:1"\n')
    write_task_files(top / "steps", "[[steps]]\nname = 'one'\n", instruction=None)

    def both() -> list[dict[str, dict]]:
        assert hud_convert(hud_python, top, tmp_path / "theirs").returncode == 0
        assert main(["convert", str(top), "--output", str(tmp_path / "ours")]) == 1
        folders = tmp_path / "theirs", tmp_path / "ours"
        listed = [json.loads((folder / "taskset.json").read_text(encoding="utf-8")) for folder in folders]
        return [{row["args"]["task_id"]: row for row in rows} for rows in listed]

    theirs, ours = both()
    said = capsys.readouterr().err

    # Modes count, as images show them.
    assert theirs["a"]["env"] == theirs["b"]["env"]
    assert ours["a"]["env"] != ours["b"]["env"]

    # What is broken is converted without its settings, what has steps is left out: here both are listed.
    assert sorted(theirs) == ["a", "b", "broken", "image"]
    assert sorted(ours) == ["a", "b", "image"]
    assert "not converted: mixed/broken: task.toml: line 1" in said
    assert "not converted: mixed/steps: multi-step" in said

    # Where a task comes from is not for [metadata] to say.
    assert theirs["a"]["metadata"]["harbor_source"] == "mine"
    assert ours["a"]["metadata"]["harbor_source"] == "mixed/a"

    def text(folder: str, row: dict, file: str) -> str:
        return (tmp_path / folder / row["env"]["name"] / file).read_text(encoding="utf-8")

    # The image that a task names.
    assert "FROM python:3.11-slim" in text("theirs", theirs["image"], "Dockerfile.hud")
    assert "\nFROM named:1\n" in text("ours", ours["image"], "Dockerfile.hud")

    # The tests would be in what COPY takes.
    assert "\nCOPY . /app\n" in text("theirs", theirs["a"], "Dockerfile.hud")
    assert "\nCOPY . /app\n" not in text("ours", ours["a"], "Dockerfile.hud")

    # Pins.
    assert 'dependencies = ["hud-python", "openai"]' in text("theirs", theirs["a"], "pyproject.toml")
    assert '"hud-python==0.5.41"' in text("ours", ours["a"], "pyproject.toml")

    # Deadlines are each task's own, read from its task.toml.
    assert "timeout=600" in text("theirs", theirs["a"], "env.py")
    assert "timeout=600" not in text("ours", ours["a"], "env.py")

    # What a second run leaves of the first.
    for name in ("b", "broken", "image"):
        shutil.rmtree(top / name)
    both()
    assert len(list((tmp_path / "theirs").glob("hud-*"))) > 1
    assert [path.name for path in (tmp_path / "ours").glob("hud-*")] == ["hud-harbor-mixed"]


@pytest.mark.slow
def test_dates_end_the_original(hud_python, make_task, tmp_path, capsys):
    task = make_task("dated/a", "[metadata]\nday = 2024-02-29\n")
    assert hud_convert(hud_python, task.parent, tmp_path / "theirs").returncode == 1
    assert main(["convert", str(task.parent), "--output", str(tmp_path / "ours")]) == 0
    capsys.readouterr()

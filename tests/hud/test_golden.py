"""Our output equals that of hud-python 0.5.41, except for the differences listed in docs/hud.md; each is asserted.

hud_convert.json records hud-python's output (names, rows, hashes and the relevant lines), for machines where it cannot
be installed.
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
from pytest_harbor.image.task_digest import task_digest
from pytest_harbor.task import Dataset, Task

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
    """A dataset with two tasks that share a Dockerfile, one with another Dockerfile, and one without."""
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
    """Return the facts about a converted directory that are compared."""
    found: dict = {"files": {}, "rows": json.loads((folder / "taskset.json").read_text(encoding="utf-8"))}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            data = path.read_bytes()
            found["files"][name] = [oct(path.stat().st_mode & 0o777), hashlib.sha256(data).hexdigest()]
            if path.name in ("Dockerfile.hud", "env.py", "pyproject.toml"):
                # Only the mode: the contents are compared below.
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
    """Return the lines of a Dockerfile.hud that are from the task, including those that are comments now."""
    before = text.partition("# HUD MCP server layer\n")[0].rpartition("# ====")[0]
    before = re.sub(rf"{BEGIN}\n.*?{END}\n", "", before, flags=re.DOTALL)
    return [line for line in before.splitlines() if not line.startswith("# Source: ")]


def scenario(code: str) -> tuple[list[str], str]:
    """Return the tasks that env.py's scenario accepts, and the default task."""
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
    """Return the digest of a task's build context."""
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
    """Run `hud convert`."""
    command = [str(python.with_name("hud")), "convert", str(source), "--output", str(output)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(output.parent), "HUD_TELEMETRY_ENABLED": "false"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment, umask=0o022
    )


@pytest.mark.slow
def test_the_record_is_hud_pythons_output(hud_python, dataset, theirs):
    folder = dataset.parent / "theirs"
    done = hud_convert(hud_python, dataset, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert facts(folder) == theirs
    # Its output is a dataset too, with the same images as the source.
    for task in Dataset(folder):
        source = dataset / task.name
        assert task.id == f"{dataset.name}/{task.name}"
        if (source / "environment").is_dir():
            assert ConvertedContext(task.environment_dir, name="Dockerfile.hud").digest == digest(source)
        else:
            assert task.dockerfile is None
        assert task_digest(task) == task_digest(Task.load(source)), "a gate pairs both"


def test_the_taskset_is_identical(ours, theirs):
    assert facts(ours)["rows"] == theirs["rows"]
    # Not only the values: the text of the file is identical.
    assert (ours / "taskset.json").read_text(encoding="utf-8") == json.dumps(
        theirs["rows"], ensure_ascii=False, indent=2
    ) + "\n"


def test_files_are_identical_except_for_our_manifest(ours, theirs):
    files = facts(ours)["files"]
    assert files.pop(".pytest-harbor-convert.json")
    assert files == theirs["files"]


def test_dockerfiles_have_the_same_comments(ours, theirs):
    found = facts(ours)["environments"]
    assert found.keys() == theirs["environments"].keys()
    for name, environment in theirs["environments"].items():
        if "# Harbor environment base" in environment["original"]:
            assert found[name]["original"] == environment["original"]
    comments = [line for line in found["hud-harbor-golden-set-10-g1"]["original"] if line.startswith(ORIGINAL_MARK)]
    assert len(comments) == 2


def test_the_fallback_has_the_same_image_and_tools(ours, theirs):
    """Our fallback also sets the working directory of such a task, /app."""
    own, other = (each["environments"]["hud-harbor-golden-set-10-g3"]["original"] for each in (facts(ours), theirs))
    assert own[0] == other[0] == "FROM python:3.11-slim"
    tools = {"build-essential", "curl", "git"}
    assert tools <= set(" ".join(own).split())
    assert tools <= set(" ".join(other).split())
    assert own[-1] == "WORKDIR /app"
    assert "WORKDIR" not in " ".join(other)


def test_the_scenario_accepts_the_same_tasks(ours, theirs):
    for name, environment in facts(ours)["environments"].items():
        other = theirs["environments"][name]
        assert (environment["tasks"], environment["default"], environment["name"]) == (
            other["tasks"],
            other["default"],
            other["name"],
        )


def test_differences_of_the_layer(ours, theirs):
    """Our layer has its own Python, and keeps WORKDIR and ENTRYPOINT."""
    for name, environment in facts(ours)["environments"].items():
        text = (ours / name / "Dockerfile.hud").read_text(encoding="utf-8")
        layer = text.partition("# HUD MCP server layer")[2]
        assert environment["command"] == ["/hud/.venv/bin/python", "-I", "/hud/env.py"]
        assert theirs["environments"][name]["command"][:2] == ["uv", "run"]
        assert "WORKDIR" not in layer
        assert "curl" not in layer
        assert "\nCOPY tasks/ /harbor/tasks/\n" in layer


def test_requirements_are_pinned(ours):
    for path in ours.glob("*/pyproject.toml"):
        text = path.read_text(encoding="utf-8")
        assert 'requires-python = ">=3.11,<3.13"' in text
        assert '"hud-python==0.5.41"' in text


def test_no_host_paths_in_the_output(ours):
    for path in ours.rglob("*"):
        assert not path.is_file() or b"golden" not in path.read_bytes().replace(b"golden-set", b"")


def test_originals_are_restored(ours, dataset):
    for task in Dataset(ours):
        if task.dockerfile is not None:
            converted = ConvertedContext(task.environment_dir, name="Dockerfile.hud")
            assert converted.digest == digest(dataset / task.name)
    texts = [restore((ours / f"hud-harbor-golden-set-10-g{n}" / "Dockerfile.hud").read_text()) for n in (1, 2)]
    assert texts == [PYTHON, DEBIAN]


# The differences from `hud convert`; each test asserts both behaviors.


@pytest.fixture(scope="module")
def odd(tmp_path_factory, write_task_files) -> Path:
    """A dataset of one task that the two convert differently."""
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
def test_differences_in_files(hud_python, odd, tmp_path, capsys):
    assert hud_convert(hud_python, odd, tmp_path / "theirs").returncode == 0
    theirs = tmp_path / "theirs/hud-harbor-odd"

    # A file in the build context replaces a generated one; we reject the task.
    assert (theirs / "env.py").read_text() == ""
    assert main(["convert", str(odd), "--output", str(tmp_path / "ours")]) == 1
    assert "environment/env.py: the conversion generates a file with this name" in capsys.readouterr().err
    (odd / "a/environment/env.py").unlink()
    assert main(["convert", str(odd), "--output", str(tmp_path / "ours")]) == 0
    ours = tmp_path / "ours/hud-harbor-odd"

    # A CMD followed by a tab is missed, and the CMD of a HEALTHCHECK is commented out.
    assert original((theirs / "Dockerfile.hud").read_text())[-2:] == [f"{ORIGINAL_MARK}  CMD true", "CMD\tx"]
    assert original((ours / "Dockerfile.hud").read_text())[-2:] == ["  CMD true", f"{ORIGINAL_MARK}CMD\tx"]

    # Line ends are changed and links are followed; we keep both, as a trial's image has them.
    assert (theirs / "crlf.sh").read_bytes() == b"echo 1\n"
    assert (ours / "crlf.sh").read_bytes() == b"echo 1\r\n"
    assert not (theirs / "link").is_symlink()
    assert (ours / "link").is_symlink()

    # Files that a trial would not upload, and leftovers of tools, are copied.
    assert (theirs / "tasks/a/tests/drafts/x").exists()
    assert not (ours / "tasks/a/tests/drafts").exists()
    assert (theirs / "tasks/a/__pycache__").exists()
    assert not (ours / "tasks/a/__pycache__").exists()

    # Host paths are written.
    assert str(odd) in (theirs / "Dockerfile.hud").read_text()
    assert str(odd) not in (ours / "Dockerfile.hud").read_text()

    # A task converted on its own loses its dataset's name.
    assert hud_convert(hud_python, odd / "a", tmp_path / "single").returncode == 0
    row = json.loads((tmp_path / "single/taskset.json").read_text())[0]
    assert row["metadata"]["harbor_source"] == "a"
    assert row["env"]["name"] == "hud-harbor-odd"


@pytest.mark.slow
def test_differences_between_tasks(hud_python, write_task_files, tmp_path, capsys):
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
        tasksets = [json.loads((folder / "taskset.json").read_text(encoding="utf-8")) for folder in folders]
        return [{row["args"]["task_id"]: row for row in rows} for rows in tasksets]

    theirs, ours = both()
    stderr = capsys.readouterr().err

    # Modes are ignored; we compare them, as they are visible in images.
    assert theirs["a"]["env"] == theirs["b"]["env"]
    assert ours["a"]["env"] != ours["b"]["env"]

    # Invalid tasks are converted without their settings, multi-step tasks are skipped silently; we list both.
    assert sorted(theirs) == ["a", "b", "broken", "image"]
    assert sorted(ours) == ["a", "b", "image"]
    assert "not converted: mixed/broken: task.toml: line 1" in stderr
    assert "not converted: mixed/steps: multi-step" in stderr

    # [metadata] can override the task's source.
    assert theirs["a"]["metadata"]["harbor_source"] == "mine"
    assert ours["a"]["metadata"]["harbor_source"] == "mixed/a"

    def text(folder: str, row: dict, file: str) -> str:
        return (tmp_path / folder / row["env"]["name"] / file).read_text(encoding="utf-8")

    # docker_image is ignored.
    assert "FROM python:3.11-slim" in text("theirs", theirs["image"], "Dockerfile.hud")
    assert "\nFROM named:1\n" in text("ours", ours["image"], "Dockerfile.hud")

    # COPY . would copy the tests.
    assert "\nCOPY . /app\n" in text("theirs", theirs["a"], "Dockerfile.hud")
    assert "\nCOPY . /app\n" not in text("ours", ours["a"], "Dockerfile.hud")

    # Requirements are not pinned.
    assert 'dependencies = ["hud-python", "openai"]' in text("theirs", theirs["a"], "pyproject.toml")
    assert '"hud-python==0.5.41"' in text("ours", ours["a"], "pyproject.toml")

    # One deadline for all tasks; we read each task's own from its task.toml.
    assert "timeout=600" in text("theirs", theirs["a"], "env.py")
    assert "timeout=600" not in text("ours", ours["a"], "env.py")

    # A second run leaves stale environments.
    for name in ("b", "broken", "image"):
        shutil.rmtree(top / name)
    both()
    assert len(list((tmp_path / "theirs").glob("hud-*"))) > 1
    assert [path.name for path in (tmp_path / "ours").glob("hud-*")] == ["hud-harbor-mixed"]


@pytest.mark.slow
def test_dates_in_metadata_make_hud_convert_fail(hud_python, make_task, tmp_path, capsys):
    task = make_task("dated/a", "[metadata]\nday = 2024-02-29\n")
    assert hud_convert(hud_python, task.parent, tmp_path / "theirs").returncode == 1
    assert main(["convert", str(task.parent), "--output", str(tmp_path / "ours")]) == 0
    capsys.readouterr()

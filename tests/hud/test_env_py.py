"""The text of env.py is valid, readable and reproducible, whatever the tasks' names."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.image.env_py import MODULES, env_py, literal

PACKAGE = Path(__file__).parents[2] / "pytest_harbor"
HOSTILE = ["plain", "it's", 'a "quoted" one', "back\\slash", "two\nlines", '"""', "übung-😀", "\u2028\x00", "{brace}"]


def assigned(text: str, name: str) -> Any:
    [node] = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
    ]
    return node.value


def test_task_names_are_preserved() -> None:
    text = env_py("an env", HOSTILE)
    assert ast.literal_eval(assigned(text, "TASK_NAMES")) == tuple(HOSTILE)
    kind = assigned(text, "TaskId")
    assert isinstance(kind, ast.Subscript)
    assert list(ast.literal_eval(kind.slice)) == HOSTILE
    assert env_py("an env", HOSTILE) == text


@given(st.text(st.characters()))
def test_literal_is_one_printable_line(text: str) -> None:
    written = literal(text)
    assert ast.literal_eval(written) == text
    assert written.isprintable()


@pytest.mark.parametrize("tasks", [[], ["one"], HOSTILE], ids=["none", "one", "many"])
def test_standalone_and_formatted(tmp_path: Path, tasks: list[str]) -> None:
    text = env_py("an env", tasks)
    tree = ast.parse(text)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [node for node in imported if (node.module or "").startswith("pytest_harbor")]
    defined = Counter(node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    assert max(defined.values()) == 1
    ruff = shutil.which("ruff")
    if not ruff:
        pytest.skip("needs ruff")
    path = tmp_path / "env.py"
    path.write_text(text, encoding="utf-8")
    shared = ["--isolated", "--line-length", "120", "--target-version", "py312", str(path)]
    for command in (["check", "--select", "E,F,W,I,B,UP"], ["format", "--diff"]):
        done = subprocess.run([ruff, *command, *shared], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_modules_source_is_unchanged() -> None:
    text = env_py("an env", ["one"])
    for module in MODULES:
        source = (PACKAGE / module).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                assert ast.get_source_segment(source, node) in text


def test_scenario_parameter() -> None:
    assert 'task_id: str = "one"' in env_py("an env", ["one"])
    assert "task_id: TaskId" in env_py("an env", ["one", "two"])
    assert "scenario" not in env_py("an env", []).partition("# ---")[0]

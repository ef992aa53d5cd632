"""The `lean` and `hud` layers: the hud Dockerfile on its own and inlined into a converted environment's."""

from __future__ import annotations

import io
import re
import tarfile

import pytest

from pytest_harbor.image.dockerfile import Dockerfile
from pytest_harbor.image.layers import hud_layer_context, layer_stage, lean_layer, lean_layer_digest, pyproject
from pytest_harbor.task.document import tomllib


def test_lean_directories_are_writable_by_every_user() -> None:
    with tarfile.open(fileobj=io.BytesIO(lean_layer())) as archive:
        found = {entry.name: (entry.isdir(), oct(entry.mode), entry.uid, entry.mtime) for entry in archive}
    assert found == {
        "logs": (True, "0o755", 0, 0),
        "logs/agent": (True, "0o777", 0, 0),
        "logs/artifacts": (True, "0o777", 0, 0),
        "logs/verifier": (True, "0o777", 0, 0),
    }
    lean_layer.cache_clear()
    digest = lean_layer_digest()
    lean_layer.cache_clear()
    assert lean_layer_digest() == digest


@pytest.mark.parametrize("escape", ["\\", "`"])
def test_layer_stages_within_another_dockerfile(escape: str) -> None:
    inlined = Dockerfile.parse(f"# escape={escape}\n{layer_stage('hud-base', escape)}FROM debian\n")
    alone = Dockerfile.read(hud_layer_context().dockerfile)
    assert [stage.name for stage in inlined.stages] == ["hud-base-pins", "hud-base-build", "hud-base", ""]
    assert inlined.stages[2].base == "scratch"
    for ours, theirs in zip(alone.stages, inlined.stages, strict=False):
        there = [(piece.keyword, piece.arguments.replace("hud-base-", "layer-")) for piece in theirs.instructions]
        assert there == [(piece.keyword, piece.arguments) for piece in ours.instructions][: len(there)]
    copied = [piece for stage in inlined.stages for piece in stage.instructions if piece.keyword in ("COPY", "ADD")]
    assert [piece.operands for piece in copied if not piece.flags] == ["pyproject.toml /pins/"]
    assert not any(piece.heredocs or dict(piece.flags).keys() - {"from"} for piece in inlined.instructions)


def test_pinned_requirements_of_an_environment() -> None:
    document = tomllib.loads(pyproject('hud-harbor-"x"\\1'))
    assert document["project"]["name"] == 'hud-harbor-"x"\\1'
    assert document["project"]["requires-python"] == ">=3.11,<3.13"
    pins = [*document["project"]["dependencies"], *document["tool"]["uv"]["constraint-dependencies"]]
    assert "hud-python==0.5.41" in pins
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin)] == []


def test_the_layer_names_no_package_index() -> None:
    context = hud_layer_context()
    for name in context.files():
        text = (context.path / name).read_text(encoding="utf-8")
        assert not re.search(r"https?:|index|\bpypi\b", text), name

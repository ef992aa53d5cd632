"""Ignore files: generated patterns, and what BuildKit makes of them."""

from __future__ import annotations

import random
from pathlib import Path

import docker
import pytest
from buildkit import context_seen_by_buildkit
from ignore_cases import ignore_file, write_tree

from pytest_harbor.environment.docker.build import has_buildx
from pytest_harbor.image import BuildContext
from pytest_harbor.image.ignore import IgnorePatternError

if not has_buildx():
    pytest.skip("docker buildx is missing", allow_module_level=True)


def seen_by_us(root: Path) -> list[str] | None:
    try:
        return sorted(BuildContext(root).files())
    except IgnorePatternError:
        return None


@pytest.mark.usefixtures("engine")
def test_generated_patterns(tmp_path: Path) -> None:
    write_tree(tmp_path)
    seed = random.randrange(10**9)
    generator = random.Random(seed)
    for _ in range(12):
        text = ignore_file(generator)
        (tmp_path / ".dockerignore").write_bytes(text.encode())
        seen = context_seen_by_buildkit(tmp_path)
        assert seen_by_us(tmp_path) == seen, f"seed {seed}: {text!r}"


@pytest.mark.usefixtures("engine")
def test_the_dockerfiles_own_ignore_file(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / ".dockerignore").write_text("*\n")
    (tmp_path / "Dockerfile.dockerignore").write_text("**\n!/Data\n!**/*.PY\n!src/a/?\n")
    seen = context_seen_by_buildkit(tmp_path)
    assert seen == seen_by_us(tmp_path) == ["Data", "Data/Raw.csv", "src", "src/a", "src/a/a", "src/a/a/a.c"]


def test_the_legacy_builder(tmp_path: Path, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_harbor.environment.docker import DockerProvider, build

    monkeypatch.setattr(build, "has_buildx", lambda _: False)
    write_tree(tmp_path)
    (tmp_path / ".dockerignore").write_text("**\n!/Data\n!**/app.*\n")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    provider, ref = DockerProvider(), f"pytest-harbor:ignore-{random.randrange(10**9)}"
    try:
        provider.build_image(BuildContext(tmp_path), ref, log=tmp_path / "log" / "build.log", timeout=120)
        layers = engine.images.get(ref).attrs["RootFS"]["Layers"]
        container = engine.api.create_container(ref, ["none"])["Id"]
        try:
            stream, _ = engine.api.get_archive(container, "/pkg/mod")
            content = b"".join(stream)
        finally:
            engine.api.remove_container(container)
        assert len(layers) == 1
        assert b"app.py" in content
        assert b"deep" not in content
    finally:
        engine.api.remove_image(ref)
        provider.close()

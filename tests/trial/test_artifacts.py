"""Artifacts of a task, copied from an environment that is a directory here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_harbor.environment.tar.unpack import Extraction
from pytest_harbor.task import Task
from pytest_harbor.trial.artifacts import collect_artifacts


class Directory:
    """An environment whose files lie below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exec(self, command, **_):
        return SimpleNamespace(exit_code=0 if (self.root / command[-1].lstrip("/")).is_dir() else 1)

    def download(self, source, target):
        shutil.copytree(self.root / source.lstrip("/"), target)
        return Extraction()

    def read_file(self, source, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / source.lstrip("/"), target)


@pytest.fixture
def collect(tmp_path, make_task):
    def collect(artifacts: str, *files: str):
        for name in files:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        task = Task.load(make_task(toml=f"artifacts = {artifacts}\n"))
        problems = collect_artifacts(task, Directory(tmp_path / "root"), tmp_path / "artifacts")
        return problems, json.loads((tmp_path / "artifacts" / "manifest.json").read_text())

    return collect


def test_a_file_a_directory_and_what_is_not_there(collect, tmp_path):
    problems, manifest = collect('["/app/one.txt", "/data", "/nosuch"]', "app/one.txt", "data/deep/two.txt")
    assert (tmp_path / "artifacts/one.txt").read_text() == "app/one.txt"
    assert (tmp_path / "artifacts/data/deep/two.txt").read_text() == "data/deep/two.txt"
    assert [entry["status"] for entry in manifest] == ["ok", "ok", "failed"]
    assert len(problems) == 1
    assert problems[0].startswith("artifact /nosuch: ")


def test_what_is_excluded_is_not_kept(collect, tmp_path):
    artifact = '[{ source = "/data", destination = "kept", exclude = ["*.bin", "cache/"] }]'
    problems, manifest = collect(artifact, "data/a.txt", "data/b.bin", "data/cache/c.txt", "data/deep/d.bin")
    assert problems == []
    files = [path for path in (tmp_path / "artifacts/kept").rglob("*") if path.is_file()]
    assert files == [tmp_path / "artifacts/kept/a.txt"]
    assert manifest[0]["skipped"] == [
        "b.bin: excluded by the task",
        "cache: excluded by the task",
        "deep/d.bin: excluded by the task",
    ]


def test_no_destination_leads_out_of_the_directory(collect, tmp_path):
    collect('[{ source = "/data/a.txt", destination = "../../out.txt" }]', "data/a.txt")
    assert (tmp_path / "artifacts/out.txt").exists()
    assert not (tmp_path / "out.txt").exists()

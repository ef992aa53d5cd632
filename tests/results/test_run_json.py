"""run.json."""

from __future__ import annotations

import json

import pytest

from pytest_harbor.results import RunRecord

RECORD = RunRecord("r", ("tb2/a", "tb2/b"), ("tb2/a",), (), "1/2", {"attempts": 3}, "0.1.0")


def test_round_trip(tmp_path):
    RECORD.write(tmp_path / "run")
    assert RunRecord.read(tmp_path / "run") == RECORD
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_names_that_are_not_utf8(tmp_path):
    record = RunRecord("r", ("tb2/\udcff",))
    record.write(tmp_path)
    assert RunRecord.read(tmp_path) == record


def test_unknown_keys_are_ignored(tmp_path):
    RECORD.write(tmp_path)
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "of_the_future": 1}))
    assert RunRecord.read(tmp_path) == RECORD


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"schema_version": 2}',
        b'{"schema_version": true}',
        b'{"schema_version": 1, "selection": "tb2/a"}',
        b'{"schema_version": 1, "selection": [1]}',
        b'{"schema_version": 1, "shard": 1}',
        b'{"schema_version": 1, "options": []}',
        b"[" * 100_000,
    ],
)
def test_invalid_content(tmp_path, data):
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"run\.json: "):
        RunRecord.read(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        RunRecord.read(tmp_path)

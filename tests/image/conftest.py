"""Fixtures for the tests of the store."""

import pytest
from fake_backend import FakeBackend

from pytest_harbor.task import Task


@pytest.fixture
def backend(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return FakeBackend(tmp_path / "engine")


@pytest.fixture
def task(make_task):
    def make(toml: str = "", dockerfile: bool = True, name: str = "a") -> Task:
        files = {"environment/Dockerfile": "FROM scratch\n"} if dockerfile else {}
        return Task.load(make_task(f"tb2/{name}", toml, files=files))

    return make

"""Fixtures for tests with a real Docker Engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from harbor_runs import Harbor, Unique
from registries import PROGRAM, Registry

from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.image import ImageStore


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """Yield a client of the engine; without an engine, skip the tests, or fail them if it is required."""
    client = None
    try:
        client = docker.from_env()
        client.ping()
    except Exception as error:
        if client is not None:
            client.close()
        if os.environ.get("HARBOR_REQUIRE_ENGINE") == "1":
            pytest.fail(f"HARBOR_REQUIRE_ENGINE=1, but no Docker Engine responds: {error}")
        pytest.skip(f"no Docker Engine responds: {error}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def hud_layer(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the image with the layer that --harbor-adapt=hud adds, built once for all workers and runs."""
    provider = DockerProvider()
    try:
        return ImageStore(provider, tmp_path_factory.mktemp("layer"), adapt="hud").ensure_layer()
    finally:
        provider.close()


@pytest.fixture
def harbor(pytester: pytest.Pytester, engine: docker.DockerClient) -> Iterator[Harbor]:
    """Yield the tasks and runs of one test; fail if a run leaves a container."""
    harbor = Harbor(pytester, engine)
    yield harbor
    harbor.kill_processes()
    left = harbor.containers()
    for name in left:
        engine.api.remove_container(name, force=True, v=True)
    assert left == [], "containers were left behind"


@pytest.fixture
def unique(harbor: Harbor) -> Iterator[Unique]:
    """Yield a function that writes the files of a new, unique image; remove its images afterward."""
    unique = Unique(harbor.client)
    yield unique
    unique.remove_images()


@pytest.fixture(scope="session")
def registry(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Yield a registry without authentication."""
    registry = _start(tmp_path_factory.mktemp("registry") / "open")
    yield registry
    registry.close()


@pytest.fixture
def guarded(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Registry]:
    """Yield a registry with one user."""
    registry = _start(tmp_path / "guarded", users=True)
    yield registry
    registry.close()


def _start(directory: Path, *, users: bool = False) -> Registry:
    if PROGRAM is None:
        if os.environ.get("HARBOR_REQUIRE_ENGINE") == "1":
            pytest.fail("HARBOR_REQUIRE_ENGINE=1, but docker-registry is not installed")
        pytest.skip("docker-registry is not installed (apt install docker-registry)")
    return Registry(directory, users=users)

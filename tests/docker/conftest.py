"""Tests on a real Docker Engine."""

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
    """A client of the engine; without one, tests are skipped, or fail where one is required."""
    client = None
    try:
        client = docker.from_env()
        client.ping()
    except Exception as error:
        if client is not None:
            client.close()
        if os.environ.get("HARBOR_REQUIRE_ENGINE") == "1":
            pytest.fail(f"HARBOR_REQUIRE_ENGINE=1 and no Docker Engine answers: {error}")
        pytest.skip(f"no Docker Engine answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def hud_layer(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of the layer that --harbor-adapt=hud adds, built once for all workers and runs."""
    provider = DockerProvider()
    try:
        return ImageStore(provider, tmp_path_factory.mktemp("layer"), adapt="hud").ensure_layer()
    finally:
        provider.close()


@pytest.fixture
def harbor(pytester: pytest.Pytester, engine: docker.DockerClient) -> Iterator[Harbor]:
    """Tasks and runs of one test; no run may leave a container."""
    made = Harbor(pytester, engine)
    yield made
    made.kill_processes()
    left = made.containers()
    for name in left:
        engine.api.remove_container(name, force=True, v=True)
    assert left == [], "containers were left behind"


@pytest.fixture
def unique(harbor: Harbor) -> Iterator[Unique]:
    """Makes the files of an image that nobody has built before; what was built of it is removed."""
    made = Unique(harbor.client)
    yield made
    made.remove_images()


@pytest.fixture(scope="session")
def registry(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that anybody may use."""
    made = _start(tmp_path_factory.mktemp("registry") / "open")
    yield made
    made.close()


@pytest.fixture
def guarded(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Registry]:
    """A registry with one user."""
    made = _start(tmp_path / "guarded", users=True)
    yield made
    made.close()


def _start(directory: Path, *, users: bool = False) -> Registry:
    if PROGRAM is None:
        if os.environ.get("HARBOR_REQUIRE_ENGINE") == "1":
            pytest.fail("HARBOR_REQUIRE_ENGINE=1 and there is no registry to run: install docker-registry")
        pytest.skip("there is no registry to run: install docker-registry (Debian, Ubuntu)")
    return Registry(directory, users=users)

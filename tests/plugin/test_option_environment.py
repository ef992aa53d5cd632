"""--harbor-environment: the provider, and how the header shows it."""

import contextlib

import pytest

from pytest_harbor.environment.factory import create_provider
from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.errors import EngineUnavailable, ImageError, UnmetRequirement

HELLO = "echo hello >/app/hello\n"
GRADE = "#!/bin/sh\ntest -e /app/hello && echo 1 >/logs/verifier/reward.txt || echo 0 >/logs/verifier/reward.txt\n"


@pytest.fixture
def namespace(tmp_path, monkeypatch):
    """Skip unless namespaces work; there is no engine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        with contextlib.closing(NamespaceProvider()) as provider:
            provider.describe()
    except EngineUnavailable as error:
        pytest.skip(str(error))


def write_tasks(project):
    for name in ("a", "b"):
        project.task(f"tb2/{name}", test=GRADE, solution=HELLO)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_auto_falls_back_to_namespace(project, monkeypatch, workers):
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setenv("DOCKER_CONFIG", str(project.path))
    project.file(
        "conftest.py",
        """from pytest_harbor.environment.docker import address
address.DEFAULT_ADDRESS = "unix:///nonexistent.sock"
""",
    )
    write_tasks(project)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=oracle", *workers, subprocess=True)
    assert outcome.counts == {"passed": 2}, str(outcome)
    outcome.has(
        "harbor: environment namespace (", ", because no Docker Engine answers at unix:///nonexistent.sock: no such"
    )
    assert {result["provider"] for result in project.results()} == {"namespace"}


@pytest.mark.usefixtures("namespace")
def test_nop_gets_reward_zero(project):
    write_tasks(project)
    project.ini("harbor_environment = namespace")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", subprocess=True)
    assert outcome.counts == {"failed": 2}, str(outcome)
    outcome.lacks("because no Docker Engine answers")
    outcome.has("stands in for")


def test_invalid_value(project):
    outcome = project.run("--harbor-environment=podman")
    assert outcome.ret == 4
    outcome.has("--harbor-environment: 'podman' is not valid; use auto, docker or namespace")


def test_another_system(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(EngineUnavailable, match="need Linux, and this is darwin; use Docker"):
        NamespaceProvider().describe()
    assert create_provider("auto")[0].name == "docker"


@pytest.mark.usefixtures("namespace")
def test_engine_only_features(tmp_path):
    from pytest_harbor.environment import Resources, StartRequest
    from pytest_harbor.image import Image

    with contextlib.closing(NamespaceProvider()) as provider:
        image = Image("x", "present", provider.find_image("x"))
        with pytest.raises(UnmetRequirement, match="GPUs"):
            provider.start(image, StartRequest("n", "t/t", "r", resources=Resources(gpus=1)))
        with pytest.raises(ImageError, match="cannot be pulled"):
            provider.pull_image("x", log=tmp_path / "log", timeout=1)


def test_provider_of_the_hook(project):
    project.rewards(hello=1.0)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-environment=docker")
    assert outcome.ret == 0
    outcome.has("harbor: environment fake\n", "tb2/hello  nop")
    assert [result["provider"] for result in project.results()] == ["fake"]

"""Both providers, behind the same protocol; each is skipped, with the reason, where it cannot work."""

import contextlib
import secrets

import pytest

from pytest_harbor.environment import StartRequest
from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.errors import EngineUnavailable
from pytest_harbor.image import BuildContext, Image

# What the machine with the engine is expected to have, so that nothing is downloaded by tests.
BASE = "python:3.12-slim"


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory):
    """A cache directory for this test process alone."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(directory))
        yield directory


@pytest.fixture(scope="session")
def namespace(own_cache):
    """The provider namespace."""
    with contextlib.closing(NamespaceProvider()) as provider:
        yield available(provider)


@pytest.fixture(scope="session")
def docker():
    """The provider docker."""
    with contextlib.closing(DockerProvider()) as provider:
        yield available(provider)


@pytest.fixture(
    scope="session", params=[pytest.param("docker", marks=[pytest.mark.engine, pytest.mark.slow]), "namespace"]
)
def provider(request):
    """Each provider in turn."""
    if request.param == "namespace":
        return request.getfixturevalue("namespace")
    return request.getfixturevalue("docker")


def available(provider):
    try:
        provider.describe()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    return provider


@pytest.fixture
def many_users(provider):
    """Skip where the kernel gives an ordinary user no more than one."""
    if "ordinary" in provider.describe():
        pytest.skip("all users are one to an ordinary user's environments")


@pytest.fixture(scope="session")
def build(provider, tmp_path_factory):
    """Build the image of a Dockerfile and files beside it."""

    def build(dockerfile, **files):
        directory = tmp_path_factory.mktemp("context")
        (directory / "Dockerfile").write_text(dockerfile.replace("BASE", BASE))
        for name, content in files.items():
            path = directory / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        context = BuildContext(directory)
        ref = f"pytest-harbor:test-{context.digest[:20]}"
        provider.build_image(context, ref, log=tmp_path_factory.mktemp("log") / "log.txt", timeout=120)
        return Image(ref, "built", provider.find_image(ref))

    return build


@pytest.fixture(scope="session")
def plain_image(build):
    """An image with a user of its own and a working directory."""
    return build(
        "FROM BASE\nRUN useradd --create-home --uid 1234 worker\nENV COLOR=blue\nWORKDIR /app\nRUN chmod 777 /app\n"
    )


@pytest.fixture
def start(provider):
    """Start environments that are gone after the test."""
    started = []

    def start(image, **request):
        name = f"harbor-test-{secrets.token_hex(5)}"
        environment = provider.start(image, StartRequest(name=name, task="tests/task", run="run", **request))
        started.append(environment)
        return environment

    yield start
    for environment in started:
        environment.stop()


@pytest.fixture
def environment(start, plain_image):
    """A running environment."""
    return start(plain_image, variables={"SHAPE": "round"})

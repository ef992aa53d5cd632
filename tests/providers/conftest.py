"""Both providers behind the same protocol; each is skipped, with a reason, if it is unavailable."""

import contextlib
import secrets

import pytest

from pytest_harbor.environment import StartRequest
from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.errors import EngineUnavailable
from pytest_harbor.image import BuildContext, Image

# Expected on the machine with the engine, so that tests download nothing.
BASE = "python:3.12-slim"


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory):
    """Yield a cache directory that no other process uses."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(directory))
        yield directory


@pytest.fixture(scope="session")
def namespace(own_cache):
    """Yield the namespace provider."""
    with contextlib.closing(NamespaceProvider()) as provider:
        yield available(provider)


@pytest.fixture(scope="session")
def docker():
    """Yield the Docker provider."""
    with contextlib.closing(DockerProvider()) as provider:
        yield available(provider)


@pytest.fixture(
    scope="session", params=[pytest.param("docker", marks=[pytest.mark.engine, pytest.mark.slow]), "namespace"]
)
def provider(request):
    """Return each provider in turn."""
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
    """Skip if the kernel maps only one user."""
    if "ordinary" in provider.describe():
        pytest.skip("environments of an unprivileged user have only one user")


@pytest.fixture(scope="session")
def build(provider, tmp_path_factory):
    """Return a function that builds an image from a Dockerfile and the files next to it."""

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
    """Return an image with its own user and working directory."""
    return build(
        "FROM BASE\nRUN useradd --create-home --uid 1234 worker\nENV COLOR=blue\nWORKDIR /app\nRUN chmod 777 /app\n"
    )


@pytest.fixture
def start(provider):
    """Yield a function that starts environments; they are stopped after the test."""
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
    """Return a running environment for this test only."""
    return start(plain_image, variables={"SHAPE": "round"})


@pytest.fixture(scope="module")
def shared_environment(provider, plain_image):
    """Yield a running environment for all tests of a module that leave nothing behind in it."""
    request = StartRequest(
        name=f"harbor-test-{secrets.token_hex(5)}", task="tests/task", run="run", variables={"SHAPE": "round"}
    )
    environment = provider.start(plain_image, request)
    yield environment
    environment.stop()

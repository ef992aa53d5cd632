"""Images of Python without a container engine: packages can be installed, whatever the host's own Python allows."""

import platform
import re
import sys
import zipfile

import pytest

from pytest_harbor.environment import StartRequest
from pytest_harbor.environment.namespace.host_root import HostRoot
from pytest_harbor.environment.namespace.stand_in import Interpreter, _is_managed, wanted_python
from pytest_harbor.image import BuildContext, Image

# A package of our own, so that no index is needed.
INSTALL = "pip install --no-index --no-deps /wheels/tiny_package-1.0-py3-none-any.whl"


def write_wheel(directory):
    info = "tiny_package-1.0.dist-info"
    with zipfile.ZipFile(directory / "tiny_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_package.py", "def main():\n    print('tiny output')\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntiny-program = tiny_package:main\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def start(namespace, tmp_path):
    """Build a Dockerfile and start an environment; return it with the image's notes."""
    started = []

    def start(dockerfile):
        (tmp_path / "Dockerfile").write_text(dockerfile)
        write_wheel(tmp_path)
        context = BuildContext(tmp_path)
        ref = f"pytest-harbor:python-{context.digest[:20]}"
        namespace.build_image(context, ref, log=tmp_path / "log" / "log.txt", timeout=300)
        image = Image(ref, "built", namespace.find_image(ref))
        started.append(namespace.start(image, StartRequest(f"python-{len(started)}", "t/t", "r")))
        return started[-1], image.details.notes

    yield start
    for environment in started:
        environment.stop()


def output(environment, command, **options):
    result = environment.exec(command, **options)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_packages_are_installed_for_every_stage(start):
    environment, _ = start(f"FROM python:3.13-slim\nCOPY *.whl /wheels/\nRUN {INSTALL}\nENV PATH=/opt/bin:$PATH\n")
    assert output(environment, "tiny-program") == "tiny output"
    assert output(environment, "python -m tiny_package && python3 -c 'import tiny_package'") == ""
    assert output(environment, "/usr/local/bin/python -c 'import sys; print(sys.prefix)'") == "/usr/local"
    assert output(environment, "command -v pip pip3 python python3").split() == [
        f"/usr/local/bin/{name}" for name in ("pip", "pip3", "python", "python3")
    ]
    assert output(environment, "tiny-program", user="nobody") == "tiny output"
    assert (
        output(environment, "pip uninstall -y tiny-package >/dev/null && pip list --format=freeze | grep -c tiny || :")
        == "0"
    )


def test_packages_of_the_host_are_not_there(start):
    environment, _ = start("FROM python:3\n")
    path = output(environment, "python -c 'import sys; print(sys.path)'")
    assert "dist-packages" not in path


def test_packages_of_another_user(start, many_users_of_namespace):
    environment, _ = start(
        "FROM python:3\nCOPY *.whl /wheels/\nRUN chmod 644 /wheels/* && useradd -m -u 1234 app\nUSER app\n"
        f"RUN {INSTALL}\nENV PATH=/home/app/.local/bin:$PATH\n"
    )
    assert output(environment, "tiny-program") == "tiny output"
    assert output(environment, "python -c 'import tiny_package as it; print(it.__file__)'").startswith(
        "/home/app/.local/"
    )


@pytest.fixture
def many_users_of_namespace(namespace):
    if "ordinary" in namespace.describe():
        pytest.skip("environments of an unprivileged user have only one user")


def test_the_version_is_named(start):
    _, notes = start("FROM python:2.1-slim\n")
    assert re.search(
        r"python:2\.1-slim: .* with a virtual environment of its Python 3\.\d+\.\d+, as it has no 2\.1$", notes[0]
    )


@pytest.mark.parametrize(
    "ref, managed",
    [
        ("ubuntu:22.04", False),
        ("ubuntu:20.04", False),
        ("ubuntu:jammy-20240101", False),
        ("docker.io/library/debian:11-slim", False),
        ("debian:bullseye-slim", False),
        ("node:20-bullseye", False),
        ("ubuntu:24.04", True),
        ("ubuntu", True),
        ("debian:12", True),
        ("debian:bookworm", True),
        ("alpine:3.20", True),
        ("node:20", True),
    ],
)
def test_distributions_before_pep_668(ref, managed):
    assert _is_managed(ref) is managed


def test_older_distribution_can_be_installed_into(start):
    environment, _ = start("FROM ubuntu:22.04\n")
    assert output(environment, "ls /usr/lib/python3*/EXTERNALLY-MANAGED 2>/dev/null | wc -l") == "0"
    assert output(environment, "ls /usr/local/bin/pip /usr/local/pyvenv.cfg 2>/dev/null | wc -l") == "0"


def test_image_without_a_dockerfile(namespace):
    details = namespace.find_image("python:3-alpine")
    assert namespace.find_image("python:3-alpine") == details
    image = Image("python:3-alpine", "present", details)
    environment = namespace.start(image, StartRequest("python-bare", "t/t", "r"))
    try:
        assert output(environment, "pip --version").startswith("pip ")
        assert output(environment, "echo $PYTHON_VERSION") == details.variables["PYTHON_VERSION"]
    finally:
        environment.stop()


@pytest.mark.parametrize(
    "ref, version",
    [
        ("python", ""),
        ("python:latest", ""),
        ("python:slim-bookworm", ""),
        ("python:3", "3"),
        ("python:3.13", "3.13"),
        ("python:3.13-slim", "3.13"),
        ("python:3.12.4-bookworm", "3.12"),
        ("python:3.14rc1", "3.14"),
        ("docker.io/library/python:3.9-alpine@sha256:ab", "3.9"),
        ("registry:5000/mirror/python:3.11", "3.11"),
        ("python@sha256:abcd", ""),
        ("ghcr.io/astral-sh/uv:python3.12-bookworm-slim", "3.12"),
        ("ghcr.io/astral-sh/uv:0.5-python3.12", None),
        ("debian:bookworm", None),
        ("my-python:3.12", None),
        ("ubuntu", None),
    ],
)
def test_wanted_python(ref, version):
    assert wanted_python(ref) == version


def test_the_version_that_the_host_has(tmp_path):
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "python3.99").symlink_to(sys.executable)
    host = HostRoot((str(tmp_path).lstrip("/"),), (), (), False)
    found = Interpreter.find(host, "3.99")
    assert found is not None
    assert found.version == platform.python_version()
    other = Interpreter.find(host, "3.98")
    assert other is None or "3.99" not in str(other.path)

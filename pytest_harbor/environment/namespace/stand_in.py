"""What stands in for images that were not built here: the host's own system.

For images of Python it has a virtual environment at /usr/local, where these images have their Python: an operating
system's own Python often refuses to be installed into (PEP 668), and it shares its packages with the system. For
distributions from before PEP 668, that refusal is taken away.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_harbor._util.logs import BoundedOutput
from pytest_harbor._util.text import one_line
from pytest_harbor._util.unpatched import call
from pytest_harbor.environment import shell_scripts
from pytest_harbor.environment.namespace.host_root import HostRoot
from pytest_harbor.environment.namespace.layers import LayerStack
from pytest_harbor.environment.namespace.sandbox import Sandbox
from pytest_harbor.environment.tar.pack import Upload, pack
from pytest_harbor.errors import ImageError

# Part of the layer's key. Increase it when the content changes.
_VERSION = "python-1"
_WHEELS = "/tmp/pytest-harbor-pip"

# The last releases whose Python can be installed into.
_LAST_UNMANAGED = {"ubuntu": 22, "debian": 11}
_UNMANAGED_CODENAMES = ("bionic", "focal", "jammy", "stretch", "buster", "bullseye")

# Packages of users are allowed, as in the images, but not those of the operating system. Neither `true` nor `false` as
# a setting says that; pip takes any other value for "not isolated", and Python for "without system packages".
_CREATE = f"""
set -e
umask 022
cd /usr/local/bin
rm -rf python python3 pip pip3 ../lib/python3*/site-packages ../lib/python3*/dist-packages
"$1" -m venv --without-pip /usr/local
if ! ./python3 -m ensurepip --default-pip; then
  for wheel in {_WHEELS}/pip-*.whl; do
    [ -e "$wheel" ] && ./python3 "$wheel/pip" install --no-index "$wheel"
  done
fi
rm -rf {_WHEELS}
sed -i 's/^include-system-site-packages *=.*/include-system-site-packages = no/' ../pyvenv.cfg
cd "$(./python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
echo 'import harbor_user_site' >harbor-user-site.pth
cat >harbor_user_site.py <<'END'
import site
import sys

_customize = site.execsitecustomize


def _with_user_site():
    site.ENABLE_USER_SITE = site.check_enableusersite()
    site.addusersitepackages(None)
    _customize()


site.execsitecustomize = _with_user_site
END
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python of this host that environments can see.

    Attributes:
        path: its path.
        version: its full version.

    """

    path: Path
    version: str

    @classmethod
    def find(cls, host: HostRoot, wanted: str) -> Interpreter | None:
        """Return the Python of a version, such as 3.12, if the host has it; else the host's default Python.

        Args:
            host: what environments see of the host.
            wanted: the version; empty for any.

        """
        directories = [Path("/usr/local/bin"), Path("/usr/bin"), *(Path("/", name, "bin") for name in host.visible)]
        names = ([f"python{wanted}"] if wanted else []) + ["python3"]
        for path in (directory / name for name in names for directory in directories):
            with contextlib.suppress(OSError):
                code, output = call([str(path), "-I", "-S", "-c", "import platform; print(platform.python_version())"])
                if code == 0:
                    return cls(path.resolve(), output.decode("utf-8", "replace").strip())
        return None


def wanted_python(ref: str) -> str | None:
    """Return the version of Python that an image's name promises, such as 3.12, or ""; None for any other image."""
    name, _, tag = ref.partition("@")[0].rpartition("/")[2].partition(":")
    if name == "python":
        match = re.match(r"\d+(?:\.\d+)?", tag)
        return match[0] if match else ""
    # For example ghcr.io/astral-sh/uv:python3.12-bookworm-slim
    match = re.match(r"python(\d+(?:\.\d+)?)(?![\d.])", tag)
    return match[1] if match else None


@dataclass(frozen=True)
class StandIn:
    """What stands in for an image that was not built here.

    Attributes:
        stack: this host's system, with a virtual environment for an image of Python.
        variables: the environment variables that the image sets.
        note: what it is, for the reader of a result.

    """

    stack: LayerStack
    variables: dict[str, str]
    note: str

    @classmethod
    def create(cls, stack: LayerStack, ref: str, take: Callable[[bytes], object]) -> StandIn:
        """Create what stands in for an image.

        Args:
            stack: the host's system.
            ref: the image's name.
            take: receives the output.

        Raises:
            ImageError: the virtual environment cannot be created.

        """
        note = f"{ref}: this host's own system ({stack.host.description}) stands in for the image"
        # Dockerfiles add to it: ENV PATH=/opt/bin:$PATH.
        variables = {"PATH": shell_scripts.SYSTEM_PATH}
        wanted = wanted_python(ref)
        if wanted is None:
            if not _is_managed(ref):
                stack, _ = stack.add_layer((_VERSION, "unmanaged"), _remove_mark)
            return cls(stack, variables, note)
        python = Interpreter.find(stack.host, wanted)
        if python is None:
            return cls(stack, variables, f"{note}; it has no Python")
        note += f", with a virtual environment of its Python {python.version}"
        if wanted and not f"{python.version}.".startswith(f"{wanted}."):
            note += f", as it has no {wanted}"
        # A Python that is already there was installed by hand, and can be installed into.
        if python.path.parent != Path("/usr/local/bin"):
            key = (_VERSION, str(python.path), python.version)
            stack, _ = stack.add_layer(key, lambda sandbox: _create(sandbox, python, take))
        return cls(stack, {**variables, "LANG": "C.UTF-8", "PYTHON_VERSION": python.version}, note)


def _is_managed(ref: str) -> bool:
    """Return False for a distribution from before PEP 668, where pip installs into the system's own Python."""
    name, _, tag = ref.partition("@")[0].rpartition("/")[2].partition(":")
    if any(codename in tag for codename in _UNMANAGED_CODENAMES):
        return False
    release = re.match(r"\d+", tag)
    return not release or int(release[0]) > _LAST_UNMANAGED.get(name, -1)


def _remove_mark(sandbox: Sandbox) -> None:
    sandbox.run(
        ["/bin/sh", "-c", "rm -f /usr/lib/python3*/EXTERNALLY-MANAGED"],
        lambda data: False,
        user="",
        cwd="/",
        variables={"PATH": shell_scripts.SYSTEM_PATH},
        deadline=None,
    )


def _create(sandbox: Sandbox, interpreter: Interpreter, take: Callable[[bytes], object]) -> None:
    output = BoundedOutput(head=0, tail=2000)

    def relay(data: bytes) -> bool:
        take(data)
        output.add(data)
        return False

    with pack([Upload(f"/{wheel.name}", wheel) for wheel in _pip_wheels()]) as archive:
        sandbox.make_directory(_WHEELS)
        sandbox.put(archive, _WHEELS, "0:0")
    code = sandbox.run(
        ["/bin/sh", "-c", _CREATE, "sh", str(interpreter.path)],
        relay,
        user="",
        cwd="/",
        variables={"PATH": shell_scripts.SYSTEM_PATH, "HOME": "/root"},
        deadline=None,
    )
    if code != 0:
        last = one_line(output.text(), None)[-400:]
        raise ImageError(
            f"{interpreter.path} cannot create a virtual environment: {last or f'exit code {code}'}",
            "install python3-venv on this host, or use Docker",
        )


def _pip_wheels() -> list[Path]:
    """Return the pip that comes with the Python that runs this, for an operating system that packages it apart."""
    spec = importlib.util.find_spec("ensurepip")
    directory = Path(spec.origin).parent / "_bundled" if spec and spec.origin else Path("/nonexistent")
    return sorted(directory.glob("pip-*.whl"))

"""The two layers that can be added to a task's image: `lean` and `hud`.

`lean` holds the trial's directories. `hud` also holds a Python that serves HUD's tools; layer/Dockerfile builds it.
That Python ships with its own loader and libraries, so one image per architecture runs on every base: glibc, musl or
neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.env_py import env_py

LAYER_PYTHON = "/hud/.venv/bin/python"
"""The layer's interpreter. Start it with -I: a task's image may set PYTHONPATH or PYTHONHOME."""

LAYER_ARGUMENT = "HARBOR_LAYER"
"""The build argument of a converted environment that names a prebuilt layer; without it, the layer is built too."""

_DIRECTORY = Path(__file__).parent / "layer"
_STAGES = ("layer-pins", "layer-build")
_LAYER_IMAGE_ONLY = "# The rest is only for the layer image."
_LEAN_DIRECTORIES = (("logs", 0o755), ("logs/agent", 0o777), ("logs/artifacts", 0o777), ("logs/verifier", 0o777))


class LayerContext(BuildContext):
    """The build context of the `hud` layer: the directory layer/, and env.py to serve the tools."""

    @contextlib.contextmanager
    def materialized(self) -> Iterator[BuildContext]:
        """Yield a directory with both, for the duration of the block."""
        with tempfile.TemporaryDirectory(prefix="pytest-harbor-") as temporary:
            directory = Path(temporary, "layer")
            shutil.copytree(self.path, directory)
            (directory / "env.py").write_text(env_py("harbor", []), encoding="utf-8")
            for file in directory.iterdir():
                file.chmod(0o644)
            yield BuildContext(directory)

    @cached_property
    def digest(self) -> str:
        """The directory's digest."""
        with self.materialized() as context:
            return context.digest


def hud_layer_context() -> BuildContext:
    """Return the build context of the layer image, whose root directory is copied into adapted images."""
    return LayerContext(_DIRECTORY)


def layer_stage(name: str, escape: str = "\\") -> str:
    r"""Return the stages that build the layer within another Dockerfile.

    From the build context they need only pyproject.toml, in its root.

    Args:
        name: name of the last stage, whose root directory is the layer; the stages before it are `<name>-pins` and
            `<name>-build`. Lowercase letters, digits and dashes.
        escape: the line continuation character of that Dockerfile: "\" or "`".

    """
    text = (_DIRECTORY / "Dockerfile").read_text(encoding="utf-8").partition(_LAYER_IMAGE_ONLY)[0].rstrip() + "\n"
    text = re.sub(rf"\b(?:{'|'.join(_STAGES)})\b", lambda match: f"{name}-{match[0].rpartition('-')[2]}", text)
    text = text.replace("\nFROM scratch\n", f"\nFROM scratch AS {name}\n")
    return re.sub(r"\\$", lambda _: escape, text, flags=re.MULTILINE)


def pyproject(name: str) -> str:
    """Return the pyproject.toml of a converted environment: the layer's pinned requirements under another name."""
    text = (_DIRECTORY / "pyproject.toml").read_text(encoding="utf-8")
    return re.sub(r"^name = .*$", lambda _: f"name = {json.dumps(name)}", text, count=1, flags=re.MULTILINE)


@cache
def lean_layer() -> bytes:
    """Return the trial's directories as a tar archive to import as an image; always the same bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, mode in _LEAN_DIRECTORIES:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
    return file.getvalue()


def lean_layer_digest() -> str:
    """Return the SHA-256 of lean_layer(), in hex."""
    return hashlib.sha256(lean_layer()).hexdigest()

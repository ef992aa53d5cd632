"""What is added to a task's image: the folders of a trial alone, or with them a Python that serves HUD's tools.

The recipe of the second is layer/Dockerfile. Its Python brings its own loader and libraries, so that one image per
architecture fits every base: any glibc, musl, or none.
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

LAYER_PYTHON = "/hud/.venv/bin/python"
"""The layer's interpreter. Start it with -I, as a task's image may well set PYTHONPATH or PYTHONHOME."""

LAYER_ARGUMENT = "HARBOR_LAYER"
"""The build argument of a converted environment that names a finished layer, in place of one that it builds itself."""

_DIRECTORY = Path(__file__).parent / "layer"
_STAGES = ("layer-pins", "layer-build")
_OWN = "# What follows is in the layer image alone."
_FOLDERS = (("logs", 0o755), ("logs/agent", 0o777), ("logs/artifacts", 0o777), ("logs/verifier", 0o777))


class LayerContext(BuildContext):
    """The recipe, and with it the program that serves the tools in an image that is started by itself."""

    @contextlib.contextmanager
    def laid_out(self) -> Iterator[BuildContext]:
        """Give a directory with both, as long as the block lasts."""
        # No code of that package runs here: what it gives is a text that runs in images.
        from pytest_harbor.image.env_py import env_py

        with tempfile.TemporaryDirectory(prefix="pytest-harbor-") as temporary:
            directory = Path(temporary, "layer")
            shutil.copytree(self.path, directory)
            (directory / "env.py").write_text(env_py("harbor", []), encoding="utf-8")
            for file in directory.iterdir():
                file.chmod(0o644)
            yield BuildContext(directory)

    @cached_property
    def digest(self) -> str:
        """That of the directory."""
        with self.laid_out() as context:
            return context.digest


def hud_layer_context() -> BuildContext:
    """Return what the layer image is built from: its root directory is what an adapted image copies to its own."""
    return LayerContext(_DIRECTORY)


def layer_stage(name: str, escape: str = "\\") -> str:
    r"""Return the stages that build the layer within another Dockerfile.

    They need pyproject.toml in the root of the context and nothing else from it.

    Args:
        name: name of the last stage, whose root directory is the layer; those before it are `<name>-pins` and
            `<name>-build`. Lower case letters, digits and dashes.
        escape: what joins lines in that Dockerfile, "`" where its directive says so.

    """
    text = (_DIRECTORY / "Dockerfile").read_text(encoding="utf-8").partition(_OWN)[0].rstrip() + "\n"
    text = re.sub(rf"\b(?:{'|'.join(_STAGES)})\b", lambda match: f"{name}-{match[0].rpartition('-')[2]}", text)
    text = text.replace("\nFROM scratch\n", f"\nFROM scratch AS {name}\n")
    return re.sub(r"\\$", lambda _: escape, text, flags=re.MULTILINE)


def pyproject(name: str) -> str:
    """Return the pyproject.toml of a converted environment: the layer's own pins under another name."""
    text = (_DIRECTORY / "pyproject.toml").read_text(encoding="utf-8")
    return re.sub(r"^name = .*$", lambda _: f"name = {json.dumps(name)}", text, count=1, flags=re.MULTILINE)


@cache
def lean_layer() -> bytes:
    """Return the folders of a trial as an archive to import as an image, each time the same bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, mode in _FOLDERS:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
    return file.getvalue()


def lean_layer_digest() -> str:
    """Return SHA-256, in hex, of that archive."""
    return hashlib.sha256(lean_layer()).hexdigest()

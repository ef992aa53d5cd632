"""The layers that adapted images get."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from pytest_harbor.image.context import BuildContext


def lean_layer() -> bytes:
    """Return a tar archive of the directories that every trial needs; the same bytes each time."""
    directories = {"logs": 0o755, "logs/agent": 0o777, "logs/verifier": 0o777, "logs/artifacts": 0o777}
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, mode in directories.items():
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                archive.addfile(entry)
        return buffer.getvalue()


def hud_layer_context() -> BuildContext:
    """Return what the layer of `hud` is built from."""
    return BuildContext(Path(__file__).parent / "layer")

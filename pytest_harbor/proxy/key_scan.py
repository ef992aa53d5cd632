"""Looking for real keys where an agent would find them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from pytest_harbor.image.agent_files import agent_files
from pytest_harbor.proxy.settings import Upstream

# Bytes of a file that is looked into; nobody keeps a key in a larger one.
LARGEST = 8 << 20


class RealKeys:
    """The keys of models' servers.

    Args:
        upstreams: the servers.

    """

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._keys = {upstream.secret.encode() for upstream in upstreams if upstream.secret}
        # By path, size and time of the last change in nanoseconds.
        self._seen: dict[tuple[Path, int, int], bool] = {}

    def are_in(self, text: str) -> bool:
        """Tell whether one is in a text."""
        return self._held_by(text.encode("utf-8", "replace"))

    def in_files(self, files: Iterable[tuple[Path, str]]) -> Path | None:
        """Return the first of the agent files that holds one; each is read once.

        Raises:
            UnmetRequirement: they cannot be listed.

        """
        if not self._keys:
            return None
        for source, target in files:
            for file in agent_files(source, target):
                # What cannot be read now is not uploaded either.
                with contextlib.suppress(OSError):
                    if self._in_file(file.path):
                        return file.path
        return None

    def _in_file(self, path: Path) -> bool:
        if path.is_symlink() or not path.is_file():
            return False
        status = path.stat()
        if status.st_size > LARGEST:
            return False
        known = (path, status.st_size, status.st_mtime_ns)
        if known not in self._seen:
            self._seen[known] = self._held_by(path.read_bytes())
        return self._seen[known]

    def _held_by(self, data: bytes) -> bool:
        return any(key in data for key in self._keys)

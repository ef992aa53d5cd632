"""A scanner for real keys in what an agent would see."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from pytest_harbor.image.agent_files import agent_files
from pytest_harbor.proxy.settings import Upstream

# Larger files, in bytes, are not scanned; nobody keeps a key in one.
MAX_FILE_SIZE = 8 << 20


class KeyScanner:
    """Looks for the real keys of the models' servers.

    Args:
        upstreams: the servers.

    """

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._keys = {upstream.secret.encode() for upstream in upstreams if upstream.secret}
        # By path, size and modification time in nanoseconds.
        self._scanned: dict[tuple[Path, int, int], bool] = {}

    def is_in_text(self, text: str) -> bool:
        """Return True if a text contains a key."""
        return self._is_in(text.encode("utf-8", "replace"))

    def find_file(self, files: Iterable[tuple[Path, str]]) -> Path | None:
        """Return the first of the agent files that contains a key, or None; unchanged files are read once.

        Raises:
            UnmetRequirement: the files cannot be listed.

        """
        if not self._keys:
            return None
        for source, target in files:
            for file in agent_files(source, target):
                # A file that cannot be read will not be uploaded either.
                with contextlib.suppress(OSError):
                    if self._is_in_file(file.path):
                        return file.path
        return None

    def _is_in_file(self, path: Path) -> bool:
        if path.is_symlink() or not path.is_file():
            return False
        status = path.stat()
        if status.st_size > MAX_FILE_SIZE:
            return False
        version = (path, status.st_size, status.st_mtime_ns)
        if version not in self._scanned:
            self._scanned[version] = self._is_in(path.read_bytes())
        return self._scanned[version]

    def _is_in(self, data: bytes) -> bool:
        return any(key in data for key in self._keys)

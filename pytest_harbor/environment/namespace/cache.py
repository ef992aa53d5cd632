"""The provider's directory: layers, images and running environments, in the user's cache directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pytest_harbor.errors import EngineUnavailable


@dataclass(frozen=True)
class Cache:
    """The provider's directory, which only its user can read.

    Attributes:
        root: the directory. Environments can read their mount options, so mounts use paths relative to it.

    """

    root: Path

    @classmethod
    def open(cls) -> Cache:
        """Return the user's cache, created if it is missing.

        Raises:
            EngineUnavailable: it cannot be created.

        """
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        root = base.absolute() / "pytest-harbor" / "namespace"
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Layers may contain set-uid programs that a task created.
            root.chmod(0o700)
            cache = cls(root)
            for directory in (cache.layers, cache.images, cache.environments):
                directory.mkdir(exist_ok=True)
        except OSError as error:
            raise EngineUnavailable(
                f"environments without an engine need the directory {root}, which cannot be created ({error.strerror})",
                "point XDG_CACHE_HOME at a writable directory",
            ) from error
        return cache

    # The names are short because the options of a mount are limited to one page.

    @property
    def layers(self) -> Path:
        """One directory per layer, with one subdirectory per overlay."""
        return self.root / "l"

    @property
    def images(self) -> Path:
        """One file per image."""
        return self.root / "i"

    @property
    def environments(self) -> Path:
        """One directory per running environment."""
        return self.root / "t"

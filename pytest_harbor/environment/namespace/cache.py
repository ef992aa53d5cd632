"""Where layers, images and running environments are kept: below the user's cache directory, for that user alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pytest_harbor.errors import EngineUnavailable


@dataclass(frozen=True)
class Cache:
    """The directory of this provider.

    Attributes:
        root: the directory. Mounts name what is below it by relative paths, as environments can read those.

    """

    root: Path

    @classmethod
    def open(cls) -> Cache:
        """Return the user's own, made when missing.

        Raises:
            EngineUnavailable: it cannot be made.

        """
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        root = base.absolute() / "pytest-harbor" / "namespace"
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Layers hold set-uid programs of their own making.
            root.chmod(0o700)
            cache = cls(root)
            for directory in (cache.layers, cache.images, cache.trials):
                directory.mkdir(exist_ok=True)
        except OSError as error:
            raise EngineUnavailable(
                f"environments without an engine need a directory and {root} cannot be made ({error.strerror})",
                "point XDG_CACHE_HOME at a directory that can be written",
            ) from error
        return cache

    @property
    def layers(self) -> Path:
        """One directory a layer, in it one for each overlay."""
        return self.root / "l"

    @property
    def images(self) -> Path:
        """One file an image."""
        return self.root / "i"

    @property
    def trials(self) -> Path:
        """One directory a running environment."""
        return self.root / "t"

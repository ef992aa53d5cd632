"""What is kept of an image that was built here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.image import ImageDetails


@dataclass(frozen=True)
class ImageRecord:
    """An image: layers over the host's root, and what it says of itself.

    Attributes:
        ref: its name.
        base: the layer directly above the host's root.
        layers: the layers above that, lowest first.
        details: the rest.

    """

    ref: str
    base: str
    layers: tuple[str, ...]
    details: ImageDetails

    @classmethod
    def read(cls, cache: Cache, ref: str) -> ImageRecord | None:
        """Look an image up by its name."""
        try:
            kept = json.loads(_path(cache, ref).read_text(encoding="utf-8"))
            details = kept["details"]
            details["entrypoint"], details["notes"] = tuple(details["entrypoint"]), tuple(details["notes"])
            return cls(kept["ref"], kept["base"], tuple(kept["layers"]), ImageDetails(**details))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def usable(self, cache: Cache, base: str) -> bool:
        """Tell whether it was made on top of a base, and all of it is still there."""
        return self.base == base and all((cache.layers / layer).is_dir() for layer in self.layers)

    def write(self, cache: Cache) -> None:
        """Keep it, in one step for whoever reads at this moment."""
        path = _path(cache, self.ref)
        path.with_suffix(".new").write_text(json.dumps(asdict(self)), encoding="utf-8")
        path.with_suffix(".new").replace(path)


def _path(cache: Cache, ref: str) -> Path:
    return cache.images / f"{quote(ref, safe='')}.json"

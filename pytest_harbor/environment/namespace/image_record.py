"""The record of an image that was built here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from pytest_harbor._util.files import write_atomically
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.image import ImageDetails


@dataclass(frozen=True)
class ImageRecord:
    """An image: layers over the host's root, and its details.

    Attributes:
        ref: its name.
        base: the id of the base layer, directly above the host's root.
        layers: the ids of the layers above that, lowest first.
        details: everything else that the image defines.
        stands_in: whether it stands in for an image that was not built here.

    """

    ref: str
    base: str
    layers: tuple[str, ...]
    details: ImageDetails
    stands_in: bool = False

    @classmethod
    def read(cls, cache: Cache, ref: str) -> ImageRecord | None:
        """Return the record of an image, or None if there is none that can be read."""
        try:
            record = json.loads(_path(cache, ref).read_text(encoding="utf-8"))
            details = record["details"]
            details["entrypoint"], details["notes"] = tuple(details["entrypoint"]), tuple(details["notes"])
            return cls(
                record["ref"], record["base"], tuple(record["layers"]), ImageDetails(**details), record["stands_in"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def usable(self, cache: Cache, base: str) -> bool:
        """Return True if the image was built on this base layer and all of its layers still exist."""
        return self.base == base and all((cache.layers / layer).is_dir() for layer in self.layers)

    def write(self, cache: Cache) -> None:
        """Write the record to the cache."""
        write_atomically(_path(cache, self.ref), json.dumps(asdict(self)))


def _path(cache: Cache, ref: str) -> Path:
    return cache.images / f"{quote(ref, safe='')}.json"

"""Images as trials see them, and the protocol that providers implement for the image store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pytest_harbor.image.context import BuildContext

AdaptMode = Literal["lean", "hud"]
BuildPolicy = Literal["auto", "always", "never"]
Source = Literal["built", "cached", "pulled", "present"]


@dataclass(frozen=True)
class ImageDetails:
    """An image's id, its configuration for containers, and notes about it for the reader of a result."""

    id: str
    entrypoint: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """The image of a task.

    Attributes:
        ref: the image's name.
        source: `built` now, `cached` from an earlier build, `pulled` now, or `present` under its own name.
        notes: facts for the reader of a result, such as a docker_image that was not available.
        log: the log of its build or pull, if there was one in this run.
        setup: whether the agent's setup was `built` now or `cached` from an earlier run; empty if there is none.
        below: name of the image that the setup was built on.

    """

    ref: str
    source: Source
    details: ImageDetails
    notes: tuple[str, ...] = ()
    log: Path | None = None
    setup: Literal["", "built", "cached"] = ""
    below: str = ""

    @property
    def runs_as_root(self) -> bool:
        """Whether the image's own user is root."""
        return self.details.user.partition(":")[0] in ("", "root", "0")


class ImageBackend(Protocol):
    """The image operations of a provider. Every method may raise EngineUnavailable."""

    @property
    def has_registries(self) -> bool:
        """Whether images can be pulled by name; if not, a task's Dockerfile takes precedence over its docker_image."""

    @property
    def adapts(self) -> bool:
        """Whether images are adapted; not needed if nothing else can run the provider's images."""

    @property
    def engine_id(self) -> str:
        """An id for the engine that stores the images, safe in a file name; builds for one engine share locks."""

    @property
    def architecture(self) -> str:
        """The architecture of its images, such as `amd64`, safe in a tag."""

    def find_image(self, ref: str) -> ImageDetails | None:
        """Return a local image's details, or None; uses no network."""

    def pull_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Pull an image; the timeout is in seconds.

        Raises:
            ImageError: it cannot be pulled: ImageMissing if the registry does not have it, RegistryUnavailable if the
                registry does not answer or refuses.

        """

    def push_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Push an image to the registry in its name; raise ImageError if that fails. The timeout is in seconds."""

    def is_published(self, ref: str) -> bool:
        """Return True if the registry in an image's name has it; raise RegistryUnavailable if it does not answer."""

    def tag_image(self, ref: str, name: str) -> None:
        """Give an image another name."""

    def import_image(self, ref: str, archive: bytes) -> None:
        """Create an image from the files of a tar archive."""

    def build_image(self, context: BuildContext, ref: str, *, log: Path, timeout: float) -> None:
        """Build an image from a context; raise ImageError if that fails. The timeout is in seconds."""

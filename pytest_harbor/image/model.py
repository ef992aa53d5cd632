"""What an image is to a trial, and what a provider must be able to do with images."""

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
    """What an image says of itself: its id, how what runs in it begins, and what a reader should know of it."""

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
        ref: the name to start it by.
        source: `built` now, `cached` from an earlier build, `pulled` now, `present` under its own name.
        notes: what a reader of the result should know, such as a docker_image that could not be had.
        log: the log of its build or pull, when there was one in this run.
        setup: whether its agent's set-up was `built` now or `cached` from an earlier run; empty where it has none.
        below: the name of the image that the set-up is on top of.

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
    """What the image store asks of a provider. Every method may raise EngineUnavailable."""

    @property
    def has_registries(self) -> bool:
        """Whether images can be had by name; where not, a task's Dockerfile goes before its docker_image."""

    @property
    def adapts(self) -> bool:
        """Whether what it builds is adapted; a provider without images that others can run needs nothing in them."""

    @property
    def engine_id(self) -> str:
        """A name for the place where images live, safe in a file name: builds for one engine share a lock."""

    @property
    def architecture(self) -> str:
        """What its images are built for, such as `amd64`, safe in a tag."""

    def find_image(self, ref: str) -> ImageDetails | None:
        """Look an image up by name, without any network."""

    def pull_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Fetch an image within a number of seconds.

        Raises:
            ImageError: it cannot be had; ImageMissing where the registry answered that it has none,
                RegistryUnavailable where it would give none at all.

        """

    def push_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Send an image to the registry that its name begins with; ImageError when that cannot be done."""

    def is_published(self, ref: str) -> bool:
        """Ask the registry that an image's name begins with if it is there; RegistryUnavailable if it does not say."""

    def tag_image(self, ref: str, name: str) -> None:
        """Give an image one more name."""

    def import_image(self, ref: str, archive: bytes) -> None:
        """Make an image whose files are those of a tar archive."""

    def build_image(self, context: BuildContext, ref: str, *, log: Path, timeout: float) -> None:
        """Build a context within a number of seconds and name the result; ImageError when it fails."""

"""A registry that keeps what was built: one repository, with a tag for each digest of content and architecture."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from pytest_harbor.errors import ImageError, ImageMissing, RegistryUnavailable
from pytest_harbor.image.model import ImageBackend

REPOSITORY = "pytest-harbor"
"""What images are called here; their tag is their digest."""


class Registry:
    """Where other machines have pushed their images, or this one is to push its own.

    Args:
        backend: what pulls and pushes, with credentials of its own.
        prefix: the repository, as HOST/PREFIX.
        directory: where the processes of one run tell each other what is wrong with it.

    """

    def __init__(self, backend: ImageBackend, prefix: str, directory: Path) -> None:
        self._backend = backend
        self.prefix = prefix
        self._file = directory / "registry-problem.txt"
        self._broken: dict[str, str] = {}

    def remote(self, ref: str) -> str:
        """Return the name that an image has in the registry."""
        name, _, tag = ref.partition(":")
        kind = "" if name == REPOSITORY else f"{name}-"
        return f"{self.prefix}:{kind}{tag}-{self._backend.architecture}"

    def problem(self, ref: str) -> str:
        """Return why an image could not be had from the registry; empty where it has none, or was not asked."""
        with contextlib.suppress(FileNotFoundError):
            return self._file.read_text(encoding="utf-8")
        return self._broken.get(ref, "")

    def fetch(self, ref: str, *, log: Path, timeout: float) -> bool:
        """Pull an image by its digest, if the registry has it, and give it its own name here.

        A registry that does not answer, or that refuses, is not asked again by any process of the run.
        """
        if self._file.exists():
            return False
        remote = self.remote(ref)
        try:
            self._backend.pull_image(remote, log=log, timeout=timeout)
        except ImageMissing:
            return False
        except RegistryUnavailable as error:
            self._give_up(self._refusal(error))
            return False
        except ImageError as error:
            self._broken[ref] = error.fact
            return False
        self._backend.tag_image(remote, ref)
        return True

    def check(self) -> None:
        """Find out whether it answers at all.

        Raises:
            RegistryUnavailable: it does not.

        """
        try:
            self.has(f"{REPOSITORY}:none")
        except RegistryUnavailable as error:
            raise RegistryUnavailable(self._refusal(error), error.fix, detail=error.detail) from error

    def has(self, ref: str) -> bool:
        """Tell whether an image is there already.

        Raises:
            RegistryUnavailable: the registry does not say.

        """
        return self._backend.is_published(self.remote(ref))

    def push(self, ref: str, *, log: Path, timeout: float) -> str:
        """Push an image under its digest, and return the name that it has there.

        Raises:
            ImageError: it cannot be pushed.

        """
        remote = self.remote(ref)
        self._backend.tag_image(ref, remote)
        self._backend.push_image(remote, log=log, timeout=timeout)
        return remote

    def _refusal(self, error: RegistryUnavailable) -> str:
        return f"the registry {self.prefix} does not answer or refuses ({error.detail})"

    def _give_up(self, why: str) -> None:
        """Tell all processes of the run, in the words of the first to find out."""
        if not self._file.exists():
            mine = self._file.with_name(f"{self._file.name}.{uuid.uuid4().hex}")
            mine.write_text(why, encoding="utf-8")
            mine.replace(self._file)

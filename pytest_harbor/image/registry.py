"""A registry that keeps what was built: one repository, with a tag for each digest of content."""

from __future__ import annotations

from pathlib import Path

from pytest_harbor.errors import ImageError, ImageMissing
from pytest_harbor.image.model import ImageBackend


class Registry:
    """Where other machines have pushed their images, or this one is to push its own.

    Args:
        backend: what pulls and pushes, with credentials of its own.
        prefix: the repository, as HOST/PREFIX.

    Attributes:
        problem: why it is not asked any more; empty while it answers.

    """

    def __init__(self, backend: ImageBackend, prefix: str) -> None:
        self._backend = backend
        self.prefix = prefix
        self.problem = ""

    def remote(self, ref: str) -> str:
        """Return the name that an image has in the registry."""
        return f"{self.prefix}:{ref.partition(':')[2]}"

    def fetch(self, ref: str, *, log: Path, timeout: float) -> bool:
        """Pull an image by its digest, if the registry has it, and give it its own name here.

        A registry that does not answer, or that refuses, is not asked again.
        """
        if self.problem:
            return False
        try:
            self._backend.pull_image(self.remote(ref), log=log, timeout=timeout)
        except ImageMissing:
            return False
        except ImageError as error:
            self.problem = error.fact
            return False
        self._backend.tag_image(self.remote(ref), ref)
        return True

    def push(self, ref: str, *, log: Path, timeout: float) -> str:
        """Push an image under its digest, and return the name that it has there.

        Raises:
            ImageError: it cannot be pushed.

        """
        remote = self.remote(ref)
        self._backend.tag_image(ref, remote)
        self._backend.push_image(remote, log=log, timeout=timeout)
        return remote

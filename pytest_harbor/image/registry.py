"""A registry for built images: one repository, with a tag for each content digest and architecture."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from pytest_harbor._util.files import write_atomically
from pytest_harbor.errors import ImageError, ImageMissing, RegistryUnavailable
from pytest_harbor.image.model import ImageBackend

REPOSITORY = "pytest-harbor"
"""The local repository of built images; their tag is their digest."""


class Registry:
    """A registry to pull built images from, and to push them to.

    Args:
        backend: pulls and pushes, with its own credentials.
        prefix: the repository, as HOST/PREFIX.
        directory: holds the file through which the processes of one run share that the registry is unavailable.

    """

    def __init__(self, backend: ImageBackend, prefix: str, directory: Path) -> None:
        self._backend = backend
        self.prefix = prefix
        self._file = directory / "registry-problem.txt"
        self._broken: dict[str, str] = {}

    def remote_name(self, ref: str) -> str:
        """Return an image's name in the registry."""
        name, _, tag = ref.partition(":")
        kind = "" if name == REPOSITORY else f"{name}-"
        return f"{self.prefix}:{kind}{tag}-{self._backend.architecture}"

    def problem(self, ref: str) -> str:
        """Return why pulling an image failed; empty if the registry does not have it, or was not asked."""
        with contextlib.suppress(FileNotFoundError):
            return self._file.read_text(encoding="utf-8")
        return self._broken.get(ref, "")

    def fetch(self, ref: str, *, log: Path, timeout: float) -> bool:
        """Pull an image by its digest and tag it with its local name; return False if that did not work.

        If the registry does not answer or refuses, no process of the run asks it again.
        """
        if self._file.exists():
            return False
        remote = self.remote_name(ref)
        try:
            self._backend.pull_image(remote, log=log, timeout=timeout)
        except ImageMissing:
            return False
        except RegistryUnavailable as error:
            self._record_unavailable(self._unavailable(error))
            return False
        except ImageError as error:
            self._broken[ref] = error.fact
            return False
        self._backend.tag_image(remote, ref)
        return True

    def check(self) -> None:
        """Check that the registry answers.

        Raises:
            RegistryUnavailable: it does not.

        """
        try:
            self.has(f"{REPOSITORY}:none")
        except RegistryUnavailable as error:
            raise RegistryUnavailable(self._unavailable(error), error.fix, detail=error.detail) from error

    def has(self, ref: str) -> bool:
        """Return True if the registry has an image.

        Raises:
            RegistryUnavailable: the registry does not answer.

        """
        return self._backend.is_published(self.remote_name(ref))

    def push(self, ref: str, *, log: Path, timeout: float) -> str:
        """Push an image under its digest; return its name in the registry.

        Raises:
            ImageError: it cannot be pushed.

        """
        remote = self.remote_name(ref)
        self._backend.tag_image(ref, remote)
        self._backend.push_image(remote, log=log, timeout=timeout)
        return remote

    def _unavailable(self, error: RegistryUnavailable) -> str:
        return f"registry {self.prefix} does not answer or refuses ({error.detail})"

    def _record_unavailable(self, reason: str) -> None:
        """Record for all processes of the run why the registry is unavailable; the first reason stays."""
        if not self._file.exists():
            write_atomically(self._file, reason)


def parse_repository(text: str) -> str:
    """Return the name of a repository in a registry unchanged, once it is known to be valid.

    Raises:
        ValueError: it is not valid; the message shows a valid one.

    """
    part = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    if not re.fullmatch(rf"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?(?:/{part})+", text):
        raise ValueError("use HOST/PREFIX, such as ghcr.io/acme/tb2, in lower case and without a tag")
    return text

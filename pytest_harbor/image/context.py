"""A build context on disk, and the digest that names what is built from it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_harbor.errors import ImageError
from pytest_harbor.task.files import file_digest

# Part of every digest: raised when what we do to a Dockerfile before building it changes.
ADAPTATION = "plain-1"


@dataclass(frozen=True)
class BuildContext:
    """A directory with a Dockerfile.

    Attributes:
        path: the directory.
        arguments: build arguments.

    """

    path: Path
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile."""
        return self.path / "Dockerfile"

    @cached_property
    def ignore_patterns(self) -> list[str]:
        """The patterns of .dockerignore, without comments and empty lines.

        Dockerfile.dockerignore, which BuildKit prefers, comes first.
        """
        for name in ("Dockerfile.dockerignore", ".dockerignore"):
            try:
                lines = (self.path / name).read_text(encoding="utf-8-sig").splitlines()
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise ImageError(f"{self.path / name} cannot be read: {error}") from error
            return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return []

    def files(self) -> Iterator[str]:
        """Yield the context's paths as a build sees them, relative and sorted, .dockerignore honoured."""
        from docker.utils import exclude_paths

        # The Dockerfile and the ignore file are sent even when they are ignored, as the engine needs them.
        patterns = [*self.ignore_patterns, "!.dockerignore"] if self.ignore_patterns else []
        yield from sorted(exclude_paths(str(self.path), patterns, dockerfile="Dockerfile"))

    def copied(self) -> Iterator[str]:
        """Yield the paths that COPY and ADD may take: without what is sent for the engine's sake alone."""
        from docker.utils.build import PatternMatcher

        matcher = PatternMatcher(self.ignore_patterns)
        matcher.patterns.pop()  # its own exception for .dockerignore
        for path in self.files():
            if path not in ("Dockerfile", ".dockerignore") or not matcher.matches(path):  # type: ignore[arg-type]
                yield path

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, over everything that decides what is built: paths, kinds, modes, links, contents, arguments.

        Times and owners are left out, so that two checkouts of one commit share an image.

        Raises:
            ImageError: a file of the context cannot be read.

        """
        total = hashlib.sha256()

        def add(*parts: bytes) -> None:
            for part in parts:
                total.update(len(part).to_bytes(8, "big") + part)

        add(ADAPTATION.encode())
        for name, value in sorted(self.arguments):
            add(b"argument", name.encode(), value.encode())
        try:
            for relative in self.files():
                path = self.path / relative
                status = path.lstat()
                mode = f"{stat.S_IMODE(status.st_mode):o}".encode()
                if stat.S_ISLNK(status.st_mode):
                    add(b"link", os.fsencode(relative), os.fsencode(path.readlink()))
                elif stat.S_ISDIR(status.st_mode):
                    add(b"directory", os.fsencode(relative), mode)
                elif stat.S_ISREG(status.st_mode):
                    add(b"file", os.fsencode(relative), mode, file_digest(path))
        except OSError as error:
            raise ImageError(f"the build context {self.path} cannot be read: {error}") from error
        return total.hexdigest()

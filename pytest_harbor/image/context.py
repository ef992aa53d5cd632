"""A build context on disk, and the digest that names what is built from it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_harbor._util.files import file_digest
from pytest_harbor.errors import ImageError
from pytest_harbor.image.adaptation import Adaptation
from pytest_harbor.image.dockerfile import DockerfileError

# Part of the digest of what is built as it is.
PLAIN = "plain-1"


@dataclass(frozen=True)
class BuildContext:
    """A directory with a Dockerfile.

    Attributes:
        path: the directory.
        arguments: build arguments.
        adaptation: what becomes of the Dockerfile before it is built; None leaves it as it is.
        name: the name of the Dockerfile.

    """

    path: Path
    arguments: tuple[tuple[str, str], ...] = ()
    adaptation: Adaptation | None = None
    name: str = "Dockerfile"

    @contextlib.contextmanager
    def laid_out(self) -> Iterator[BuildContext]:
        """Give the context as a builder takes it, a directory and no more, as long as the block lasts."""
        yield self

    @property
    def title(self) -> str:
        """What messages call what it is built from."""
        return str(self.dockerfile)

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile, as it is on disk."""
        return self.path / self.name

    @property
    def ignore_files(self) -> tuple[str, str]:
        """Where a builder looks for patterns: the first, which BuildKit alone knows, wins."""
        return f"{self.name}.dockerignore", ".dockerignore"

    @contextlib.contextmanager
    def adapted_dockerfile(self) -> Iterator[Path]:
        """Give the Dockerfile to build, as long as the block lasts; one that is adapted lies outside of the context.

        Raises:
            ImageError: it cannot be read.

        """
        if self.adaptation is None:
            yield self.dockerfile
            return
        try:
            text = self.adaptation.apply(self.dockerfile.read_bytes().decode("utf-8", "surrogateescape"))
        except (OSError, DockerfileError) as error:
            raise ImageError(f"{self.dockerfile} cannot be read: {error}") from error
        with tempfile.TemporaryDirectory(prefix="pytest-harbor-") as directory:
            adapted = Path(directory) / self.name
            adapted.write_bytes(text.encode("utf-8", "surrogateescape"))
            # BuildKit looks for its own ignore file beside the Dockerfile.
            beside = self.path / self.ignore_files[0]
            if beside.is_file():
                (Path(directory) / beside.name).write_bytes(beside.read_bytes())
            yield adapted

    @cached_property
    def ignore_patterns(self) -> list[str]:
        """The patterns of the ignore file, without comments and empty lines."""
        return ignore_patterns(self.path, self.ignore_files)

    def files(self) -> Iterator[str]:
        """Yield the context's paths as a build sees them, relative and sorted, .dockerignore honoured."""
        from docker.utils import exclude_paths

        # The Dockerfile and the ignore file are sent even when they are ignored, as the engine needs them.
        patterns = [*self.ignore_patterns, "!.dockerignore"] if self.ignore_patterns else []
        yield from sorted(exclude_paths(str(self.path), patterns, dockerfile=self.name))

    def copied(self) -> Iterator[str]:
        """Yield the paths that COPY and ADD may take: without what is sent for the engine's sake alone."""
        from docker.utils.build import PatternMatcher

        matcher = PatternMatcher(self.ignore_patterns)
        matcher.patterns.pop()  # its own exception for .dockerignore
        for path in self.files():
            if path not in (self.name, ".dockerignore") or not matcher.matches(path):  # type: ignore[arg-type]
                yield path

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, over everything that decides what is built: paths, kinds, modes, links, contents, arguments.

        Times and owners are left out, so that two checkouts of one commit share an image; and so is that a group may
        write where others may not, in which a umask of 002 differs from one of 022.

        Raises:
            ImageError: a file of the context cannot be read.

        """
        total = hashlib.sha256()

        def add(*parts: bytes) -> None:
            for part in parts:
                total.update(len(part).to_bytes(8, "big") + part)

        add((self.adaptation.key if self.adaptation else PLAIN).encode())
        for name, value in sorted(self.arguments):
            add(b"argument", name.encode(), value.encode())
        try:
            for relative in self.files():
                path = self.path / relative
                status = path.lstat()
                mode = f"{_comparable(stat.S_IMODE(status.st_mode)):o}".encode()
                if stat.S_ISLNK(status.st_mode):
                    add(b"link", os.fsencode(relative), os.fsencode(path.readlink()))
                elif stat.S_ISDIR(status.st_mode):
                    add(b"directory", os.fsencode(relative), mode)
                elif stat.S_ISREG(status.st_mode):
                    add(b"file", os.fsencode(relative), mode, file_digest(path))
        except OSError as error:
            raise ImageError(f"the build context {self.path} cannot be read: {error}") from error
        return total.hexdigest()


def ignore_patterns(directory: Path, names: Iterable[str]) -> list[str]:
    """Return the patterns of the first ignore file of some names that a directory has.

    Raises:
        ImageError: it cannot be read.

    """
    for name in names:
        try:
            lines = (directory / name).read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ImageError(f"{directory / name} cannot be read: {error}") from error
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return []


def _comparable(mode: int) -> int:
    return mode if mode & stat.S_IWOTH else mode & ~stat.S_IWGRP

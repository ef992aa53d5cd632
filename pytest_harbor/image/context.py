"""Build contexts on disk, and the digest that names the image built from one."""

from __future__ import annotations

import contextlib
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_harbor._util.files import Digest, file_digest
from pytest_harbor.errors import ImageError
from pytest_harbor.image.adaptation import Adaptation
from pytest_harbor.image.ignore import IgnoreMatcher, read_patterns
from pytest_harbor.image.words import DockerfileError

# Part of the digest of a context without an adaptation.
PLAIN = "plain-1"


@dataclass(frozen=True)
class BuildContext:
    """A directory with a Dockerfile.

    Attributes:
        path: the directory.
        arguments: the build arguments.
        adaptation: the changes to make to the Dockerfile before the build; None for none.
        name: the Dockerfile's file name.

    """

    path: Path
    arguments: tuple[tuple[str, str], ...] = ()
    adaptation: Adaptation | None = None
    name: str = "Dockerfile"

    @contextlib.contextmanager
    def materialized(self) -> Iterator[BuildContext]:
        """Yield the context as a plain directory that a builder can read, for the duration of the block."""
        yield self

    @property
    def title(self) -> str:
        """The context's name in messages."""
        return str(self.dockerfile)

    @property
    def dockerfile(self) -> Path:
        """The Dockerfile on disk, before any adaptation."""
        return self.path / self.name

    @property
    def ignore_files(self) -> tuple[str, str]:
        """The ignore files that a builder looks for; the first, which only BuildKit reads, takes precedence."""
        return f"{self.name}.dockerignore", ".dockerignore"

    @contextlib.contextmanager
    def adapted_dockerfile(self) -> Iterator[Path]:
        """Yield the Dockerfile to build, for the duration of the block; an adapted one lies outside the context.

        Raises:
            ImageError: the Dockerfile cannot be read.

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
            # BuildKit looks for its own ignore file next to the Dockerfile.
            beside = self.path / self.ignore_files[0]
            if beside.is_file():
                (Path(directory) / beside.name).write_bytes(beside.read_bytes())
            yield adapted

    @cached_property
    def ignored(self) -> IgnoreMatcher:
        """The patterns of the ignore file.

        Raises:
            ImageError: the ignore file cannot be read, or BuildKit would refuse it.

        """
        return ignore_matcher(self.path, self.ignore_files)

    def files(self) -> Iterator[str]:
        """Yield the paths that COPY and ADD can copy: those that the ignore file does not exclude.

        Raises:
            ImageError: the ignore file or a directory cannot be read.

        """
        try:
            yield from self.ignored.walk(self.path)
        except OSError as error:
            raise ImageError(f"the build context {self.path} cannot be read: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of everything that affects the image: paths, kinds, modes, links, contents, arguments.

        Times and owners are excluded, so two checkouts of one commit share an image. So is the group's write permission
        unless others have it too: it depends on whether the umask was 002 or 022.

        Raises:
            ImageError: a file of the context cannot be read.

        """
        digest = Digest()
        digest.add(self.adaptation.key if self.adaptation else PLAIN)
        for name, value in sorted(self.arguments):
            digest.add("argument", name, value)
        files = list(self.files())
        if self.name not in files:
            files.append(self.name)  # the builder reads it even if it is excluded
        try:
            for relative in files:
                path = self.path / relative
                status = path.lstat()
                mode = f"{_comparable(stat.S_IMODE(status.st_mode)):o}"
                if stat.S_ISLNK(status.st_mode):
                    digest.add("link", relative, str(path.readlink()))
                elif stat.S_ISDIR(status.st_mode):
                    digest.add("directory", relative, mode)
                elif stat.S_ISREG(status.st_mode):
                    digest.add("file", relative, mode, file_digest(path))
        except OSError as error:
            raise ImageError(f"the build context {self.path} cannot be read: {error}") from error
        return digest.hex()


def ignore_matcher(directory: Path, names: Sequence[str], *, always: Sequence[str] = ()) -> IgnoreMatcher:
    """Return the patterns of the first of these ignore files that exists in a directory.

    Args:
        directory: the directory.
        names: names of ignore files.
        always: patterns that apply before those of the file.

    Raises:
        ImageError: the ignore file cannot be read, or BuildKit would refuse it.

    """
    paths = (directory / name for name in names)
    path = next((path for path in paths if path.is_file()), None)
    try:
        found = read_patterns(path.read_bytes().decode("utf-8")) if path else []
        return IgnoreMatcher([*always, *found])
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path} cannot be read: {error}") from error


def _comparable(mode: int) -> int:
    return mode if mode & stat.S_IWOTH else mode & ~stat.S_IWGRP

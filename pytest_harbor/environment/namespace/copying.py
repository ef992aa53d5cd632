"""COPY and ADD: which files they take from a build context or an earlier stage, and how those get into a layer."""

from __future__ import annotations

import bz2
import contextlib
import fnmatch
import gzip
import hashlib
import io
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from pytest_harbor.environment.namespace.inside.cleanup import remove_tree
from pytest_harbor.environment.namespace.layers import Stack
from pytest_harbor.environment.namespace.sandbox import Sandbox
from pytest_harbor.environment.tar.pack import Upload, UploadError, pack
from pytest_harbor.image import BuildContext
from pytest_harbor.image.dockerfile import DockerfileError

Work = Callable[[Sandbox], None]
_COMPRESSED = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ": lzma.LZMAFile}


@dataclass(frozen=True)
class Copy:
    """A COPY or ADD.

    Attributes:
        sources: what to copy, patterns allowed.
        target: absolute path; one that ends with a slash is a directory.
        owner: `user:group` for what is copied; empty for root.
        mode: permission bits, -1 for the source's own.
        unpack: whether archives are unpacked.
        inline: contents of sources that stand in the Dockerfile itself.

    """

    sources: tuple[str, ...]
    target: str
    owner: str = ""
    mode: int = -1
    unpack: bool = False
    inline: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What decides on the outcome, beside the files themselves."""
        return (*self.sources, "", self.target, self.owner, str(self.mode), str(self.unpack))


def copy_from_context(copy: Copy, context: BuildContext) -> tuple[tuple[str, ...], Work]:
    """Return what decides on the outcome, and the work itself.

    Raises:
        DockerfileError: a source is not in the context.

    """
    uploads: list[Upload] = []
    archives: list[Path] = []
    into_directory = copy.target.endswith("/") or len(copy.sources) > 1
    found = _Context(context)
    for source in copy.sources:
        if source in copy.inline:
            uploads.append(Upload(f"/{source}", copy.inline[source]))
            continue
        matches = found.match(source)
        into_directory = into_directory or len(matches) > 1
        for match in matches:
            path = found.resolve(match)
            if path.is_dir():
                into_directory = True
                uploads += found.below(match, path)
            elif copy.unpack and tarfile.is_tarfile(path):
                into_directory = True
                archives.append(path)
            else:
                uploads.append(Upload(f"/{posixpath.basename(match)}", path))

    def work(sandbox: Sandbox) -> None:
        target = copy.target.rstrip("/") or "/"
        owner = copy.owner or "0:0"
        try:
            with pack(uploads) as archive:
                if into_directory or sandbox.is_directory(target):
                    sandbox.make_directory(target, owner)
                    sandbox.put(archive, target, owner, copy.mode)
                else:
                    parent, name = posixpath.split(target)
                    sandbox.put(archive, parent, owner, copy.mode, name)
        except UploadError as error:
            raise DockerfileError(str(error)) from error
        for path in archives:
            with _decompressed(path) as archive:
                sandbox.put(archive, target, copy.owner, copy.mode)

    return ("copy", *copy.key, _digest(uploads, archives)), work


def copy_from_stack(copy: Copy, stack: Stack) -> tuple[tuple[str, ...], Work]:
    """Return what decides on the outcome of a copy from an earlier stage, and the work itself."""
    sources = [posixpath.join("/", source) for source in copy.sources]

    def work(sandbox: Sandbox) -> None:
        place = stack.scratch(f"from-{os.getpid()}")
        with contextlib.ExitStack() as cleaning:
            cleaning.callback(remove_tree, str(place))
            origin = stack.sandbox(place)
            cleaning.callback(origin.close)
            target = copy.target.rstrip("/") or "/"
            single = (
                len(sources) == 1 and not any(c in sources[0] for c in "*?[") and not origin.is_directory(sources[0])
            )
            if single and not copy.target.endswith("/") and not sandbox.is_directory(target):
                parent, name = posixpath.split(target)
            else:
                parent, name = target, ""
                sandbox.make_directory(target, copy.owner)
            output, answer = origin.open(sources, contents=True)
            try:
                sandbox.put(output, parent, copy.owner, copy.mode, name)
            finally:
                os.close(output)
                try:
                    answer.wait(origin.lost)
                except FileNotFoundError as error:
                    raise DockerfileError(f"{error.args[0]} in that stage") from error

    return ("copy from", stack.chain or stack.base, *copy.key), work


class _Context:
    """The files of a build context, as .dockerignore leaves them."""

    def __init__(self, context: BuildContext) -> None:
        self._root = context.path
        self._paths: set[str] = {""}
        for path in context.copyable_files():
            while path and path not in self._paths:
                self._paths.add(path)
                path = posixpath.dirname(path)

    def match(self, source: str) -> list[str]:
        """Return the paths that a source means."""
        wanted = posixpath.normpath(source.lstrip("/") or ".")
        if wanted == ".":
            return [""]
        parts = wanted.split("/")
        if ".." in parts:
            raise DockerfileError(f"{source} is outside of the build context")
        found = [path for path in sorted(self._paths) if path and _matches(path.split("/"), parts)]
        if not found:
            raise DockerfileError(f"{source} is not in the build context, or .dockerignore leaves it out")
        return found

    def resolve(self, path: str) -> Path:
        """Follow the links of a source; those below a directory that is copied stay links."""
        real = (self._root / path).resolve()
        if self._root.resolve() not in (real, *real.parents):
            raise DockerfileError(f"{path} leads out of the build context")
        return real

    def below(self, match: str, path: Path) -> Iterator[Upload]:
        """Yield what is in a directory."""
        prefix = f"{path.relative_to(self._root.resolve()).as_posix()}/" if path != self._root.resolve() else ""
        for each in sorted(self._paths):
            if each and each.startswith(prefix) and each != match:
                yield Upload(f"/{each[len(prefix) :]}", self._root / each)


def _matches(path: list[str], pattern: list[str]) -> bool:
    return len(path) == len(pattern) and all(map(fnmatch.fnmatchcase, path, pattern))


def _digest(uploads: list[Upload], archives: list[Path]) -> str:
    """Return a digest of names, kinds, modes and contents: times differ between two checkouts of one commit."""
    total = hashlib.sha256()
    for upload in uploads:
        source = upload.source
        if not isinstance(source, Path):
            total.update(f"{upload.target}\0content\0{len(source or b'')}\0".encode("utf-8", "surrogateescape"))
            total.update(source or b"")
            continue
        status = source.lstat()
        kind = f"{upload.target}\0{stat.S_IFMT(status.st_mode)} {stat.S_IMODE(status.st_mode)}\0"
        total.update(kind.encode("utf-8", "surrogateescape"))
        if stat.S_ISLNK(status.st_mode):
            total.update(os.fsencode(source.readlink()) + b"\0")
        elif stat.S_ISREG(status.st_mode):
            total.update(_content(source))
    for path in archives:
        total.update(_content(path))
    return total.hexdigest()


def _content(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(partial(file.read, 1 << 20), b""):
            digest.update(chunk)
    return digest.digest()


@contextlib.contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        first = file.read(6)
    kind: Any = next((kind for magic, kind in _COMPRESSED.items() if first.startswith(magic)), io.FileIO)
    with kind(path) as source, tempfile.TemporaryFile() as plain:
        shutil.copyfileobj(source, plain)
        plain.flush()
        yield plain

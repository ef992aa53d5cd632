"""COPY and ADD: which files they take from the build context or an earlier stage, and how those get into a layer."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import posixpath
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pytest_harbor._util.files import Digest, file_digest
from pytest_harbor.environment.namespace.inside.cleanup import remove_tree
from pytest_harbor.environment.namespace.layers import LayerStack
from pytest_harbor.environment.namespace.sandbox import Sandbox
from pytest_harbor.environment.tar.pack import Upload, UploadError, pack
from pytest_harbor.image import BuildContext
from pytest_harbor.image.words import DockerfileError, path_pattern

LayerWriter = Callable[[Sandbox], None]
_COMPRESSED = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ": lzma.LZMAFile}


@dataclass(frozen=True)
class CopyInstruction:
    """A COPY or ADD.

    Attributes:
        sources: the paths or patterns to copy.
        target: absolute path; with a trailing slash, it is a directory.
        owner: `user:group` of the copies; empty for root.
        mode: permission bits of the copies; -1 for the source's own.
        unpack: whether tar archives are unpacked.
        inline: the content of sources that are heredocs, by name.

    """

    sources: tuple[str, ...]
    target: str
    owner: str = ""
    mode: int = -1
    unpack: bool = False
    inline: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What determines the layer, apart from the files."""
        return (*self.sources, "", self.target, self.owner, str(self.mode), str(self.unpack))

    @property
    def target_path(self) -> str:
        """The target without a trailing slash."""
        return self.target.rstrip("/") or "/"


def copy_from_context(copy: CopyInstruction, context: BuildContext) -> tuple[tuple[str, ...], LayerWriter]:
    """Return the key of a layer that copies from the build context, and the function that writes it.

    Raises:
        DockerfileError: a source is not in the context.

    """
    uploads: list[Upload] = []
    archives: list[Path] = []
    into_directory = copy.target.endswith("/") or len(copy.sources) > 1
    files = _ContextFiles(context)
    for source in copy.sources:
        if source in copy.inline:
            uploads.append(Upload(f"/{source}", copy.inline[source]))
            continue
        matches = files.match(source)
        into_directory = into_directory or len(matches) > 1
        for match in matches:
            path = files.resolve(match)
            if path.is_dir():
                into_directory = True
                uploads += files.below(match, path)
            elif copy.unpack and tarfile.is_tarfile(path):
                into_directory = True
                archives.append(path)
            else:
                uploads.append(Upload(f"/{posixpath.basename(match)}", path))

    def write(sandbox: Sandbox) -> None:
        target, owner = copy.target_path, copy.owner or "0:0"
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

    return ("copy", *copy.key, _digest(uploads, archives)), write


def copy_from_stage(copy: CopyInstruction, stack: LayerStack) -> tuple[tuple[str, ...], LayerWriter]:
    """Return the key of a layer that copies from an earlier stage, and the function that writes it."""
    sources = [posixpath.join("/", source) for source in copy.sources]

    def write(sandbox: Sandbox) -> None:
        scratch = stack.scratch_directory(f"from-{os.getpid()}")
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(remove_tree, str(scratch))
            origin = stack.start_sandbox(scratch)
            cleanup.callback(origin.close)
            target = copy.target_path
            single_file = (
                len(sources) == 1 and not any(c in sources[0] for c in "*?[") and not origin.is_directory(sources[0])
            )
            if single_file and not copy.target.endswith("/") and not sandbox.is_directory(target):
                parent, name = posixpath.split(target)
            else:
                parent, name = target, ""
                sandbox.make_directory(target, copy.owner)
            output, reply = origin.open(sources, contents=True)
            try:
                sandbox.put(output, parent, copy.owner, copy.mode, name)
            finally:
                os.close(output)
                try:
                    reply.wait(origin.lost_error)
                except FileNotFoundError as error:
                    raise DockerfileError(f"{error.args[0]} in that stage") from error

    return ("copy from", stack.id, *copy.key), write


class _ContextFiles:
    """The files of a build context that .dockerignore does not exclude."""

    def __init__(self, context: BuildContext) -> None:
        self._root = context.path
        self._paths: set[str] = {""}
        for path in context.files():
            while path and path not in self._paths:
                self._paths.add(path)
                path = posixpath.dirname(path)

    def match(self, source: str) -> list[str]:
        """Return the paths that match a source."""
        pattern = posixpath.normpath(source.lstrip("/") or ".")
        if pattern == ".":
            return [""]
        parts = pattern.split("/")
        if ".." in parts:
            raise DockerfileError(f"{source} is outside the build context")
        expressions = [path_pattern(part) for part in parts]
        found = [path for path in sorted(self._paths) if path and _matches(path.split("/"), expressions)]
        # A pattern that matches nothing is fine, as it is for BuildKit.
        if not found and not any(char in pattern for char in "*?["):
            raise DockerfileError(f"{source} is not in the build context, or .dockerignore excludes it")
        return found

    def resolve(self, path: str) -> Path:
        """Follow a source that is a link; links below a directory are copied as links."""
        real = (self._root / path).resolve()
        if self._root.resolve() not in (real, *real.parents):
            raise DockerfileError(f"{path} leads outside the build context")
        return real

    def below(self, match: str, path: Path) -> Iterator[Upload]:
        """Yield everything below a directory."""
        prefix = f"{path.relative_to(self._root.resolve()).as_posix()}/" if path != self._root.resolve() else ""
        for each in sorted(self._paths):
            if each and each.startswith(prefix) and each != match:
                yield Upload(f"/{each[len(prefix) :]}", self._root / each)


def _matches(path: list[str], pattern: list[re.Pattern[str]]) -> bool:
    return len(path) == len(pattern) and all(map(re.Pattern.fullmatch, pattern, path))


def _digest(uploads: list[Upload], archives: list[Path]) -> str:
    """Return a digest of names, kinds, modes and contents, but not times, which differ between two checkouts."""
    digest = Digest()
    for upload in uploads:
        source = upload.source
        if not isinstance(source, Path):
            digest.add(upload.target, "content", source or b"")
            continue
        status = source.lstat()
        content: str | bytes = b""
        if stat.S_ISLNK(status.st_mode):
            content = str(source.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = file_digest(source)
        digest.add(upload.target, f"{stat.S_IFMT(status.st_mode)} {stat.S_IMODE(status.st_mode)}", content)
    digest.add("archives", *map(file_digest, archives))
    return digest.hex()


@contextlib.contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        magic = file.read(6)
    opener: Any = next((opener for start, opener in _COMPRESSED.items() if magic.startswith(start)), io.FileIO)
    with opener(path) as source, tempfile.TemporaryFile() as plain:
        shutil.copyfileobj(source, plain)
        plain.flush()
        yield plain

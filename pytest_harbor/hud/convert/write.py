"""A conversion on disk: written beside the folder it is for, and put in its place as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pytest_harbor.errors import ConversionError
from pytest_harbor.hud.convert.files import File
from pytest_harbor.task.converted import TASKSET

# Which files a conversion wrote, so that the next one removes those and no others.
MANIFEST = ".pytest-harbor-convert.json"
_SHOWN = 3


class Target:
    """The folder that a conversion goes to.

    Args:
        path: the folder; it may be missing.

    Raises:
        ConversionError: it holds something that no conversion of ours has written.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._old = self._read_manifest()
        self._check_environments()

    def _read_manifest(self) -> frozenset[str]:
        """Return the paths that an earlier conversion wrote."""
        if not os.path.lexists(self.path) or (self.path.is_dir() and not any(self.path.iterdir())):
            return frozenset()
        fix = "give another folder, or remove it yourself"
        if not self.path.is_dir():
            raise ConversionError(f"{self.path} is not a directory", fix)
        try:
            listed = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["files"]
        except FileNotFoundError:
            raise ConversionError(f"{self.path} is not empty, and no conversion of pytest-harbor", fix) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConversionError(f"{self.path / MANIFEST} cannot be read: {error}", fix) from error
        return frozenset(path for path in listed if isinstance(path, str))

    @property
    def _folders(self) -> set[str]:
        """Names of the environments of the earlier conversion."""
        return {path.partition("/")[0] for path in self._old if "/" in path}

    def _check_environments(self) -> None:
        foreign = []
        for name in sorted(self._folders):
            for directory, _, names in os.walk(self.path / name):
                below = Path(directory).relative_to(self.path)
                foreign += [path for each in names if (path := (below / each).as_posix()) not in self._old]
        if foreign:
            more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
            raise ConversionError(
                f"{self.path} holds files that no conversion wrote: {', '.join(sorted(foreign)[:_SHOWN])}{more}",
                "move them away, or give another folder",
            )

    def write(self, files: Iterable[File]) -> None:
        """Write all files and put them in place; until then, and if that fails, what was there stays.

        Raises:
            ConversionError: something else is in the place of an environment.
            OSError: a file can be neither read nor written.

        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        try:
            new = work / "new"
            new.mkdir(mode=0o755)
            _write(new, files)
            self._swap(new, work / "old")
        finally:
            _remove(work)

    def _swap(self, new: Path, old: Path) -> None:
        """Move new entries in and old ones out; undone where that fails half-way."""
        self.path.mkdir(exist_ok=True)
        old.mkdir()
        ours = {*self._folders, TASKSET, MANIFEST} if self._old else set()
        coming = sorted(path.name for path in new.iterdir())
        for name in coming:
            if name not in ours and os.path.lexists(self.path / name):
                raise ConversionError(f"{self.path / name} was written by no conversion", "move it away")
        with _undoing() as move:
            for name in sorted(ours):
                if os.path.lexists(self.path / name):
                    move(self.path / name, old / name)
            for name in coming:
                move(new / name, self.path / name)


@contextlib.contextmanager
def _undoing() -> Iterator[Callable[[Path, Path], None]]:
    """Give a function that renames; all it did is undone where the block ends with an exception."""
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        source.rename(target)
        done.append((source, target))

    try:
        yield move
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _write(top: Path, files: Iterable[File]) -> None:
    written: list[str] = []
    directories: list[tuple[Path, int]] = []
    for file in files:
        path = top / file.path
        if file.content is None:
            path.mkdir()
            path.chmod(file.mode)
            continue
        if isinstance(file.content, bytes):
            path.write_bytes(file.content)
            path.chmod(file.mode)
        else:
            mode = file.content.lstat().st_mode
            if stat.S_ISDIR(mode):
                path.mkdir(mode=0o700)
                directories.append((path, stat.S_IMODE(mode)))
                continue
            if stat.S_ISLNK(mode):
                path.symlink_to(file.content.readlink())
            else:
                shutil.copyfile(file.content, path)
                path.chmod(stat.S_IMODE(mode))
        written.append(file.path.as_posix())
    # Last, as one may forbid to write into it.
    for path, bits in reversed(directories):
        path.chmod(bits)
    listed = json.dumps({"files": sorted(written)}, indent=1) + "\n"
    (top / MANIFEST).write_text(listed, encoding="utf-8")
    (top / MANIFEST).chmod(0o644)


def _remove(directory: Path) -> None:
    """Remove a tree of ours, directories that may not be written to included."""
    for below, names, _ in os.walk(directory):
        for name in names:
            path = Path(below, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(directory)

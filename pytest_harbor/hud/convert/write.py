"""Write a conversion to disk: into a temporary directory first, then moved into place as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pytest_harbor._util.text import listed
from pytest_harbor.errors import ConversionError
from pytest_harbor.hud.convert.files import OutputFile
from pytest_harbor.task.converted import TASKSET

# Lists the files that a conversion wrote, so that the next one removes those and no others.
MANIFEST = ".pytest-harbor-convert.json"


class OutputDirectory:
    """The output directory of a conversion.

    Args:
        path: the directory, which need not exist.

    Raises:
        ConversionError: it has content that no conversion of ours wrote.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._old = self._read_manifest()
        self._check_environments()

    def _read_manifest(self) -> frozenset[str]:
        """Return the paths that the earlier conversion wrote."""
        if not os.path.lexists(self.path) or (self.path.is_dir() and not any(self.path.iterdir())):
            return frozenset()
        fix = "choose another directory, or remove it first"
        if not self.path.is_dir():
            raise ConversionError(f"{self.path} is not a directory", fix)
        try:
            written = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["files"]
        except FileNotFoundError:
            raise ConversionError(f"{self.path} is not empty, and not written by this command", fix) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConversionError(f"{self.path / MANIFEST} cannot be read: {error}", fix) from error
        return frozenset(path for path in written if isinstance(path, str))

    @property
    def _old_environments(self) -> set[str]:
        """The names of the earlier conversion's environments."""
        return {path.partition("/")[0] for path in self._old if "/" in path}

    def _check_environments(self) -> None:
        foreign = []
        for name in sorted(self._old_environments):
            for directory, _, names in os.walk(self.path / name):
                below = Path(directory).relative_to(self.path)
                foreign += [path for each in names if (path := (below / each).as_posix()) not in self._old]
        if foreign:
            raise ConversionError(
                f"{self.path} has files that no conversion wrote: {listed(sorted(foreign), 3)}",
                "move them away, or choose another directory",
            )

    def write(self, files: Iterable[OutputFile]) -> None:
        """Write all files, then replace the earlier conversion; if anything fails, that one stays.

        Raises:
            ConversionError: something else exists at the path of a new environment.
            OSError: a file cannot be read or written.

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
        """Move the old entries out and the new ones in; roll back if that fails."""
        self.path.mkdir(exist_ok=True)
        old.mkdir()
        old_names = {*self._old_environments, TASKSET, MANIFEST} if self._old else set()
        new_names = sorted(path.name for path in new.iterdir())
        for name in new_names:
            if name not in old_names and os.path.lexists(self.path / name):
                raise ConversionError(f"{self.path / name} exists, and no conversion wrote it", "move it away")
        with _rolled_back_on_error() as move:
            for name in sorted(old_names):
                if os.path.lexists(self.path / name):
                    move(self.path / name, old / name)
            for name in new_names:
                move(new / name, self.path / name)


@contextlib.contextmanager
def _rolled_back_on_error() -> Iterator[Callable[[Path, Path], None]]:
    """Yield a function that renames a path; if the block raises, undo all its renames."""
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


def _write(top: Path, files: Iterable[OutputFile]) -> None:
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
    # Last, as the mode may make a directory read-only.
    for path, bits in reversed(directories):
        path.chmod(bits)
    manifest = json.dumps({"files": sorted(written)}, indent=1) + "\n"
    (top / MANIFEST).write_text(manifest, encoding="utf-8")
    (top / MANIFEST).chmod(0o644)


def _remove(directory: Path) -> None:
    """Remove a temporary tree, including read-only directories."""
    for below, names, _ in os.walk(directory):
        for name in names:
            path = Path(below, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(directory)

"""The Dockerfile that a Dockerfile.hud was made of, byte for byte, and its build context.

In a Dockerfile.hud of ours everything that is not the task's stands between two marks, or behind the title of the last
part; what was taken back is a comment. One of `hud convert` is read too, as far as that keeps what it was given.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pytest_harbor.errors import ImageError
from pytest_harbor.image.adaptation import ORIGINAL, header
from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.dockerfile import Dockerfile, DockerfileError, Piece
from pytest_harbor.task.converted import BASE_TITLE, GENERATED

BEGIN = "# >>> pytest-harbor"
END = "# <<< pytest-harbor"
NO_LINE_END = "# >>> pytest-harbor: the line above ends the original, which has no line end"
LAYER_TITLE = "HUD MCP server layer"
SOURCE = "# Source: "

_RULE, _, _ = header("").partition("\n")


def is_mark(line: str) -> bool:
    """Tell whether a line would be taken for one of ours."""
    return line.startswith(ORIGINAL) or line in (BEGIN, END, NO_LINE_END, f"# {LAYER_TITLE}", f"# {BASE_TITLE}")


def is_comment(piece: Piece) -> bool:
    """Tell a comment or an empty line from what is, or may become, an instruction."""
    return not piece.keyword and not piece.text.lstrip("\ufeff").strip().startswith(("\\", "`"))


def restore(text: str) -> str:
    """Return the Dockerfile that a Dockerfile.hud was made of.

    Raises:
        DockerfileError: it cannot be scanned.

    """
    ours = any(line.rstrip("\r\n") == BEGIN for line in text.split("\n"))
    # HUD goes by lines, wherever they stand; in ours, what looks like a mark within an instruction is part of that.
    if ours:
        parts = [(piece.text, is_comment(piece)) for piece in Dockerfile.parse(text).pieces]
    else:
        parts = [(line, True) for line in text.splitlines(keepends=True)]
    kept: list[str] = []
    within = False
    for part, comment in parts:
        line = part.lstrip("\ufeff").rstrip("\r\n") if comment else ""
        if line in (BEGIN, END):
            within = line == BEGIN
        elif within:
            continue
        elif line == NO_LINE_END:
            kept[-1] = kept[-1].removesuffix("\n")
        elif line == f"# {LAYER_TITLE}" and kept and kept[-1] == f"{_RULE}\n":
            del kept[-1]
            break
        elif line.startswith(ORIGINAL):
            kept.append(part[len(ORIGINAL) :])
        else:
            kept.append(part)
    return _without_base_title("".join(kept))


def _without_base_title(text: str) -> str:
    before, found, after = text.partition(f"{_RULE}\n# {BASE_TITLE}\n")
    if not found:
        return text
    return before + after.partition(f"{_RULE}\n")[2]


class ConvertedContext(BuildContext):
    """The build context of a converted environment: as it was before, without what was generated."""

    @contextlib.contextmanager
    def laid_out(self) -> Iterator[BuildContext]:
        """Give a directory as the tasks had it, as long as the block lasts.

        Raises:
            ImageError: the environment cannot be read.

        """
        with tempfile.TemporaryDirectory(prefix="pytest-harbor-") as temporary:
            directory = Path(temporary)
            try:
                text = restore(self.dockerfile.read_bytes().decode("utf-8", "surrogateescape"))
                _copy_context(self.path, directory)
                (directory / "Dockerfile").write_bytes(text.encode("utf-8", "surrogateescape"))
                shutil.copymode(self.dockerfile, directory / "Dockerfile")
            except (OSError, shutil.Error, DockerfileError) as error:
                raise ImageError(f"the converted environment {self.path} cannot be read: {error}") from error
            yield BuildContext(directory, self.arguments, self.adaptation)

    @cached_property
    def digest(self) -> str:
        """That of the context as it was: the image is the same one.

        Raises:
            ImageError: a file of the context cannot be read.

        """
        with self.laid_out() as context:
            return context.digest


def _copy_context(environment: Path, directory: Path) -> None:
    def link_or_copy(source: str, target: str) -> None:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target, follow_symlinks=False)

    for entry in environment.iterdir():
        # Not a Dockerfile either, which is no part of the format: the one that is restored must not be written into it.
        if entry.name in (*GENERATED, "Dockerfile"):
            continue
        target = directory / entry.name
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, target, symlinks=True, copy_function=link_or_copy)
        else:
            link_or_copy(str(entry), str(target))

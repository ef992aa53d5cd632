"""Restore the original Dockerfile and build context of a converted environment, byte for byte.

In our Dockerfile.hud, everything that is not from the task is between two markers or after the title of the last
section, and replaced instructions are kept as comments. Files from `hud convert` are read too, but that command does
not preserve every byte.
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
from pytest_harbor.image.dockerfile import Dockerfile, Piece
from pytest_harbor.image.words import DockerfileError
from pytest_harbor.task.converted import BASE_TITLE, GENERATED

BEGIN = "# >>> pytest-harbor"
END = "# <<< pytest-harbor"
NO_LINE_END = "# >>> pytest-harbor: the original ends with the line above, without a newline"
LAYER_TITLE = "HUD MCP server layer"
SOURCE = "# Source: "

_RULE, _, _ = header("").partition("\n")


def is_marker(line: str) -> bool:
    """Return True if restore() would take a line for a marker."""
    return line.startswith(ORIGINAL) or line in (BEGIN, END, NO_LINE_END, f"# {LAYER_TITLE}", f"# {BASE_TITLE}")


def is_comment(piece: Piece) -> bool:
    """Return True for a comment or blank line; False for anything that is, or could become, an instruction."""
    return not piece.keyword and not piece.text.lstrip("\ufeff").strip().startswith(("\\", "`"))


def restore(text: str) -> str:
    """Return the original text of a Dockerfile.hud.

    Raises:
        DockerfileError: the Dockerfile.hud cannot be parsed.

    """
    ours = any(line.rstrip("\r\n") == BEGIN for line in text.split("\n"))
    # HUD treats every line alike. In ours, a line inside an instruction is never a marker, even if it looks like one.
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
    """The build context of a converted environment, without the generated files and with the original Dockerfile."""

    @contextlib.contextmanager
    def materialized(self) -> Iterator[BuildContext]:
        """Yield a directory equal to the original build context, for the duration of the block.

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
        """The digest of the original context, so that both share one image.

        Raises:
            ImageError: a file of the context cannot be read.

        """
        with self.materialized() as context:
            return context.digest


def _copy_context(environment: Path, directory: Path) -> None:
    def link_or_copy(source: str, target: str) -> None:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target, follow_symlinks=False)

    for entry in environment.iterdir():
        # Skip a stray Dockerfile too: the restored one would be written through its hard link.
        if entry.name in (*GENERATED, "Dockerfile"):
            continue
        target = directory / entry.name
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, target, symlinks=True, copy_function=link_or_copy)
        else:
            link_or_copy(str(entry), str(target))

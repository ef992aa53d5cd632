"""Errors in tasks and datasets on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class TaskError(Exception):
    """A task that is broken on disk; it can be listed, but not built or graded.

    Attributes:
        path: the broken file (task.toml, instruction.md, tests/test.sh ...).
        reason: what is wrong with it, with the line and column or the table and key, if any.

    """

    def __init__(self, path: Path, reason: str) -> None:
        # Both go to args, so that the error can be pickled.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class DatasetError(Exception):
    """A path that does not exist or contains no task, or a pattern without a match; the message includes a fix."""

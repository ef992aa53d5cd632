"""What can be wrong with tasks and datasets on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class TaskError(Exception):
    """A task that is broken on disk: it can be listed, but neither built nor graded.

    Attributes:
        path: the file at fault (task.toml, instruction.md, tests/test.sh ...).
        reason: what is wrong with it, with line and column or table and key where there are any.

    """

    def __init__(self, path: Path, reason: str) -> None:
        # Both go to args, so that the error survives the pickling between pytest-xdist's processes.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class DatasetError(Exception):
    """A path that does not exist or holds no task, or a pattern that matches none; the message has a fix."""

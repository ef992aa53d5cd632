"""How an error that ended a trial, or a try of it, is told and kept."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

from pytest_harbor.errors import InfrastructureError
from pytest_harbor.task import TaskError
from pytest_harbor.task.variables import MissingVariable


def describe(error: BaseException) -> str:
    """Return an error in a message that says of what kind it is, unless its own words are enough."""
    text = str(error) or type(error).__name__
    if isinstance(error, InfrastructureError | TaskError | MissingVariable):
        return text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {text}"


def keep_traceback(error: BaseException, directory: Path) -> None:
    """Write exception.txt into a trial's directory, if that can be written."""
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        lines = traceback.format_exception(error)
        (directory / "exception.txt").write_text("".join(lines), encoding="utf-8", errors="replace")

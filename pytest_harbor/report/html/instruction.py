"""The instruction of a task, from its directory."""

from __future__ import annotations

from pathlib import Path

from pytest_harbor._util.text import shorten
from pytest_harbor.report.html.markup import Markup, tag
from pytest_harbor.task.canary import strip_canary

MAX_CHARACTERS = 20_000


def instruction(task_path: str, room: int) -> Markup | None:
    """Return the instruction, folded; None if it cannot be read.

    Args:
        task_path: the task's directory.
        room: the most characters to show.

    """
    text = shorten(_read(task_path), max(200, room))
    return tag("details", tag("summary", "Instruction"), tag("pre", text)) if text else None


def _read(task_path: str) -> str:
    path = Path(task_path) / "instruction.md"
    try:
        if not task_path or not path.is_file():
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return strip_canary(file.read(MAX_CHARACTERS)).strip()
    except (OSError, ValueError):
        return ""

"""Workflow commands of GitHub Actions: write one, and keep other output from being one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pytest_harbor._util.text import one_line


def is_github_actions(environ: Mapping[str, str]) -> bool:
    """Return True in a job of GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


def command(level: str, title: str, text: str, location: str) -> str:
    """Return the command that annotates a run, or a file if there is a location."""
    position = f"file={_property(location)},line=1," if location else ""
    return f"::{level} {position}title={_property(one_line(title))}::{_data(one_line(text))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def escape_commands(text: str) -> str:
    """Return a text without workflow commands: no line that begins with `::x`, and no `##[x]` anywhere."""
    return re.sub(r"##(?=\[)", "##\\\\", re.sub(r"(?m)^(\s*):(?=:)", r"\1\\:", text))


class EscapingReporter:
    """A wrapper of pytest's terminal reporter that escapes workflow commands in every line."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reporter, name)

    def write_line(self, line: str, **markup: bool) -> None:
        """Write a line."""
        self._reporter.write_line(escape_commands(line), **markup)

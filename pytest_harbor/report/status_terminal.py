"""A terminal with status lines below the output of pytest."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from typing import Any

from pytest_harbor._util.columns import cut, width


class StatusTerminal:
    """The file behind pytest's terminal, with status lines below the output; the next output replaces them.

    Args:
        file: the file.
        column: column of its cursor.
        screen: where the status goes, if pytest's file leads elsewhere while a test runs; it has the same cursor.
            A line that lines of a log interrupt, such as one with the name of the test, is then written again.

    """

    def __init__(self, file: Any, column: int = 0, *, screen: Any = None) -> None:
        self._file = file
        self._screen = screen or file
        self._paused = False
        # The last line of the output so far, and what of it is to be written again.
        self._line = self._interrupted = ""
        self._column = column
        # How many columns of the cursor's line hold text.
        self._extent = column
        self._shown = False
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write pytest's output."""
        with self._lock:
            self.clear_status()
            count = len(text)
            text, self._interrupted = self._interrupted + text, ""
            self._file.write(text)
            self._line = (self._line + text).rpartition("\n")[2]
            if self._screen is not self._file:
                # Later, it would end up in the output that pytest captures.
                self._file.flush()
            for part in re.split(r"([\r\n])", text):
                self._column = 0 if part in ("\r", "\n") else self._column + width(part)
                self._extent = 0 if part == "\n" else max(self._extent, self._column)
            return count

    def show_status(self, lines: Sequence[str], columns: int) -> None:
        """Show status lines below the output and put the cursor back.

        Args:
            lines: the lines; each is cut to the width.
            columns: width of the terminal.

        """
        with self._lock:
            self.clear_status()
            if self._paused:
                return
            # The cursor cannot be put back beyond the last column, and clearing erases any text to its right.
            if not lines or self._column >= columns or self._column < self._extent:
                return
            fitting = [cut(line, columns - 1) for line in lines]
            down = "\n" if self._column else ""
            rows = len(fitting) - (0 if down else 1)
            up = f"\x1b[{rows}A" if rows else ""
            right = f"\x1b[{self._column}C" if self._column else ""
            self._screen.write(f"{down}{chr(10).join(fitting)}\r{up}{right}")
            self._screen.flush()
            self._shown = True

    def clear_status(self) -> None:
        """Erase the status lines."""
        with self._lock:
            if self._shown:
                self._shown = False
                self._screen.write("\x1b[J")
                self._screen.flush()

    def pause(self) -> None:
        """Show no status until resume(), because someone else uses the terminal."""
        with self._lock:
            self.clear_status()
            self._paused = True

    def resume(self) -> None:
        """Show the status again."""
        self._paused = False

    def write_log_line(self, line: str) -> None:
        """Write a line of its own into pytest's output."""
        with self._lock:
            if self._paused:
                return
            self._screen.write(f"{chr(10) if self._extent else ''}{line}\n")
            self._screen.flush()
            self._column = self._extent = 0
            if self._screen is not self._file:
                self._interrupted, self._line = self._interrupted or self._line, ""


def is_interactive(file: Any, *, markup: bool) -> bool:
    """Return True if status lines can come and go: a terminal with escape sequences that a person may look at."""
    return bool(markup and file.isatty() and not os.environ.get("CI") and os.environ.get("TERM", "dumb") != "dumb")

"""What is in work while pytest-xdist runs: a line a trial below what pytest prints, or now and then a line in a log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_harbor._util.process import is_alive, machine_id
from pytest_harbor._util.text import attempt_label, one_line

if TYPE_CHECKING:
    from pytest_harbor.plugin.session import HarborSession

# Seconds between looks: at a terminal, and in a log.
LIVE = 1.0
LOG = 60.0
# Lines at most, and lines of the terminal that are left to pytest.
MANY = 16
SPARED = 6
NAMED = 8


@dataclass(frozen=True, order=True)
class Work:
    """A trial that is in work, by when its phase began; `named` says that there are several agents."""

    since: float
    task: str
    agent: str
    attempt: int
    phase: str
    named: bool = False

    def told(self, now: float) -> str:
        """Return task, phase and seconds."""
        told = one_line(attempt_label(self.agent if self.named else "", self.attempt))
        trial = f"{one_line(self.task)}[{told}]" if told else one_line(self.task)
        return f"{trial} {self.phase or 'begins'} {max(0, now - self.since):.0f} s"


class Notes:
    """Reads the notes that workers keep of their trials, those that have ended only once.

    Args:
        directory: of the run.
        named: whether there are several agents.

    """

    def __init__(self, directory: Path, *, named: bool = False) -> None:
        self._directory = directory
        self._named = named
        self._over: set[str] = set()

    def in_work(self) -> list[Work]:
        """Return the trials in work, the one longest in its phase first."""
        try:
            names = sorted(set(os.listdir(self._directory)) - self._over)  # noqa: PTH208 - names are enough
        except OSError:
            return []
        return sorted(work for name in names if (work := self._read(name)))

    def _read(self, name: str) -> Work | None:
        file = self._directory / name / "trial.json"
        try:
            since = file.stat().st_mtime
            data: Any = json.loads(file.read_text(encoding="utf-8"))
            if data["state"] != "running":
                self._over.add(name)
            elif data["machine"] == machine_id() and is_alive(data["owner"]):
                texts = [str(data[name]) for name in ("task", "agent", "now")]
                return Work(since, texts[0], texts[1], int(data["attempt"]), texts[2], self._named)
        except (OSError, ValueError, TypeError, KeyError):
            # It is about to be made, or is not the directory of a trial.
            pass
        return None


class Screen:
    """The file behind pytest's terminal, with lines below what was printed that give way to whatever is printed next.

    Args:
        file: the file.
        column: where its cursor is.

    """

    def __init__(self, file: Any, column: int = 0) -> None:
        self._file = file
        self._column = column
        # How far the cursor's line is written on.
        self._extent = column
        self._shown = False
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write what pytest prints."""
        with self._lock:
            self.clear()
            count: int = self._file.write(text)
            for part in re.split(r"([\r\n])", text):
                self._column = 0 if part in ("\r", "\n") else self._column + _width(part)
                self._extent = 0 if part == "\n" else max(self._extent, self._column)
            return count

    def show(self, lines: Sequence[str], width: int) -> None:
        """Show lines below what was printed, and leave the cursor where it was."""
        with self._lock:
            self.clear()
            # A cursor behind the last column cannot be put back there, and what is behind it would go with the lines.
            if not lines or self._column >= width or self._column < self._extent:
                return
            cut = [_cut(line, width - 1) for line in lines]
            down = "\n" if self._column else ""
            rows = len(cut) - (0 if down else 1)
            up = f"\x1b[{rows}A" if rows else ""
            right = f"\x1b[{self._column}C" if self._column else ""
            self._file.write(f"{down}{chr(10).join(cut)}\r{up}{right}")
            self._file.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the lines away again."""
        with self._lock:
            if self._shown:
                self._shown = False
                self._file.write("\x1b[J")
                self._file.flush()

    def say(self, line: str) -> None:
        """Print a line between what pytest prints."""
        with self._lock:
            self._file.write(f"{chr(10) if self._extent else ''}{line}\n")
            self._file.flush()
            self._column = self._extent = 0


def _width(text: str) -> int:
    """Return how many columns a text takes."""
    plain = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)
    return sum(_columns(character) for character in plain)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, width: int) -> str:
    kept, taken = "", 0
    for character in text:
        taken += _columns(character)
        if taken > width:
            break
        kept += character
    return kept


class Watch(threading.Thread):
    """Tells what is in work, until it is over.

    Args:
        notes: where that is read.
        screen: where it is told.
        live: whether at a terminal.

    """

    def __init__(self, notes: Notes, screen: Screen, *, live: bool) -> None:
        super().__init__(name="harbor-progress", daemon=True)
        self._notes = notes
        self._screen = screen
        self._live = live
        self._over = threading.Event()

    def run(self) -> None:
        """Look and tell, until it is over or nobody listens any more."""
        with contextlib.suppress(OSError, ValueError):
            while not self._over.wait(LIVE if self._live else LOG):
                works = self._notes.in_work()
                if self._over.is_set():
                    break
                if self._live:
                    size = shutil.get_terminal_size()
                    self._screen.show(lines(works, time.time(), min(MANY, size.lines - SPARED)), size.columns)
                elif works:
                    self._screen.say(line(works, time.time()))

    def end(self) -> None:
        """Stop, and leave nothing on the screen."""
        self._over.set()
        self.join(timeout=5)
        with contextlib.suppress(OSError, ValueError):
            self._screen.clear()


def lines(works: Sequence[Work], now: float, room: int) -> list[str]:
    """Return a line a trial, as many as there is room for."""
    if room < 1:
        return []
    shown = works if len(works) <= room else works[: room - 1]
    told = [f"  {work.told(now)}" for work in shown]
    return told if len(shown) == len(works) else [*told, f"  and {len(works) - len(shown)} more in work"]


def line(works: Sequence[Work], now: float) -> str:
    """Return all of them in a line."""
    more = f" and {len(works) - NAMED} more" if len(works) > NAMED else ""
    return f"harbor: in work: {', '.join(work.told(now) for work in works[:NAMED])}{more}"


@contextlib.contextmanager
def watched(session: HarborSession) -> Iterator[None]:
    """Tell what is in work while the workers of pytest-xdist run; without them, the one trial shows by itself."""
    config = session.config
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    writer = getattr(reporter, "_tw", None)
    wanted = session.runs_trials and config.pluginmanager.has_plugin("dsession")
    if writer is None or not hasattr(writer, "_file") or not wanted or config.option.verbose < 0:
        yield
        return
    kept = writer._file
    screen = Screen(kept, writer.width_of_current_line)
    notes = Notes(session.run.directory, named=bool(session.agents.listed))
    watch = Watch(notes, screen, live=_is_live(kept, writer.hasmarkup))
    writer._file = screen
    watch.start()
    try:
        yield
    finally:
        watch.end()
        writer._file = kept


def _is_live(file: Any, markup: bool) -> bool:
    """Tell whether lines can come and go: at a terminal that takes escape sequences, and where a person may look."""
    return bool(markup and file.isatty() and not os.environ.get("CI") and os.environ.get("TERM", "dumb") != "dumb")

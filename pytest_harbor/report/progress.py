"""Live progress of a run in several processes: a status line per trial at a terminal, or one line a minute in a log."""

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
from typing import Any

from pytest_harbor._util.process import is_alive, machine_id
from pytest_harbor._util.text import attempt_label, listed, one_line

# Seconds between updates at a terminal and in a log.
REFRESH_SECONDS = 1.0
LOG_SECONDS = 60.0
# The most status lines, and the lines of the terminal reserved for pytest.
MAX_LINES = 16
RESERVED_LINES = 6
# The most trials named in one line of a log.
MAX_IN_LOG = 8


@dataclass(frozen=True, order=True)
class RunningTrial:
    """A trial that is running; they sort by the time their phase began.

    Attributes:
        since: when the phase began, in seconds since the epoch.
        phase: name of the phase; empty before the first.
        name_agent: whether to name the agent, because the run has several.

    """

    since: float
    task: str
    agent: str
    attempt: int
    phase: str
    name_agent: bool = False

    def describe(self, now: float) -> str:
        """Return task, phase and seconds, such as "tb2/hello[2] agent 12 s"."""
        label = one_line(attempt_label(self.agent if self.name_agent else "", self.attempt))
        trial = f"{one_line(self.task)}[{label}]" if label else one_line(self.task)
        return f"{trial} {self.phase or 'preparing'} {max(0, now - self.since):.0f} s"


class TrialMonitor:
    """Finds the running trials of a run by their trial.json files; a finished trial is read only once.

    Args:
        directory: directory of the run.
        name_agents: whether the run has several agents.

    """

    def __init__(self, directory: Path, *, name_agents: bool = False) -> None:
        self._directory = directory
        self._name_agents = name_agents
        self._finished: set[str] = set()

    def running(self) -> list[RunningTrial]:
        """Return the running trials, the one longest in its phase first."""
        try:
            names = sorted(set(os.listdir(self._directory)) - self._finished)  # noqa: PTH208 - names are enough
        except OSError:
            return []
        return sorted(trial for name in names if (trial := self._read(name)))

    def _read(self, name: str) -> RunningTrial | None:
        file = self._directory / name / "trial.json"
        try:
            since = file.stat().st_mtime
            data: Any = json.loads(file.read_text(encoding="utf-8"))
            if data["state"] != "running":
                self._finished.add(name)
            elif data["machine"] == machine_id() and is_alive(data["owner"]):
                task, agent, phase = (str(data[key]) for key in ("task", "agent", "now"))
                return RunningTrial(since, task, agent, int(data["attempt"]), phase, self._name_agents)
        except (OSError, ValueError, TypeError, KeyError):
            # Not written yet, or not a trial's directory.
            pass
        return None


class StatusTerminal:
    """The file behind pytest's terminal, with status lines below the output; the next output replaces them.

    Args:
        file: the file.
        column: column of its cursor.

    """

    def __init__(self, file: Any, column: int = 0) -> None:
        self._file = file
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
            count: int = self._file.write(text)
            for part in re.split(r"([\r\n])", text):
                self._column = 0 if part in ("\r", "\n") else self._column + _width(part)
                self._extent = 0 if part == "\n" else max(self._extent, self._column)
            return count

    def show_status(self, lines: Sequence[str], width: int) -> None:
        """Show status lines below the output and put the cursor back.

        Args:
            lines: the lines; each is cut to the width.
            width: columns of the terminal.

        """
        with self._lock:
            self.clear_status()
            # The cursor cannot be put back beyond the last column, and clearing erases any text to its right.
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

    def clear_status(self) -> None:
        """Erase the status lines."""
        with self._lock:
            if self._shown:
                self._shown = False
                self._file.write("\x1b[J")
                self._file.flush()

    def write_log_line(self, line: str) -> None:
        """Write a line of its own into pytest's output."""
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


class _ProgressThread(threading.Thread):
    def __init__(self, monitor: TrialMonitor, terminal: StatusTerminal, *, live: bool) -> None:
        super().__init__(name="harbor-progress", daemon=True)
        self._monitor = monitor
        self._terminal = terminal
        self._live = live
        self._stopped = threading.Event()

    def run(self) -> None:
        """Report the running trials until stop() or until the terminal is closed."""
        with contextlib.suppress(OSError, ValueError):
            while not self._stopped.wait(REFRESH_SECONDS if self._live else LOG_SECONDS):
                trials = self._monitor.running()
                if self._stopped.is_set():
                    break
                if self._live:
                    size = shutil.get_terminal_size()
                    room = min(MAX_LINES, size.lines - RESERVED_LINES)
                    self._terminal.show_status(status_lines(trials, time.time(), room), size.columns)
                elif trials:
                    self._terminal.write_log_line(log_line(trials, time.time()))

    def stop(self) -> None:
        """Stop and erase the status lines."""
        self._stopped.set()
        self.join(timeout=5)
        with contextlib.suppress(OSError, ValueError):
            self._terminal.clear_status()


def status_lines(trials: Sequence[RunningTrial], now: float, room: int) -> list[str]:
    """Return a line per trial, at most `room` lines."""
    if room < 1:
        return []
    shown = trials if len(trials) <= room else trials[: room - 1]
    lines = [f"  {trial.describe(now)}" for trial in shown]
    return lines if len(shown) == len(trials) else [*lines, f"  and {len(trials) - len(shown)} more"]


def log_line(trials: Sequence[RunningTrial], now: float) -> str:
    """Return the running trials as one line."""
    return f"harbor: running: {listed([trial.describe(now) for trial in trials], MAX_IN_LOG)}"


@contextlib.contextmanager
def show_progress(
    directory: Path, terminal: StatusTerminal, *, live: bool, name_agents: bool = False
) -> Iterator[None]:
    """Report the running trials from a thread, as long as the context is open.

    Args:
        directory: directory of the run.
        terminal: where to report them.
        live: True for status lines, False for lines in a log.
        name_agents: whether the run has several agents.

    """
    thread = _ProgressThread(TrialMonitor(directory, name_agents=name_agents), terminal, live=live)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


def is_interactive(file: Any, *, markup: bool) -> bool:
    """Return True if status lines can come and go: a terminal with escape sequences that a person may look at."""
    return bool(markup and file.isatty() and not os.environ.get("CI") and os.environ.get("TERM", "dumb") != "dumb")

"""Live progress: status lines at a terminal, or one line a minute in a log."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence

from pytest_harbor._util import columns
from pytest_harbor._util.text import listed
from pytest_harbor.report.monitor import RunningTrial, RunState, TrialMonitor
from pytest_harbor.report.status_terminal import StatusTerminal

# Seconds between updates at a terminal and in a log.
REFRESH_SECONDS = 1.0
LOG_SECONDS = 60.0
# The most status lines, and the lines of the terminal reserved for pytest.
MAX_LINES = 16
RESERVED_LINES = 6
# The most trials named in one line of a log.
MAX_IN_LOG = 8


class _ProgressThread(threading.Thread):
    def __init__(self, monitor: TrialMonitor, terminal: StatusTerminal, *, live: bool) -> None:
        super().__init__(name="harbor-progress", daemon=True)
        self._monitor = monitor
        self._terminal = terminal
        self._live = live
        self._stopped = threading.Event()

    def run(self) -> None:
        """Report the run's state until stop() or until the terminal is closed."""
        with contextlib.suppress(OSError, ValueError):
            while not self._stopped.wait(REFRESH_SECONDS if self._live else LOG_SECONDS):
                state = self._monitor.state(time.time())
                if self._stopped.is_set():
                    break
                if self._live:
                    size = shutil.get_terminal_size()
                    room = min(MAX_LINES, size.lines - RESERVED_LINES)
                    self._terminal.show_status(status_lines(state, time.time(), room, size.columns), size.columns)
                elif state.running:
                    self._terminal.write_log_line(log_line(state, time.time()))

    def stop(self) -> None:
        """Stop and erase the status lines."""
        self._stopped.set()
        self.join(timeout=5)
        with contextlib.suppress(OSError, ValueError):
            self._terminal.clear_status()


def status_lines(state: RunState, now: float, room: int, width: int) -> list[str]:
    """Return a line for the run and a line per running trial; nothing if none is running.

    Args:
        state: the state of the run.
        now: the time, in seconds since the epoch.
        room: the most lines.
        width: columns of the terminal.

    """
    trials = state.running
    if room < 2 or not trials:
        return []
    shown = trials if len(trials) < room else trials[: room - 2]
    lines = [f"harbor: {summary(state)}", *_aligned(shown, now, width)]
    return lines if len(shown) == len(trials) else [*lines, f"  and {len(trials) - len(shown)} more"]


def _aligned(trials: Sequence[RunningTrial], now: float, width: int) -> list[str]:
    times = [duration(now - trial.since) for trial in trials]
    phases = max(len(trial.phase) for trial in trials)
    seconds = max(map(len, times))
    # Two blanks before and between the columns, and one column that stays free.
    names = min(max(columns.width(trial.name) for trial in trials), max(8, width - phases - seconds - 7))
    lines = []
    for trial, spent in zip(trials, times, strict=True):
        name = columns.pad(columns.fit_middle(trial.name, names), names)
        lines.append(f"  {name}  {trial.phase.ljust(phases)}  {spent.rjust(seconds)}")
    return lines


def log_line(state: RunState, now: float) -> str:
    """Return the state of a run as one line."""
    trials = [f"{trial.name} {trial.phase} {duration(now - trial.since)}" for trial in state.running]
    return f"harbor: {summary(state)}; running: {listed(trials, MAX_IN_LOG)}"


def summary(state: RunState) -> str:
    """Return how far a run is: "3 of 7 done, about 4 min left, 1 not passed"."""
    parts = [f"{state.done:,} of {state.total:,} done" if state.total else f"{state.done:,} done"]
    if state.seconds_left is not None and state.seconds_left >= 1:
        parts.append(f"about {_roughly(state.seconds_left)} left")
    if state.not_passed:
        parts.append(f"{state.not_passed:,} not passed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration for people: "59 s", "12 min 5 s", "2 h 10 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _roughly(seconds: float) -> str:
    return duration(seconds) if seconds < 60 else duration(60 * round(seconds / 60)).removesuffix(" 0 s")


@contextlib.contextmanager
def show_progress(monitor: TrialMonitor, terminal: StatusTerminal, *, live: bool) -> Iterator[None]:
    """Report the state of a run from a thread, as long as the context is open.

    Args:
        monitor: the run's state.
        terminal: where to report it.
        live: True for status lines, False for lines in a log.

    """
    thread = _ProgressThread(monitor, terminal, live=live)
    thread.start()
    try:
        yield
    finally:
        thread.stop()

"""Live progress, at a terminal and in a log."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_harbor.report import progress
from pytest_harbor.report.progress import RunningTrial, StatusTerminal, TrialMonitor, log_line, status_lines
from pytest_harbor.results import Run
from pytest_harbor.trial import TrialResult


class Terminal:
    """A minimal terminal: it wraps, scrolls, and knows the escape sequences that the status lines use."""

    def __init__(self, width: int = 20, height: int = 6) -> None:
        self.width, self.height = width, height
        self.rows = [""]
        self.row = self.column = 0

    def write(self, text: str) -> int:
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.|\n", text, flags=re.S):
            if part == "\n":
                self._down()
                self.column = 0
            elif part == "\r":
                self.column = 0
            elif part[0] == "\x1b":
                self._control(int(re.sub(r"\D", "", part) or 1), part[-1])
            else:
                if self.column == self.width:
                    self._down()
                    self.column = 0
                line = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1
        return len(text)

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")

    def _control(self, number: int, what: str) -> None:
        if what == "A":
            self.row = max(self.row - number, len(self.rows) - self.height, 0)
        elif what == "C":
            self.column = min(self.column + number, self.width - 1)
        elif what == "J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            del self.rows[self.row + 1 :]
        else:
            assert what == "m", f"unknown escape sequence: {what}"

    def flush(self) -> None:
        pass

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows)


PRINTED = st.text("ab .\n\r", max_size=30)
STATUS = st.lists(st.text("xyz", min_size=1, max_size=40), max_size=4)


@given(st.lists(st.tuples(PRINTED, STATUS), max_size=10))
@example(steps=[("a" * 21, ["x"])])
def test_status_lines_leave_no_trace_in_the_output(steps):
    plain, terminal = Terminal(), Terminal()
    screen = StatusTerminal(terminal)
    written = ""
    for text, status in steps:
        written += text
        plain.write(text)
        screen.write(text)
        screen.show_status(status, 20)
        assert (terminal.row, terminal.column) == (plain.row, plain.column)
        behind = plain.column < len(plain.rows[-1])
        # Once the terminal has wrapped a line, its width is unknown until the next line.
        wide = len(re.split(r"[\r\n]", written)[-1]) >= 20
        assert not status or wide or plain.column >= 20 or behind or re.search(r"[xyz]", terminal.text())
    screen.clear_status()
    assert terminal.text() == plain.text()


def test_status_lines_are_below_and_cut_to_the_width():
    terminal = Terminal()
    screen = StatusTerminal(terminal)
    screen.write("....")
    screen.show_status(["x" * 30, "日本" * 20], 20)
    screen.write("F")
    screen.show_status(["y"], 20)
    assert terminal.text() == "....F\ny"
    screen.show_status(["x" * 30], 20)
    assert terminal.text().splitlines()[1] == "x" * 19


def test_colors_take_no_columns():
    terminal = Terminal()
    screen = StatusTerminal(terminal)
    screen.write("\x1b[32m..\x1b[0m")
    screen.show_status(["x"], 20)
    screen.write(".")
    assert terminal.text() == "..."


def test_log_line_is_on_a_line_of_its_own():
    terminal = Terminal(80)
    screen = StatusTerminal(terminal)
    for text in ("...", "..\n", "."):
        screen.write(text)
        screen.write_log_line("running")
    assert terminal.text().splitlines() == ["...", "running", "..", "running", ".", "running"]


def test_status_has_phase_and_seconds():
    trials = [RunningTrial(float(n), f"tb2/{n}\x1b[2J\n", "bot", n + 1, "agent" if n else "") for n in range(5)]
    assert status_lines(trials, 100.0, 10)[:2] == ["  tb2/0 preparing 100 s", "  tb2/1[2] agent 99 s"]
    assert status_lines(trials, 100.0, 3) == [*status_lines(trials, 100.0, 10)[:2], "  and 3 more"]
    assert status_lines(trials, 100.0, 0) == []
    assert log_line(trials * 3, 100.0).endswith("s and 7 more")
    named = [RunningTrial(0.0, "tb2/a", "bot", number, "agent", name_agent=True) for number in (1, 2)]
    assert status_lines(named, 1.0, 9) == ["  tb2/a[bot] agent 1 s", "  tb2/a[bot-2] agent 1 s"]


def test_monitor_finds_running_trials_only(tmp_path, monkeypatch):
    run = Run(tmp_path, "r")
    monitor = TrialMonitor(run.directory)
    assert monitor.running() == []
    for name, state in (("a", "running"), ("b", "finished"), ("c", "retried"), ("d", "running"), ("e", "running")):
        given = {"run": "r", "task": f"tb2/{name}", "dataset": "tb2", "task_path": "", "agent": "bot", "attempt": 1}
        run.note(TrialResult(**given, directory=str(run.directory / name)), state, "verify")
    gone = run.directory / "d" / "trial.json"
    gone.write_text(json.dumps({**json.loads(gone.read_text()), "owner": "1.never"}))
    (run.directory / "e" / "trial.json").write_text("{")
    (run.directory / "images").mkdir()
    (trial,) = monitor.running()
    assert (trial.task, trial.phase) == ("tb2/a", "verify")
    assert abs(trial.since - time.time()) < 60
    monkeypatch.setattr(progress, "is_alive", lambda token: True)
    assert [trial.task for trial in monitor.running()] == ["tb2/a", "tb2/d"]
    assert monitor._finished == {"b", "c"}, "finished trials are not read again"


QUICK_REFRESH = """
import pytest_harbor.report.progress

pytest_harbor.report.progress.REFRESH_SECONDS = 0.1
pytest_harbor.report.progress.LOG_SECONDS = 0.3
"""
SLOW_AGENT = """
import time


def work(task, environment):
    time.sleep(2)
"""
WORDS = ("--harbor-dataset=tb2", "--harbor-agent=slow_agent.py:work", "-n", "2", "-p", "no:cacheprovider")


@pytest.fixture
def slow(project):
    project.rewards(**dict.fromkeys("abcd", 1.0))
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + QUICK_REFRESH)
    project.file("slow_agent.py", SLOW_AGENT)
    return project


def run_at_a_terminal(project, *words: str, **environ: str) -> str:
    """Run pytest at a terminal of 100 columns and return every byte that it wrote there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", **environ}
    for name in {"CI", "PY_COLORS", "NO_COLOR", "FORCE_COLOR"} - environ.keys():
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", *WORDS, *words]
    with subprocess.Popen(
        command, cwd=project.path, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as pytest_process:
        os.close(theirs)
        output = b""
        while pytest_process.poll() is None or select.select([ours], [], [], 0.2)[0]:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    output += os.read(ours, 65536)
                except OSError:
                    break
        os.close(ours)
    assert pytest_process.returncode == 0, output.decode()
    return output.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("-v",), ("-s",)], ids=["dots", "v", "s"])
def test_terminal_shows_running_trials_and_keeps_no_trace(slow, words):
    output = run_at_a_terminal(slow, *words)
    assert re.search(r"  tb2/[abcd] agent [012] s\n", output)
    assert re.search(r"  tb2/[abcd] agent [012] s\n  tb2/[abcd] agent [012] s\r", output), "two workers, two lines"
    terminal = Terminal(100, 40)
    terminal.write(output)
    kept = terminal.text()
    assert " agent 1 s" not in kept
    assert not re.search(r"^  (tb2/|and )|harbor: running", kept, flags=re.M)
    assert re.search(r"^=+ 4 passed in ", kept, flags=re.M)
    if words == ("-v",):
        ended = r"^\[gw[01]\] \[ *\d+%\] PASSED reward 1.00 tb2/\w/task.toml::\w *$"
        assert len(re.findall(ended, kept, flags=re.M)) == 4
    else:
        assert re.search(r"^\.\.\.\.( +\[100%\])?$", kept, flags=re.M)


@pytest.mark.slow
@pytest.mark.parametrize("words, environ", [(("-q",), {}), ((), {"CI": "true"}), ((), {"TERM": "dumb"})])
def test_no_cursor_moves_unless_a_person_watches(slow, words, environ):
    output = run_at_a_terminal(slow, *words, **environ)
    assert not re.search(r"\x1b\[\d*[AJ]", output.partition("items]")[2])
    assert ("harbor: running: " in output) == (not words)


@pytest.mark.slow
def test_log_gets_a_line_now_and_then(slow):
    outcome = slow.run(*WORDS, subprocess=True)
    logged = [line for line in outcome.out.splitlines() if line.startswith("harbor: running: ")]
    assert logged
    assert all(re.fullmatch(r"harbor: running: tb2/[abcd] \w+ \d s(, tb2/[abcd] \w+ \d s)*", line) for line in logged)
    assert outcome.counts["passed"] == 4
    assert "\x1b" not in outcome.out


@pytest.mark.slow
def test_no_progress_without_workers(slow):
    outcome = slow.run("--harbor-dataset=tb2", "--harbor-agent=nop", "-k", "d", subprocess=True)
    outcome.lacks("harbor: running")
    assert outcome.ret == 0

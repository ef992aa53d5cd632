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
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from inner_pytest import FEWER_PLUGINS

from pytest_harbor._util import columns
from pytest_harbor.report import monitor as monitors
from pytest_harbor.report.monitor import RunningTrial, RunState, TrialMonitor
from pytest_harbor.report.progress import duration, log_line, status_lines, summary
from pytest_harbor.report.status_terminal import StatusTerminal
from pytest_harbor.results import Run, RunRecord
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


def running(name: str, phase: str = "agent", since: float = 0.0) -> RunningTrial:
    return RunningTrial(since, name, name, phase)


def test_status_has_the_run_and_aligned_columns():
    trials = (running("tb2/a", "preparing", 40.0), running("tb2/long-name[2]", since=95.0), running("tb2/c"))
    state = RunState(trials, 3, 1, 7, 250.0)
    assert status_lines(state, 100.0, 10, 80) == [
        "harbor: 3 of 7 done, about 4 min left, 1 not passed",
        "  tb2/a             preparing   1 min 0 s",
        "  tb2/long-name[2]  agent             5 s",
        "  tb2/c             agent      1 min 40 s",
    ]
    assert status_lines(state, 100.0, 3, 80)[1:] == ["  tb2/a  preparing  1 min 0 s", "  and 2 more"]
    assert status_lines(state, 100.0, 1, 80) == []
    assert status_lines(RunState(done=3, total=3), 100.0, 10, 80) == []
    assert log_line(state, 100.0).startswith(
        "harbor: 3 of 7 done, about 4 min left, 1 not passed; running: tb2/a preparing 1 min 0 s, tb2/long"
    )
    assert log_line(RunState(trials * 4), 100.0).endswith("s and 4 more")


@pytest.mark.parametrize("name", ["tb2/" + "x" * 200, "tb2/" + "\u65e5" * 100])
def test_long_names_leave_room_for_phase_and_seconds(name):
    state = RunState((running(name, "preparing"), running("tb2/b", "verify")))
    for line in status_lines(state, 7000.0, 10, 60)[1:]:
        assert line.endswith("1 h 56 min")
        assert columns.width(line) < 60
        assert "preparing" in line or "verify" in line


def test_summary():
    assert summary(RunState()) == "0 done"
    assert summary(RunState(done=1, total=1)) == "1 of 1 done"
    assert summary(RunState(done=1, total=2, seconds_left=12.4)) == "1 of 2 done, about 12 s left"


@pytest.mark.parametrize(
    "seconds, text", [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7800, "2 h 10 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def trial(run: Run, name: str, **fields) -> TrialResult:
    given = {"run": "r", "task": f"tb2/{name}", "dataset": "tb2", "task_path": "", "agent": "bot", "attempt": 1}
    return TrialResult(**{**given, "directory": str(run.directory / name), **fields})


def test_monitor_finds_running_trials_only(tmp_path, monkeypatch):
    run = Run(tmp_path, "r")
    monitor = TrialMonitor(run.directory)
    assert monitor.running() == []
    for name, state in (("a", "running"), ("b", "finished"), ("c", "retried"), ("d", "running"), ("e", "running")):
        run.note(trial(run, name), state, "verify")
    gone = run.directory / "d" / "trial.json"
    gone.write_text(json.dumps({**json.loads(gone.read_text()), "owner": "1.never"}))
    (run.directory / "e" / "trial.json").write_text("{")
    (run.directory / "images").mkdir()
    (found,) = monitor.running()
    assert (found.task, found.phase) == ("tb2/a", "verify")
    assert abs(found.since - time.time()) < 60
    monkeypatch.setattr(monitors, "is_alive", lambda token: True)
    assert [trial.task for trial in monitor.running()] == ["tb2/a", "tb2/d"]
    assert monitor._finished == {"b", "c"}, "finished trials are not read again"


def test_monitor_names_agents_if_there_are_several(tmp_path):
    run = Run(tmp_path, "r")
    run.note(trial(run, "a", attempt=2, task="tb2/a\x1b[2J\n"), "running", "verify")
    assert [found.name for found in TrialMonitor(run.directory).running()] == ["tb2/a [2]"]
    assert [found.name for found in TrialMonitor(run.directory, name_agents=True).running()] == ["tb2/a [bot-2]"]


def test_rounds_that_may_not_run_are_not_waited_for(tmp_path):
    run = Run(tmp_path, "r")
    under_way = [(1, 10)]
    monitor = TrialMonitor(run.directory, seconds={"tb2/a": 10.0}, rounds=under_way.pop)
    RunRecord("r", planned={"tb2/a": 10, "tb2/b": 20}).write(run.directory)
    assert monitor.state(0.0) == RunState(total=3, seconds_left=30.0)
    run.append(trial(run, "a", outcome="passed"))
    run.append(trial(run, "b", outcome="passed"))
    under_way.append((2, 10))
    state = monitor.state(0.0)
    assert (state.done, state.total, state.seconds_left) == (2, 6, 40.0)


def test_state_of_a_run(tmp_path):
    run = Run(tmp_path, "r")
    monitor = TrialMonitor(run.directory, seconds={"tb2/a": 10.0, "tb2/b": 40.0}, processes=2)
    assert monitor.state(0.0) == RunState()
    RunRecord("r", planned={"tb2/a": 2, "tb2/b": 2, "tb2/new": 1}).write(run.directory)
    # 20 s, 80 s, and 25 s as the mean, for two processes.
    assert monitor.state(0.0) == RunState(total=5, seconds_left=62.5)
    run.append(trial(run, "a", outcome="passed"))
    run.append(trial(run, "b", outcome="failed"))
    run.append(trial(run, "b", outcome="failed", confirmation=1))
    run.note(trial(run, "b2", task="tb2/b", phases={"build": 5.0}), "running", "agent")
    now = (run.directory / "b2" / "trial.json").stat().st_mtime + 15
    state = monitor.state(now)
    assert (state.done, state.not_passed, state.total, len(state.running)) == (2, 1, 5, 1)
    # 10 s and 25 s wait, and 20 s are left of the running trial.
    assert state.seconds_left == pytest.approx(27.5)
    later = monitor.state(now + 1000)
    assert later.seconds_left == pytest.approx(17.5)
    with run.results_file.open("a") as file:
        file.write('{"half a line')
    assert monitor.state(now).done == 2


def test_debugger_has_the_terminal_for_itself():
    terminal = Terminal()
    screen = StatusTerminal(terminal)
    screen.show_status(["x"], 20)
    screen.pause()
    screen.show_status(["x"], 20)
    screen.write_log_line("running")
    assert terminal.text() == ""
    screen.resume()
    screen.show_status(["x"], 20)
    assert terminal.text() == "x"


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
WORDS = ("--harbor-dataset=tb2", "--harbor-agent=slow_agent.py:work", "-p", "no:cacheprovider", *FEWER_PLUGINS)


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


STATUS_LINE = re.compile(r"^  tb2/[abcd]  agent +[012] s$", flags=re.M)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("-n2",), ("-n2", "-v"), ("-n2", "-s"), (), ("-v",)], ids=" ".join)
def test_terminal_shows_running_trials_and_keeps_no_trace(slow, words):
    output = run_at_a_terminal(slow, *words)
    assert STATUS_LINE.search(output.replace("\r", "\n"))
    assert re.search(r"harbor: \d of 4 done\n", output)
    terminal = Terminal(100, 40)
    terminal.write(output)
    kept = terminal.text()
    assert not STATUS_LINE.search(kept)
    assert not re.search(r"^  (tb2/|and )|4 done|running:", kept, flags=re.M)
    assert re.search(r"^=+ 4 passed in ", kept, flags=re.M)
    if "-v" in words:
        ended = r"PASSED reward 1.00 tb2/\w/task.toml::\w *$" if "-n2" in words else r"::\w PASSED reward 1.00 +\["
        assert len(re.findall(ended, kept, flags=re.M)) == 4
    elif "-n2" in words:
        assert re.search(r"^\.\.\.\.( +\[100%\])?$", kept, flags=re.M)
    else:
        assert len(re.findall(r"^tb2/[abcd]/task.toml \. +\[", kept, flags=re.M)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [("-n2",), ()], ids=["n2", "n0"])
@pytest.mark.parametrize(
    "words, environ", [(("-q",), {}), ((), {"CI": "true"}), ((), {"TERM": "dumb"}), (("--color=no",), {})]
)
def test_no_cursor_moves_unless_a_person_watches(slow, words, environ, workers):
    output = run_at_a_terminal(slow, *words, *workers, **environ)
    assert not re.search(r"\x1b\[\d*[AJ]", output)
    assert ("; running: " in output) == (words != ("-q",))


@pytest.mark.slow
@pytest.mark.parametrize("words", [("-n2",), (), ("-v",)], ids=" ".join)
def test_log_gets_a_line_now_and_then(slow, words):
    outcome = slow.run(*WORDS, *words, subprocess=True)
    logged = [line for line in outcome.out.splitlines() if line.startswith("harbor: ") and "running: " in line]
    assert logged
    expected = re.compile(r"harbor: \d of 4 done; running: (tb2/[abcd] \w+ \d s(, )?)+")
    assert all(map(expected.fullmatch, logged)), logged
    assert outcome.counts["passed"] == 4
    assert "\x1b" not in outcome.out
    if "-n2" not in words:
        ended = r"^tb2/[abcd]/task.toml(::\w PASSED reward 1.00| \.) +\["
        assert len(re.findall(ended, outcome.out, flags=re.M)) == 4, "each on a line of its own"


def test_interrupted_line_is_written_again_once():
    terminal = Terminal(80)
    screen = StatusTerminal(terminal, screen=SimpleNamespace(write=terminal.write, flush=lambda: None))
    screen.write("first\ntb2/a.toml ")
    for _ in range(2):
        screen.write_log_line("running")
    screen.write(".")
    screen.write("\n")
    assert terminal.text().splitlines() == ["first", "tb2/a.toml", "running", "running", "tb2/a.toml ."]


@pytest.mark.slow
def test_nothing_is_mixed_into_output_that_is_not_captured(slow):
    output = run_at_a_terminal(slow, "-s")
    assert " of 4 done" not in output


@pytest.mark.slow
def test_other_reporters_draw_for_themselves(slow):
    slow.file("mine.py", OWN_REPORTER)
    output = run_at_a_terminal(slow, "-p", "mine", "-n2", PYTHONPATH=str(slow.path))
    assert " of 4 done" not in output


OWN_REPORTER = """
import sys

import pytest
from _pytest.terminal import TerminalReporter


class Mine(TerminalReporter):
    pass


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.pluginmanager.unregister(config.pluginmanager.getplugin("terminalreporter"))
    config.pluginmanager.register(Mine(config, sys.stdout), "terminalreporter")
"""


@pytest.mark.slow
def test_quick_run_has_no_progress(slow):
    outcome = slow.run("--harbor-dataset=tb2", "--harbor-agent=nop", "-k", "d", subprocess=True)
    outcome.lacks("running: ")
    assert outcome.ret == 0

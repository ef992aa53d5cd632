"""What is in work, at a terminal and in a log."""

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
from pytest_harbor.report.progress import Notes, Screen, Work, lines
from pytest_harbor.results import Run
from pytest_harbor.trial import TrialResult


class Terminal:
    """As much of a terminal as is needed: it wraps, scrolls, and knows the sequences that are used."""

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
            assert what == "m", f"a sequence that is not known: {what}"

    def flush(self) -> None:
        pass

    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows)


PRINTED = st.text("ab .\n\r", max_size=30)
STATUS = st.lists(st.text("xyz", min_size=1, max_size=40), max_size=4)


@given(st.lists(st.tuples(PRINTED, STATUS), max_size=10))
@example(steps=[("a" * 21, ["x"])])
def test_what_is_shown_leaves_no_trace_in_what_is_printed(steps):
    plain, terminal = Terminal(), Terminal()
    screen = Screen(terminal)
    written = ""
    for text, status in steps:
        written += text
        plain.write(text)
        screen.write(text)
        screen.show(status, 20)
        assert (terminal.row, terminal.column) == (plain.row, plain.column)
        behind = plain.column < len(plain.rows[-1])
        # A line that a terminal has wrapped is not known to be short again.
        wide = len(re.split(r"[\r\n]", written)[-1]) >= 20
        assert not status or wide or plain.column >= 20 or behind or re.search(r"[xyz]", terminal.text())
    screen.clear()
    assert terminal.text() == plain.text()


def test_lines_are_below_and_cut_to_the_width():
    terminal = Terminal()
    screen = Screen(terminal)
    screen.write("....")
    screen.show(["x" * 30, "日本" * 20], 20)
    screen.write("F")
    screen.show(["y"], 20)
    assert terminal.text() == "....F\ny"
    screen.show(["x" * 30], 20)
    assert terminal.text().splitlines()[1] == "x" * 19


def test_colours_take_no_columns():
    terminal = Terminal()
    screen = Screen(terminal)
    screen.write("\x1b[32m..\x1b[0m")
    screen.show(["x"], 20)
    screen.write(".")
    assert terminal.text() == "..."


def test_a_line_in_a_log_is_a_line_of_its_own():
    terminal = Terminal(80)
    screen = Screen(terminal)
    for text in ("...", "..\n", "."):
        screen.write(text)
        screen.say("in work")
    assert terminal.text().splitlines() == ["...", "in work", "..", "in work", ".", "in work"]


def test_work_is_told_with_phase_and_seconds():
    works = [Work(float(n), f"tb2/{n}\x1b[2J\n", "bot", n + 1, "agent" if n else "") for n in range(5)]
    assert lines(works, 100.0, 10)[:2] == ["  tb2/0 begins 100 s", "  tb2/1[2] agent 99 s"]
    assert lines(works, 100.0, 3) == [*lines(works, 100.0, 10)[:2], "  and 3 more in work"]
    assert lines(works, 100.0, 0) == []
    assert progress.line(works * 3, 100.0).endswith("s and 7 more")
    named = [Work(0.0, "tb2/a", "bot", number, "agent", named=True) for number in (1, 2)]
    assert lines(named, 1.0, 9) == ["  tb2/a[bot] agent 1 s", "  tb2/a[bot-2] agent 1 s"]


def test_notes_are_read_of_what_is_in_work_only(tmp_path, monkeypatch):
    run = Run(tmp_path, "r")
    notes = Notes(run.directory)
    assert notes.in_work() == []
    for name, state in (("a", "running"), ("b", "finished"), ("c", "retried"), ("d", "running"), ("e", "running")):
        given = {"run": "r", "task": f"tb2/{name}", "dataset": "tb2", "task_path": "", "agent": "bot", "attempt": 1}
        run.note(TrialResult(**given, directory=str(run.directory / name)), state, "verify")
    gone = run.directory / "d" / "trial.json"
    gone.write_text(json.dumps({**json.loads(gone.read_text()), "owner": "1.never"}))
    (run.directory / "e" / "trial.json").write_text("{")
    (run.directory / "images").mkdir()
    (work,) = notes.in_work()
    assert (work.task, work.phase) == ("tb2/a", "verify")
    assert abs(work.since - time.time()) < 60
    read = []
    monkeypatch.setattr(progress, "is_alive", lambda token: read.append(token) or True)
    assert [work.task for work in notes.in_work()] == ["tb2/a", "tb2/d"]
    assert notes._over == {"b", "c"}, "what has ended is not read again"


SLOW = """
import time

import pytest_harbor.report.progress

pytest_harbor.report.progress.LIVE = 0.1
pytest_harbor.report.progress.LOG = 0.3
FAKES["_work"] = lambda self, agent, environment: enter(self)


def enter(self):
    with self._phase("agent"):
        time.sleep(2)
"""
WORDS = ("--harbor-dataset=tb2", "--harbor-agent=nop", "-n", "2", "-p", "no:cacheprovider")


@pytest.fixture
def slow(project):
    project.rewards(**dict.fromkeys("abcd", 1.0))
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text() + SLOW)
    return project


def at_a_terminal(project, *words: str, **environ: str) -> str:
    """Run pytest at a terminal of 100 columns and return every byte that it wrote there."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", **environ}
    for name in {"CI", "PY_COLORS", "NO_COLOR", "FORCE_COLOR"} - environ.keys():
        variables.pop(name, None)
    command = [sys.executable, "-m", "pytest", *WORDS, *words]
    with subprocess.Popen(
        command, cwd=project.path, stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    ) as process:
        os.close(theirs)
        said = b""
        while process.poll() is None or select.select([ours], [], [], 0.2)[0]:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    said += os.read(ours, 65536)
                except OSError:
                    break
        os.close(ours)
    assert process.returncode == 0, said.decode()
    return said.decode().replace("\r\n", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("-v",), ("-s",)], ids=["dots", "v", "s"])
def test_a_terminal_shows_each_trial_in_work_and_keeps_nothing_of_it(slow, words):
    said = at_a_terminal(slow, *words)
    assert re.search(r"  tb2/[abcd] agent [012] s\n", said)
    assert re.search(r"  tb2/[abcd] agent [012] s\n  tb2/[abcd] agent [012] s\r", said), "two workers, two lines"
    terminal = Terminal(100, 40)
    terminal.write(said)
    kept = terminal.text()
    assert " agent 1 s" not in kept
    assert "in work" not in kept
    assert re.search(r"^=+ 4 passed in ", kept, flags=re.M)
    if words == ("-v",):
        ended = r"^\[gw[01]\] \[ *\d+%\] PASSED reward 1.00 tb2/\w/task.toml::\w *$"
        assert len(re.findall(ended, kept, flags=re.M)) == 4
    else:
        assert re.search(r"^\.\.\.\.( +\[100%\])?$", kept, flags=re.M)


@pytest.mark.slow
@pytest.mark.parametrize("words, environ", [(("-q",), {}), ((), {"CI": "true"}), ((), {"TERM": "dumb"})])
def test_where_no_person_looks_no_cursor_is_moved(slow, words, environ):
    said = at_a_terminal(slow, *words, **environ)
    assert not re.search(r"\x1b\[\d*[AJ]", said.partition("items]")[2])
    assert ("harbor: in work: " in said) == (not words)


@pytest.mark.slow
def test_a_log_gets_a_line_now_and_then(slow):
    outcome = slow.run(*WORDS, subprocess=True)
    told = [line for line in outcome.out.splitlines() if line.startswith("harbor: in work: ")]
    assert told
    assert all(re.fullmatch(r"harbor: in work: tb2/[abcd] \w+ \d s(, tb2/[abcd] \w+ \d s)*", line) for line in told)
    assert outcome.counts["passed"] == 4
    assert "\x1b" not in outcome.out


@pytest.mark.slow
def test_without_workers_nothing_is_added(slow):
    outcome = slow.run("--harbor-dataset=tb2", "--harbor-agent=nop", "-k", "d", subprocess=True)
    outcome.lacks("in work")
    assert outcome.ret == 0

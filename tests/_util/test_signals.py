"""Signals that end a process, turned into interrupts."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from pytest_harbor._util.signals import interrupt_on_signals

# Starts Python in a session of its own, with standard input as its terminal.
OWN_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
PROGRAM = """
import os, signal, sys
from pytest_harbor._util.signals import interrupt_on_signals
interrupt_on_signals()
try:
    os.write(int(sys.argv[1]), b"ready\\n")
    while True:
        signal.pause()
except KeyboardInterrupt as error:
    # Fails if the terminal is lost and still in use.
    print("cleaning up", flush=True)
    os.write(int(sys.argv[1]), b"done\\n")
    sys.exit(2)
"""


@pytest.fixture(autouse=True)
def _nothing_ignored():
    """Restore the signals that nohup, or a shell without job control, makes this process ignore."""
    ignored = [number for number in (signal.SIGHUP, signal.SIGQUIT) if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal_is_an_interrupt(number):
    restore = interrupt_on_signals()
    try:
        with pytest.raises(KeyboardInterrupt, match=f"signal {int(number)}"):
            signal.raise_signal(number)
    finally:
        restore()


def test_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        restore = interrupt_on_signals()
        signal.raise_signal(signal.SIGHUP)
        restore()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_restored():
    numbers = [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    before = [signal.getsignal(number) for number in numbers]
    interrupt_on_signals()()
    assert [signal.getsignal(number) for number in numbers] == before


def test_closed_terminal():
    controller, terminal = pty.openpty()
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, "-c", PROGRAM, str(writer)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        pass_fds=[writer],
    ) as process:
        os.close(writer)
        os.close(terminal)
        with os.fdopen(reader) as lines:
            assert lines.readline() == "ready\n"
            os.close(controller)
            assert lines.read() == "done\n"
    assert process.returncode == 2

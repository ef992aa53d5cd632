"""The moment a run turns out to have Harbor tasks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from pytest_harbor.plugin.agents import Agents
from pytest_harbor.plugin.gate import Gate
from pytest_harbor.plugin.lifecycle import Lifecycle
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.plugin.terminal import TerminalReport
from pytest_harbor.report.terminal import TrialTable


def activate(session: HarborSession) -> None:
    """Make the plugin take part in the run; after the first call this does nothing.

    Registers the session's hooks, and turns SIGTERM into an interrupt if trials will run.

    Raises:
        pytest.UsageError: the baseline is not usable, or gate options exclude each other.

    """
    if session.active:
        return
    session.gate = Gate(session.options, on_command_line=asks_for_verdict(session.config))
    session.agents = Agents(session.config, session.options)
    session.table = TrialTable()
    session.config.pluginmanager.register(Lifecycle(session), "harbor-lifecycle")
    session.config.pluginmanager.register(TerminalReport(session), "harbor-terminal")
    if session.runs_trials:
        session.restore_sigterm = interrupt_on_sigterm()
    session.active = True


def asks_for_verdict(config: pytest.Config) -> bool:
    """Return True if a flag asks for a verdict on the run."""
    return bool(config.getoption("harbor_gate") or config.getoption("harbor_baseline"))


def interrupt_on_sigterm() -> Callable[[], Any] | None:
    """Turn SIGTERM into KeyboardInterrupt, and return what restores the previous handler.

    On SIGTERM pytest itself just dies; on an interrupt, environments are removed and results written. Only the main
    thread may set a signal handler; in any other this returns None.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    previous = signal.signal(signal.SIGTERM, _interrupt)

    def restore() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)

    return restore


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(f"signal {number}")

"""Live progress below pytest's output."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from _pytest.terminal import TerminalReporter

from pytest_harbor.plugin.rounds import under_way
from pytest_harbor.report.monitor import TrialMonitor
from pytest_harbor.report.progress import show_progress
from pytest_harbor.report.status_terminal import StatusTerminal, is_interactive

if TYPE_CHECKING:
    from pytest_harbor.plugin.session import HarborSession


@contextlib.contextmanager
def live_progress(session: HarborSession) -> Iterator[None]:
    """Show what is running while the tests run, unless the output is quiet or belongs to others."""
    config, runner = session.config, session.runner
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    writer: Any = getattr(reporter, "_tw", None)
    if session.is_worker or not hasattr(writer, "_file") or runner is None or config.option.verbose < 0:
        yield
        return
    live = is_interactive(writer._file, markup=writer.hasmarkup)
    # Reporters of other plugins may move the cursor themselves.
    if live and type(reporter) is not TerminalReporter:
        yield
        return
    has_workers = config.pluginmanager.has_plugin("dsession")
    monitor = TrialMonitor(
        runner.run.directory,
        name_agents=bool(session.agents.listed),
        seconds=session.gate.seconds(),
        processes=len(config.option.tx) if has_workers else 1,
        rounds=partial(under_way, session) if session.in_rounds else None,
    )
    with contextlib.ExitStack() as stack:
        terminal = _terminal(reporter, stack, shared=not has_workers)
        if terminal is not None:
            stack.enter_context(show_progress(monitor, terminal, live=live))
        yield


def _terminal(reporter: Any, stack: contextlib.ExitStack, *, shared: bool) -> StatusTerminal | None:
    """Return pytest's terminal with room for a status, in place until the stack closes.

    Args:
        reporter: pytest's terminal reporter.
        stack: what undoes it.
        shared: whether tests run in this process, so that pytest's own file leads to captured output meanwhile.

    """
    writer, config = reporter._tw, reporter.config
    file = writer._file
    if not shared:
        terminal = StatusTerminal(file, writer.width_of_current_line)
    else:
        # Without capturing, what tests print goes to the terminal too, and would mix with the status.
        if getattr(config.option, "capture", "no") not in ("fd", "sys"):
            return None
        try:
            descriptor = os.dup(file.fileno())
        except (OSError, ValueError, AttributeError):
            return None
        screen = stack.enter_context(os.fdopen(descriptor, "w", encoding=file.encoding, errors="replace"))
        terminal = StatusTerminal(file, writer.width_of_current_line, screen=screen)
        pauses = _Pauses(terminal)
        config.pluginmanager.register(pauses)
        stack.callback(config.pluginmanager.unregister, pauses)

    def restore() -> None:
        writer._file = file

    writer._file = terminal
    stack.callback(restore)
    return terminal


class _Pauses:
    """Leaves the terminal to a debugger."""

    def __init__(self, terminal: StatusTerminal) -> None:
        self._terminal = terminal

    def pytest_enter_pdb(self) -> None:
        self._terminal.pause()

    def pytest_leave_pdb(self) -> None:
        self._terminal.resume()

    def pytest_runtest_logstart(self) -> None:
        # A debugger that was left by `q` says nothing.
        self._terminal.resume()

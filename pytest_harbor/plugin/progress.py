"""Live progress below pytest's output while the workers of pytest-xdist run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_harbor.report.progress import StatusTerminal, is_interactive, show_progress

if TYPE_CHECKING:
    from pytest_harbor.plugin.session import HarborSession


@contextlib.contextmanager
def live_progress(session: HarborSession) -> Iterator[None]:
    """Show the running trials while pytest-xdist's workers run; without workers, pytest shows the only one itself."""
    config, runner = session.config, session.runner
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    writer = getattr(reporter, "_tw", None)
    has_workers = config.pluginmanager.has_plugin("dsession")
    if writer is None or not hasattr(writer, "_file") or runner is None or not has_workers or config.option.verbose < 0:
        yield
        return
    file = writer._file
    terminal = StatusTerminal(file, writer.width_of_current_line)
    several_agents = bool(session.agents.listed)
    live = is_interactive(file, markup=writer.hasmarkup)
    writer._file = terminal
    try:
        with show_progress(runner.run.directory, terminal, live=live, name_agents=several_agents):
            yield
    finally:
        writer._file = file

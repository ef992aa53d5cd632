"""The HTML page of a run: by default report.html in the run's directory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_harbor.plugin.session import HarborSession

if TYPE_CHECKING:
    from pytest_harbor.report.history import AgentRun

PAGE = "report.html"


def page_path(session: HarborSession) -> Path | None:
    """Return the path of the page; None if no trial ran or there should be none."""
    path = session.options.html
    if path is False or session.runner is None or not session.table.results:
        return None
    return path or session.runner.run.directory / PAGE


def write_page(session: HarborSession, path: Path, not_run: Sequence[str] | None) -> None:
    """Write the page.

    Args:
        session: the plugin's session.
        path: the file.
        not_run: ids of the tasks without a result if the run stopped early; None if it did not.

    Raises:
        OSError: it cannot be written.

    """
    from pytest_harbor.plugin.rerun import RerunCommands
    from pytest_harbor.report import html

    html.write(
        path,
        session.table.results,
        verdict=session.verdict,
        seconds=time.monotonic() - session.began,
        not_run=not_run,
        rerun=RerunCommands(session),
        histories=_histories(session),
    )


def _histories(session: HarborSession) -> list[list[AgentRun]]:
    """Return what the run's agents achieved in earlier runs of the same results directory."""
    from pytest_harbor.report.history import page_history

    return page_history(session.table.results, session.runner.run.directory) if session.runner else []

"""Runs that stop early, by an interrupt, `-x`, `--maxfail` or a spent budget: their reports must not look complete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.results import RunRecord
from pytest_harbor.trial import TrialResult


def tasks_not_run(
    session: HarborSession, results: Iterable[TrialResult], exit_status: int | pytest.ExitCode
) -> tuple[str, ...] | None:
    """Return the ids of the tasks without a result if the run stopped early; None if it did not."""
    main: Any = session.config.pluginmanager.get_plugin("session")
    stopped = getattr(main, "shouldfail", False) or getattr(main, "shouldstop", False)
    results = list(results)
    stopped = stopped or exit_status == pytest.ExitCode.INTERRUPTED or any(each.out_of_budget for each in results)
    if session.runner is None or not stopped:
        return None
    try:
        run = RunRecord.read(session.runner.run.directory)
    except (OSError, ValueError):
        return ()
    return tuple(sorted({*run.tasks} - {*run.left_out} - {each.task for each in results if not each.out_of_budget}))

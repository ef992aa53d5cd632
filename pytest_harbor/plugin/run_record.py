"""The run record: what ran with which options, written to run.json once the tests are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version

import pytest

from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.plugin.options.table import OPTIONS
from pytest_harbor.plugin.runner import open_runner
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.plugin.trials import is_requested
from pytest_harbor.results import RunRecord


def write_run_record(session: HarborSession, items: Iterable[pytest.Item]) -> None:
    """Write run.json, unless no test has a task.

    Only one process writes it: the only one, or the first pytest-xdist worker, since only workers collect.

    Raises:
        pytest.UsageError: the file cannot be written.

    """
    options = session.options
    only_listed = not session.runs_trials or getattr(session.config.option, "setupplan", False)
    if only_listed or getattr(session.config, "workerinput", {}).get("workerid", "gw0") != "gw0":
        return
    collected = {assignment.task.id for item in items if (assignment := assignment_of(item))}
    if session.selection is not None:
        tasks = session.selection.tasks
        session.shard |= {task.id: path in tasks for path, task in session.selection.whole.items()}
    here = {task for task, is_here in session.shard.items() if is_here}
    if not collected and not options.shard:
        return
    recorded = {option.field: getattr(options, option.field) for option in OPTIONS if option.recorded}
    recorded["attempts"] = str(options.attempts) if options.attempts.adaptive else options.attempts.most
    run_record = RunRecord(
        run=session.run_id,
        selection=tuple(sorted(session.shard)),
        tasks=tuple(sorted(here)),
        left_out=tuple(sorted(here - collected)),
        shard=str(options.shard or ""),
        options={**recorded, **_agents(session)},
        pytest_harbor=version("pytest-harbor"),
        planned=_planned(items),
    )
    run = open_runner(session).run
    try:
        run.create_root()
        run_record.write(run.directory)
    except OSError as error:
        raise pytest.UsageError(f"--harbor-results: {run.directory} cannot be written: {error}") from error


def planned_trials(session: HarborSession) -> int:
    """Return the number of trials that the run would have at most."""
    try:
        return sum(RunRecord.read(open_runner(session).run.directory).planned.values())
    except (OSError, ValueError):
        return 0


def _planned(items: Iterable[pytest.Item]) -> dict[str, int]:
    """Return the number of trials by task id."""
    planned = (assignment_of(item) for item in items if is_requested(item))
    return dict(sorted(Counter(assignment.task.id for assignment in planned if assignment).items()))


def _agents(session: HarborSession) -> dict[str, str]:
    """Return the listed agents as one entry with each agent's name, kind and model; an empty dict if none are."""
    kinds = [
        f"{spec.name} ({', '.join(filter(None, (spec.kind, session.agents.settings(spec.name).model)))})"
        for spec in session.agents.listed
    ]
    return {"agents": ", ".join(kinds)} if kinds else {}

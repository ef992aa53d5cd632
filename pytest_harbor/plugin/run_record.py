"""What a session writes down of itself, once it knows its tests."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.results import RunRecord

if TYPE_CHECKING:
    from pytest_harbor.plugin.session import HarborSession

# What rewards depend on; commands and variables are not here, as they may hold secrets.
OPTIONS = (
    "agent",
    "agent_name",
    "model",
    "attempts",
    "threshold",
    "environment",
    "adapt",
    "image",
    "timeout_multiplier",
    "agent_timeout",
    "resource_multiplier",
    "reward_key",
    "reward_precedence",
    "missing_reward",
)


def _agents(session: HarborSession) -> dict[str, str]:
    """Return what agents are listed, each as name, kind and model; nothing where none are."""
    kinds = [
        f"{spec.name} ({', '.join(filter(None, (spec.kind, session.agents.settings(spec.name).model)))})"
        for spec in session.agents.listed
    ]
    return {"agents": ", ".join(kinds)} if kinds else {}


def record(session: HarborSession, items: Iterable[pytest.Item]) -> None:
    """Write run.json, unless there are neither tests on tasks nor others that have them.

    One process does: the only one, or the first worker, since only workers collect.

    Raises:
        pytest.UsageError: it cannot be written.

    """
    options = session.options
    only_shown = not session.runs_trials or getattr(session.config.option, "setupplan", False)
    if only_shown or getattr(session.config, "workerinput", {}).get("workerid", "gw0") != "gw0":
        return
    about = {assignment.task.id for item in items if (assignment := assignment_of(item))}
    if options.datasets:
        for task in session.selection.whole.values():
            session.in_shard(task)
    here = {task for task, is_here in session.shard.items() if is_here}
    if not about and not options.shard:
        return
    found = RunRecord(
        run=session.run_id,
        selection=tuple(sorted(session.shard)),
        tasks=tuple(sorted(here)),
        left_out=tuple(sorted(here - about)),
        shard=str(options.shard or ""),
        options={**{name: getattr(options, name) for name in OPTIONS}, **_agents(session)},
        pytest_harbor=version("pytest-harbor"),
    )
    try:
        found.write(session.run.directory)
    except OSError as error:
        raise pytest.UsageError(f"--harbor-results: {session.run.directory} cannot be written: {error}") from error

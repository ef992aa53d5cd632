"""Node ids on the command line that name no test of a task: pytest only says that there is no match."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

import pytest

from pytest_harbor._util.text import attempt_label, printable_name
from pytest_harbor.plugin.session import HarborSession


def refuse_wrong_ids(session: HarborSession) -> None:
    """Refuse node ids of selected tasks with another name, agent or attempt than this run has.

    Raises:
        pytest.UsageError: there is one; the message says which option it needs, or what was probably meant.

    """
    config, selection = session.config, session.selection
    # A hook may replace a task by one of another name.
    if selection is None or not session.places.named or config.hook.pytest_harbor_task.get_hookimpls():
        return
    for arg in config.args:
        file, colons, given = str(arg).partition("::")
        path = Path(os.path.abspath(config.invocation_params.dir / file))  # noqa: PTH100 - links stay
        if not colons or path.name != "task.toml" or path.parent not in selection.tasks:
            continue
        name = printable_name(path.parent.name)
        wanted, bracket, label = given.partition("[")
        if wanted != name:
            meant = f"{file}::{name}{bracket}{label}"
            raise pytest.UsageError(f"{arg}: the test of this task is named {name}; did you mean {meant}?")
        if problem := _label_problem(session, label.removesuffix("]")) if bracket else "":
            raise pytest.UsageError(f"{arg}: {problem}")


def _label_problem(session: HarborSession, label: str) -> str:
    """Return why no test of a task has such a label in this run, with the fix; empty if one has."""
    agents, attempts = session.agents.names, session.attempts
    if label in [attempt_label(agent, attempt) for agent in agents for attempt in range(1, attempts + 1)]:
        return ""
    agent, _, last = label.rpartition("-")
    if last.isdecimal() and agent in agents:
        return f"this run has {attempts} {'attempt' if attempts == 1 else 'attempts'}; add --harbor-attempts={last}"
    if agents == ("",):
        return "this run has one agent; add the --harbor-agents=FILE that lists those of the pasted node id"
    near = get_close_matches(label, agents, 1)
    hint = f"; did you mean [{near[0]}]?" if near else ""
    return f"no agent {label!r} among those listed: {', '.join(agents)}{hint}"

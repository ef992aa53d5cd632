"""User tests that request the fixtures: run once for each task that their `harbor` marker names."""

from __future__ import annotations

import pytest

from pytest_harbor._util.text import printable_name
from pytest_harbor.plugin.activation import activate
from pytest_harbor.plugin.cases import Assignment, assignments
from pytest_harbor.plugin.fixtures import AGENT_FIXTURES
from pytest_harbor.plugin.session import HarborSession, session_of
from pytest_harbor.task import DatasetError, Task, discover, select_tasks

ARGUMENTS = ("dataset", "task")


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Parametrize a user's test with the tasks that it asks for.

    Raises:
        pytest.Collector.CollectError: the marker has an unknown argument, or names a dataset or task that does not
            exist, or the options are not valid.

    """
    definition = metafunc.definition
    if hasattr(definition, "assignment"):
        return
    session = session_of(metafunc.config)
    mark = definition.get_closest_marker("harbor")
    if mark is None and not session.options.datasets and not session.places.found:
        return
    path, line, _ = definition.location
    where = f"{path}:{(line or 0) + 1}: the mark harbor of {definition.name}"
    arguments = _arguments(mark, where)
    # If no dataset was given, this test is the first to need the options that trials depend on.
    try:
        activate(session)
        session.select()
        # A test that requests only tasks or environments is not about an agent.
        agents = ("",) if AGENT_FIXTURES.isdisjoint(metafunc.fixturenames) else session.agents.names
    except pytest.UsageError as error:
        raise pytest.Collector.CollectError(str(error)) from error
    try:
        tasks = _tasks(session, arguments.get("dataset"), definition)
        chosen = select_tasks(tasks, [arguments["task"]] if "task" in arguments else [], [])
    except DatasetError as error:
        raise pytest.Collector.CollectError(f"{where}: {error}") from error
    many = len({task.dataset for task in chosen}) > 1
    session.shard |= {task.id: _in_shard(session, task) for task in chosen}
    chosen = [task for task in chosen if session.shard[task.id]]
    parameters = [
        pytest.param(assignment, marks=[_decorator(mark) for mark in marks], id=_id(assignment, many))
        for assignment, marks in assignments(chosen, definition, session.attempts_of_tests, agents)
    ]
    if not chosen and session.options.shard:
        reason = f"none of its tasks is in shard {session.options.shard}"
        parameters = [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")]
    if "harbor_task" not in metafunc.fixturenames:
        # See fixtures.need_task(); the list is pytest's own, which the test's items share.
        metafunc.fixturenames.append("harbor_task")
    metafunc.parametrize("harbor_task", parameters, indirect=True)


def _arguments(mark: pytest.Mark | None, where: str) -> dict[str, str]:
    """Return the arguments of the mark by name."""
    if mark is None:
        return {}
    given = dict(zip(ARGUMENTS, mark.args, strict=False))
    twice = [name for name in mark.kwargs if name in given]
    unknown = [name for name in mark.kwargs if name not in ARGUMENTS]
    wrong = [f"{k}={v!r}" for k, v in {**given, **mark.kwargs}.items() if not isinstance(v, str)]
    if twice or unknown or wrong or len(mark.args) > len(ARGUMENTS):
        found = ", ".join([*wrong, *unknown, *(f"{name} twice" for name in twice)]) or f"{len(mark.args)} arguments"
        raise pytest.Collector.CollectError(
            f"{where} takes the arguments dataset and task, both strings; found {found}"
        )
    return {**given, **mark.kwargs}


def _tasks(session: HarborSession, dataset: str | None, definition: pytest.Function) -> list[Task]:
    """Return the tasks of a dataset, given by name or by a path relative to the test's file; None means all tasks."""
    if session.selection is not None:
        if dataset is None:
            return list(session.selection.whole.values())
        groups = session.selection.datasets()
        if dataset in groups:
            return groups[dataset]
    elif dataset is None:
        raise DatasetError("there are no tasks; give --harbor-dataset, or a dataset to the mark")
    return discover([definition.path.parent / dataset])


def _in_shard(session: HarborSession, task: Task) -> bool:
    """Return True if a task is in this run's shard; a task that only a marker names is assigned by its id."""
    if session.selection is not None and task.path in session.selection.whole:
        return task.path in session.selection.tasks
    return session.options.shard is None or session.options.shard.includes(task.id)


def _decorator(mark: pytest.Mark) -> pytest.MarkDecorator:
    return pytest.MarkDecorator(mark, _ispytest=True)


def _id(assignment: Assignment, many: bool) -> str:
    name = assignment.task.id if many else assignment.task.name
    return "-".join(part for part in (printable_name(name), assignment.label) if part)

"""From tasks to test items."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pytest
from _pytest.nodes import FSCollector

from pytest_harbor.options import HarborConfig
from pytest_harbor.session import session_of
from pytest_harbor.task import DatasetError, Task, TaskError, discover

if TYPE_CHECKING:
    from pytest_harbor.session import HarborSession
    from pytest_harbor.trial import Trial

_MARKS: pytest.StashKey[dict[str, pytest.Mark]] = pytest.StashKey()


@dataclass(frozen=True)
class Assignment:
    """Which task a test is about, and its how manieth attempt it is, from 1."""

    task: Task
    attempt: int = 1


def assignment_of(item: pytest.Item) -> Assignment:
    """Return what a test is about.

    Raises:
        pytest.UsageError: it is about no task.

    """
    if isinstance(item, HarborItem):
        return item.assignment
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get("harbor_task") if callspec else None
    if isinstance(found, Assignment):
        return found
    raise pytest.UsageError(f"{item.nodeid} uses the fixture harbor_task and there are no tasks: give --harbor-dataset")


class DatasetDirectory(pytest.Directory):
    """A directory that leads to tasks: only those are collected, whatever else lies there."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the directories of tasks, and files that were named on the command line."""
        selection = session_of(self.config).selection
        for path in sorted(selection.children.get(self.path, ())):
            node = None if self._ignored(path) else collect_directory(session_of(self.config), path, self)
            if node is not None:
                yield node
        for path in sorted(self.path.iterdir()):
            if path.suffix == ".py" and self.session.isinitpath(path):
                yield from self.ihook.pytest_collect_file(file_path=path, parent=self)

    def _ignored(self, path: Path) -> bool:
        """Ask --ignore, collect_ignore and the like; but no task is left out because it is called `build` or `venv`."""
        norecurse = any(fnmatch(path.name, pattern) for pattern in self.config.getini("norecursedirs"))
        if norecurse or (path / "pyvenv.cfg").is_file() or self.session.isinitpath(path, with_parents=True):
            return False
        return bool(self.ihook.pytest_ignore_collect(collection_path=path, config=self.config))


class _InTask:
    """A node in a task directory. Its hooks are those above it: a conftest.py in there is not for the host."""

    path: Path
    session: pytest.Session

    @property
    def ihook(self) -> pluggy.HookRelay:
        """The hooks that apply."""
        directory = self.path if self.path.is_dir() else self.path.parent
        return self.session.gethookproxy(directory.parent)


# Not a pytest.Directory, whose conftest.py pytest loads before it collects it.
class TaskDirectory(_InTask, FSCollector):
    """A task's directory, of which nothing but task.toml is collected: its tests belong into its environment."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the task's file."""
        yield TaskFile.of(session_of(self.config).selection.tasks[self.path], self)


def collect_directory(session: HarborSession, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the node of a directory that is a task or leads to one; None for any other."""
    selection = session.selection
    if path in selection.tasks:
        return TaskDirectory.from_parent(parent, path=path, nodeid=_node_id(path, session.config))
    if path in selection.children or path in selection.found:
        return DatasetDirectory.from_parent(parent, path=path, nodeid=_node_id(path, session.config))
    return None


def _node_id(path: Path, config: pytest.Config) -> str:
    """Return a node id that can be pasted back: absolute outside rootdir, where those of pytest may be equal."""
    try:
        return _printable(path.relative_to(config.rootpath).as_posix())
    except ValueError:
        return _printable(path.as_posix())


class TaskFile(_InTask, pytest.Module):
    """A task.toml. A Module, so that its items are functions with fixtures; but nothing is imported."""

    task: Task

    @classmethod
    def of(cls, task: Task, parent: pytest.Collector) -> TaskFile:
        """Make the node of a task."""
        node: TaskFile = cls.from_parent(parent, path=task.toml_path, nodeid=_node_id(task.toml_path, parent.config))
        node.task = task
        return node

    def _getobj(self) -> types.ModuleType:
        return types.ModuleType("harbor_task", "A Harbor task.")

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Yield an item an attempt."""
        options = session_of(self.config).options
        for assignment, marks in assignments([self.task], self, options):
            number = "" if assignment.attempt == 1 else f"[{assignment.attempt}]"
            item: HarborItem = HarborItem.from_parent(
                self, name=f"{_printable(assignment.task.name)}{number}", callobj=run_task
            )
            item.assignment = assignment
            item.own_markers.extend(marks)
            item.keywords.update({mark.name: mark for mark in marks})
            yield item


class HarborItem(_InTask, pytest.Function):
    """One attempt at one task."""

    assignment: Assignment

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Point at task.toml."""
        return self.path, 0, self.name


def run_task(harbor_trial: Trial, request: pytest.FixtureRequest) -> None:
    """Pass or fail on the reward of a trial. This is the test that every task becomes."""
    from pytest_harbor.reporting import check

    check(harbor_trial.run(), record_only=session_of(request.config).options.record_only)


def assignments(
    tasks: Iterable[Task], node: pytest.Collector | pytest.Item, options: HarborConfig
) -> Iterator[tuple[Assignment, list[pytest.Mark]]]:
    """Yield tasks times attempts with their marks, after the hooks have had their say."""
    for task in tasks:
        chosen: Any = task
        marks = [_mark("harbor", node.config)]
        try:
            answer = node.ihook.pytest_harbor_task(task=task, config=node.config)
            if answer is False:
                continue
            chosen = answer if isinstance(answer, Task) else task
            marks += [_mark(name, node.config) for name in mark_names(chosen)]
            if chosen.unsupported:
                marks.append(pytest.mark.skip(reason=chosen.unsupported).mark)
        except TaskError:
            # The item says what is wrong when it runs; a broken task must not keep the others from being collected.
            pass
        for attempt in range(1, options.attempts + 1):
            yield Assignment(chosen, attempt), marks


def mark_names(task: Task) -> list[str]:
    """Return the names of the marks that [metadata] gives a task: difficulty_<x>, category_<x>, tag_<x>."""
    pairs = [
        ("difficulty", task.difficulty),
        ("category", task.category),
        *(("tag", tag) for tag in task.tags),
    ]
    names = [f"{kind}_{_identifier(text)}" for kind, text in pairs if text and _identifier(text)]
    return list(dict.fromkeys(names))


def _mark(name: str, config: pytest.Config) -> pytest.Mark:
    """Return a mark, registered so that --strict-markers knows it.

    Made directly and kept: `pytest.mark.<name>` reads all registered lines again at every name it has not seen, which
    is quadratic in the number of names.
    """
    known = config.stash.setdefault(_MARKS, {})
    if name not in known:
        known[name] = pytest.Mark(name, (), {}, _ispytest=True)
        if name != "harbor":
            config.addinivalue_line("markers", f"{name}: from [metadata] of a Harbor task")
    return known[name]


def _identifier(text: str) -> str:
    """Return a text as a name that `-m` can use."""
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "_" for c in text)


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Run a user's test once for each task that its `harbor` mark asks for.

    Raises:
        pytest.UsageError: the mark names a dataset that does not exist, or takes no such argument.

    """
    definition = metafunc.definition
    if isinstance(definition, HarborItem):
        return
    session = session_of(metafunc.config)
    mark = definition.get_closest_marker("harbor")
    arguments = _mark_arguments(mark)
    if mark is None and not session.options.datasets:
        return
    tasks = _tasks_of(session, arguments.get("dataset"), metafunc)
    pattern = arguments.get("task") or "*"
    chosen = [task for task in tasks if fnmatchcase(task.name, pattern) or fnmatchcase(task.id, pattern)]
    many = len({task.dataset for task in chosen}) > 1
    parameters = [
        pytest.param(
            assignment,
            marks=[pytest.mark.__getattr__("harbor"), *_decorators(marks)],
            id=_id(assignment, many),
        )
        for assignment, marks in assignments(chosen, definition, session.options)
    ]
    metafunc.parametrize("harbor_task", parameters, indirect=True)


def _mark_arguments(mark: pytest.Mark | None) -> dict[str, str]:
    if mark is None:
        return {}
    names = ("dataset", "task")
    unknown = [name for name in mark.kwargs if name not in names]
    if unknown or len(mark.args) > len(names):
        raise pytest.UsageError(f"the mark harbor takes {' and '.join(names)}, not {', '.join(unknown) or mark.args}")
    return {**dict(zip(names, mark.args, strict=False)), **mark.kwargs}


def _tasks_of(session: HarborSession, dataset: str | None, metafunc: pytest.Metafunc) -> list[Task]:
    if dataset is None:
        return list(session.selection.tasks.values())
    if session.options.datasets:
        groups = session.selection.datasets()
        if dataset in groups:
            return groups[dataset]
    path = metafunc.definition.path.parent / dataset
    try:
        return discover([path])
    except DatasetError as error:
        raise pytest.UsageError(f"the mark harbor of {metafunc.definition.nodeid}: {error}") from error


def _decorators(marks: list[pytest.Mark]) -> list[pytest.MarkDecorator]:
    return [pytest.MarkDecorator(mark, _ispytest=True) for mark in marks]


def _id(assignment: Assignment, many: bool) -> str:
    name = assignment.task.id if many else assignment.task.name
    return _printable(name) + ("" if assignment.attempt == 1 else f"-{assignment.attempt}")

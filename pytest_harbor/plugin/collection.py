"""Collection: from dataset directories to test items."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pytest
from _pytest.nodes import FSCollector

from pytest_harbor._util.text import printable_name, without_surrogates
from pytest_harbor.plugin.cases import Assignment, assignments
from pytest_harbor.plugin.outcome import check
from pytest_harbor.plugin.selection import Selection
from pytest_harbor.plugin.session import session_of
from pytest_harbor.plugin.trials import confirm
from pytest_harbor.task import Task

if TYPE_CHECKING:
    from pytest_harbor.plugin.session import HarborSession
    from pytest_harbor.trial import Trial


def selection_of(config: pytest.Config) -> Selection:
    """Return the selected tasks; the nodes below exist only if there are any."""
    selection = session_of(config).selection
    assert selection is not None
    return selection


class DatasetDirectory(pytest.Directory):
    """A directory with tasks somewhere below it, where pytest would not look for tests; nothing else is collected."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the directories that lead to tasks, and test files named on the command line."""
        selection = selection_of(self.config)
        for path in sorted(selection.children.get(self.path, ())):
            node = None if self._ignored(path) else collect_directory(session_of(self.config), path, self)
            if node is not None:
                yield node
        for path in sorted(self.path.iterdir()):
            if path.suffix == ".py" and self.session.isinitpath(path):
                yield from self.ihook.pytest_collect_file(file_path=path, parent=self)

    def _ignored(self, path: Path) -> bool:
        """Respect --ignore, collect_ignore and the like."""
        if self.session.isinitpath(path, with_parents=True):
            return False
        return bool(self.ihook.pytest_ignore_collect(collection_path=path, config=self.config))


def leads_to_tasks(session: HarborSession, path: Path) -> bool:
    """Return True for a directory that pytest would skip because of its name, such as `build`, but has tasks."""
    selection = selection_of(session.config)
    return (path in selection.tasks or path in selection.children) and session.places.skip(path)


class _InTask:
    """A node in a task directory. Its hooks are those above the task: a conftest.py in the task is not for the host."""

    path: Path
    session: pytest.Session
    config: pytest.Config

    @property
    def ihook(self) -> pluggy.HookRelay:
        """The hooks that apply to this node."""
        directory = self.path if self.path.is_dir() else self.path.parent
        within = selection_of(self.config).within
        while directory.parent in within:
            directory = directory.parent
        return self.session.gethookproxy(directory.parent)


# Not a pytest.Directory, because pytest loads the conftest.py of those before collecting them.
class TaskDirectory(_InTask, FSCollector):
    """A task's directory. Only task.toml is collected, since the tests in it are for its environment."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the task's file."""
        yield TaskFile.of(selection_of(self.config).tasks[self.path], self)


class ConvertedDirectory(_InTask, FSCollector):
    """The directory of a converted environment, or its tasks/; the rest is a build context and generated files."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the nodes that lead to tasks."""
        session = session_of(self.config)
        for path in sorted(selection_of(self.config).children.get(self.path, ())):
            node = collect_directory(session, path, self)
            if node is not None:
                yield node


def collect_directory(session: HarborSession, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Return the node of a directory that is a task or leads to one, otherwise None."""
    selection = selection_of(session.config)
    if path in selection.tasks:
        return TaskDirectory.from_parent(parent, path=path, nodeid=_node_id(path, session.config))
    if path in selection.within:
        return ConvertedDirectory.from_parent(parent, path=path, nodeid=_node_id(path, session.config))
    if path in selection.found or (path in selection.children and path not in selection.shared):
        return DatasetDirectory.from_parent(parent, path=path, nodeid=_node_id(path, session.config))
    return None


def _node_id(path: Path, config: pytest.Config) -> str:
    """Return a node id that can be pasted back; absolute outside rootdir, where pytest's own ids may clash."""
    try:
        return printable_name(path.relative_to(config.rootpath).as_posix())
    except ValueError:
        return printable_name(path.as_posix())


class TaskFile(_InTask, pytest.Module):
    """A task.toml. It is a Module so that its items are functions with fixtures, but nothing is imported."""

    task: Task

    @classmethod
    def of(cls, task: Task, parent: pytest.Collector) -> TaskFile:
        """Create the node of a task."""
        node: TaskFile = cls.from_parent(parent, path=task.toml_path, nodeid=_node_id(task.toml_path, parent.config))
        node.task = task
        return node

    def _getobj(self) -> types.ModuleType:
        # Other plugins look at the module of a test: at its file, and for the test function by its name.
        module = types.ModuleType("harbor_task", "A Harbor task.")
        module.__file__ = str(self.path)
        module.__package__ = ""
        for name in (run_task.__name__, printable_name(self.task.name)):
            if not name.startswith(("__", "pytest")):
                setattr(module, name, run_task)
        return module

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Yield an item for each agent and attempt."""
        session = session_of(self.config)
        for assignment, marks in assignments([self.task], self, session.attempts, session.agents.names):
            label = f"[{assignment.label}]" if assignment.label else ""
            name = printable_name(assignment.task.name)
            item: HarborItem = HarborItem.from_parent(self, name=f"{name}{label}", callobj=run_task)
            item.originalname = name
            item.assignment = assignment
            item.own_markers.extend(marks)
            item.keywords.update({mark.name: mark for mark in marks})
            yield item


class HarborItem(_InTask, pytest.Function):
    """One attempt of one agent at one task."""

    assignment: Assignment

    @property
    def id(self) -> Any:
        """The parsed node id, by which pytest 9.2 and later identify an item, in the cache of failures for example.

        It is parsed the way pytest parses what it reads from the cache, where brackets are not part of a name.
        """
        return type(super().id).parse(self.nodeid)

    @cached_property
    def location(self) -> tuple[str, int | None, str]:
        """Where reports say the test is; pytest-xdist can only send Unicode."""
        path, line, name = super().location
        return without_surrogates(path), line, name

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Point at task.toml."""
        return self.path, 0, self.name


def run_task(harbor_trial: Trial, request: pytest.FixtureRequest) -> None:  # noqa: D103 - reporters would show it
    # The test function of every task: pass or fail on the reward of its trial.
    session = session_of(request.config)
    result = harbor_trial.run()
    if session.options.confirm and session.gate.newly_failed(result):
        confirm(request.node, harbor_trial)
    # What an xfail mark expects is up to pytest, whoever decides about the other tasks.
    check(result, record_only=session.only_scores and not result.xfail)

"""Which tasks run, and which directories lead to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_harbor.task import DatasetError, Task, discover, select_tasks


@contextmanager
def _usage_error(flag: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        raise pytest.UsageError(f"{flag}: {error}") from error


class Selection:
    """The selected tasks.

    Args:
        paths: absolute paths of tasks, datasets, or directories of datasets.
        include: globs; empty for all.
        exclude: globs.

    Attributes:
        tasks: the tasks by their directory, in the order in which they run.
        children: for each directory above a task, up to the paths given, what below it leads to tasks, sorted.
        leads: every directory that leads to a task that was found, selected or not.

    Raises:
        pytest.UsageError: a path holds no task, or a pattern matches none.

    """

    def __init__(self, paths: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> None:
        with _usage_error("--harbor-dataset"):
            found = discover(paths)
        with _usage_error("--harbor-task"):
            chosen = select_tasks(found, include, ())
        with _usage_error("--harbor-exclude-task"):
            left = {task.path for task in select_tasks(found, (), exclude)}
        chosen = [task for task in chosen if task.path in left]
        if not chosen:
            raise pytest.UsageError("--harbor-task and --harbor-exclude-task together leave no task to run")
        self.found = {task.path: task for task in found}
        self.tasks = {task.path: task for task in chosen}
        self.children: dict[Path, list[Path]] = {path: [] for path in paths if path not in self.found}
        roots = set(self.children)
        seen: set[Path] = set()
        for path in self.tasks:
            child = path
            # Up to the outermost root: one dataset may lie below another.
            while child not in seen and not roots.isdisjoint(child.parents):
                seen.add(child)
                self.children.setdefault(child.parent, []).append(child)
                child = child.parent

    def datasets(self) -> dict[str, list[Task]]:
        """Return the tasks by dataset."""
        groups: dict[str, list[Task]] = {}
        for task in self.tasks.values():
            groups.setdefault(task.dataset, []).append(task)
        return groups

"""The selected tasks, and the directories that lead to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_harbor.plugin.options.table import HarborConfig
from pytest_harbor.plugin.places import Places
from pytest_harbor.task import DatasetError, Task, discover, discover_taskset, select_tasks
from pytest_harbor.task.shards import Shard


@contextmanager
def _usage_error(flag: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        raise pytest.UsageError(f"{flag}: {error}") from error


class Selection:
    """The selected tasks.

    Args:
        options: the plugin's options.
        places: where pytest looks for tests.
        seconds: seconds of an attempt by task id, as far as they are known; they divide tasks into shards.

    Attributes:
        found: all tasks below the paths, by directory.
        whole: the selected tasks of all shards, by directory.
        tasks: the selected tasks of this shard, in the order in which they run; may be empty if there are more shards
            than tasks.
        children: for each directory above a task, up to the given paths, its entries that lead to tasks.
        shared: those of these directories in which pytest collects other tests too.
        within: the directories of converted environments and their tasks/; pytest collects nothing but tasks in them.

    Raises:
        pytest.UsageError: a path holds no task, or a pattern matches none.

    """

    def __init__(self, options: HarborConfig, places: Places, seconds: Mapping[str, float]) -> None:
        paths = (*options.datasets, *places.found)
        if options.taskset is None:
            with _usage_error("--harbor-dataset"):
                found = discover(paths)
        else:
            with _usage_error("--harbor-taskset"):
                found = discover_taskset(options.taskset)
        with _usage_error("--harbor-task"):
            chosen = select_tasks(found, options.tasks, ())
        with _usage_error("--harbor-exclude-task"):
            left = {task.path for task in select_tasks(found, (), options.exclude_tasks)}
        chosen = [task for task in chosen if task.path in left]
        if not chosen:
            raise pytest.UsageError("--harbor-task and --harbor-exclude-task together select no task")
        self.found = {task.path: task for task in found}
        self.whole = {task.path: task for task in chosen}
        members = (options.shard or Shard()).select((task.id for task in chosen), seconds)
        self.tasks = {path: task for path, task in self.whole.items() if task.id in members}
        converted = [task for task in found if task.converted]
        self.within = {place for task in converted for place in (task.path.parent, task.environment_dir)}
        self.children: dict[Path, list[Path]] = {path: [] for path in paths if path not in self.found}
        # Even if a converted task was given by itself, the files around it are only for its environment.
        own = {task.parent_dir for task in converted}
        roots = {*self.children, *own}
        seen: set[Path] = set()
        for path in self.tasks:
            child = path
            # Up to the outermost root, since one dataset may be below another.
            while child not in seen and not roots.isdisjoint(child.parents):
                seen.add(child)
                self.children.setdefault(child.parent, []).append(child)
                child = child.parent
        for path in [*self.children]:
            for child in places.skipped_way(path):
                self.children.setdefault(child.parent, []).append(child)
        self.shared = {path for path in self.children if path not in own and places.cover(path)}

    def datasets(self) -> dict[str, list[Task]]:
        """Return the selected tasks of all shards by dataset name."""
        groups: dict[str, list[Task]] = {}
        for task in self.whole.values():
            groups.setdefault(task.dataset, []).append(task)
        return groups

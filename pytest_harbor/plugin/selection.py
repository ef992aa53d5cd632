"""The selected tasks, and the directories that lead to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_harbor.plugin.gate import Gate
from pytest_harbor.plugin.options.table import HarborConfig
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
        paths: absolute paths of tasks, datasets, or directories of datasets.
        include: globs of tasks to select; empty selects all.
        exclude: globs of tasks to skip.
        taskset: a taskset.json; only its tasks are selected, in its order.
        shard: the part of the selected tasks to run.
        seconds: seconds of an attempt by task id, as far as they are known.

    Attributes:
        found: all tasks below the paths, by directory.
        whole: the selected tasks of all shards, by directory.
        tasks: the selected tasks of this shard, in the order in which they run; may be empty if there are more shards
            than tasks.
        children: for each directory above a task, up to the given paths, its entries that lead to tasks.
        within: the directories of converted environments and their tasks/; pytest collects nothing but tasks in them.

    Raises:
        pytest.UsageError: a path holds no task, or a pattern matches none.

    """

    @classmethod
    def of(cls, options: HarborConfig, gate: Gate) -> Selection:
        """Return the selection that the options describe.

        Raises:
            pytest.UsageError: a path holds no task, or a pattern matches none.

        """
        seconds = gate.seconds() if options.shard else {}
        return cls(options.datasets, options.tasks, options.exclude_tasks, options.taskset, options.shard, seconds)

    def __init__(
        self,
        paths: Sequence[Path],
        include: Sequence[str],
        exclude: Sequence[str],
        taskset: Path | None = None,
        shard: Shard | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        if taskset is None:
            with _usage_error("--harbor-dataset"):
                found = discover(paths)
        else:
            with _usage_error("--harbor-taskset"):
                found = discover_taskset(taskset)
        with _usage_error("--harbor-task"):
            chosen = select_tasks(found, include, ())
        with _usage_error("--harbor-exclude-task"):
            left = {task.path for task in select_tasks(found, (), exclude)}
        chosen = [task for task in chosen if task.path in left]
        if not chosen:
            raise pytest.UsageError("--harbor-task and --harbor-exclude-task together select no task")
        self.found = {task.path: task for task in found}
        self.whole = {task.path: task for task in chosen}
        members = (shard or Shard()).select((task.id for task in chosen), seconds or {})
        self.tasks = {path: task for path, task in self.whole.items() if task.id in members}
        converted = [task for task in found if task.converted]
        self.within = {place for task in converted for place in (task.path.parent, task.environment_dir)}
        self.children: dict[Path, list[Path]] = {path: [] for path in paths if path not in self.found}
        # Even if a converted task was given by itself, the files around it are only for its environment.
        roots = {*self.children, *(task.parent_dir for task in converted)}
        seen: set[Path] = set()
        for path in self.tasks:
            child = path
            # Up to the outermost root, since one dataset may be below another.
            while child not in seen and not roots.isdisjoint(child.parents):
                seen.add(child)
                self.children.setdefault(child.parent, []).append(child)
                child = child.parent

    def datasets(self) -> dict[str, list[Task]]:
        """Return the selected tasks of all shards by dataset name."""
        groups: dict[str, list[Task]] = {}
        for task in self.whole.values():
            groups.setdefault(task.dataset, []).append(task)
        return groups

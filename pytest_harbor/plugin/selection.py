"""Which tasks run, and which directories lead to them."""

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
        include: globs; empty for all.
        exclude: globs.
        taskset: a taskset.json, whose tasks count and no others below the paths.
        shard: which part of what they select.
        seconds: how long an attempt took, by task id, of tasks where that is known.

    Attributes:
        whole: the tasks of all shards by their directory.
        tasks: the tasks of this one, in the order in which they run; none where there are more shards than tasks.
        children: for each directory above a task, up to the paths given, what below it leads to tasks, sorted.
        within: the directories of converted environments and their tasks/, of which nothing but tasks is for pytest.

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
            raise pytest.UsageError("--harbor-task and --harbor-exclude-task together leave no task to run")
        self.found = {task.path: task for task in found}
        self.whole = {task.path: task for task in chosen}
        members = (shard or Shard()).select((task.id for task in chosen), seconds or {})
        self.tasks = {path: task for path, task in self.whole.items() if task.id in members}
        converted = [task for task in found if task.converted]
        self.within = {place for task in converted for place in (task.path.parent, task.environment_dir)}
        self.children: dict[Path, list[Path]] = {path: [] for path in paths if path not in self.found}
        # Also where a converted task was given by itself: what lies around it is for its environment alone.
        roots = {*self.children, *(task.parent_dir for task in converted)}
        seen: set[Path] = set()
        for path in self.tasks:
            child = path
            # Up to the outermost root: one dataset may lie below another.
            while child not in seen and not roots.isdisjoint(child.parents):
                seen.add(child)
                self.children.setdefault(child.parent, []).append(child)
                child = child.parent

    def datasets(self) -> dict[str, list[Task]]:
        """Return the tasks of all shards by dataset."""
        groups: dict[str, list[Task]] = {}
        for task in self.whole.values():
            groups.setdefault(task.dataset, []).append(task)
        return groups

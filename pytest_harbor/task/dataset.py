"""Datasets: sequences of tasks, with selection by glob and rows for training libraries."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Sequence
from fnmatch import translate
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pytest_harbor._util.text import alternatives, plural
from pytest_harbor.task.discovery import discover, discover_taskset
from pytest_harbor.task.document import json_values
from pytest_harbor.task.errors import DatasetError, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_harbor.task.task import Task

_GLOB = re.compile(r"[*?\[]")
_SHOWN_PATTERNS = 3


class Dataset(Sequence["Task"]):
    """The tasks of a path: a task, a dataset, a directory of datasets, or the taskset.json of a converted folder.

    Attributes:
        path: the absolute path.
        name: the name of its directory; for a single task, that of the parent directory; for converted tasks, that of
            the dataset they were converted from, if there is only one.

    Raises:
        DatasetError: the path does not exist or contains no task.

    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 - links are kept, as in Task
        is_taskset = self.path.suffix == ".json" and self.path.is_file()
        self._tasks = discover_taskset(path) if is_taskset else discover([path])
        self._by_name = _index(self._tasks)
        first = self._tasks[0]
        single = first.path in (self.path, self.path.parent)
        if all(task.converted for task in self._tasks):
            single = single or len({task.dataset for task in self._tasks}) == 1
        self.name = first.dataset if single else (self.path.parent if is_taskset else self.path).name

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, {len(self)} tasks)"

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    @overload
    def __getitem__(self, key: int | str) -> Task: ...

    @overload
    def __getitem__(self, key: slice) -> list[Task]: ...

    def __getitem__(self, key: int | str | slice) -> Task | list[Task]:
        if not isinstance(key, str):
            return self._tasks[key]
        found = self._by_name.get(key, ())
        if len(found) == 1:
            return self._tasks[found[0]]
        if found:
            ids = ", ".join(self._tasks[position].id for position in found)
            raise KeyError(f"several tasks are named {key!r}; use an id: {ids}")
        raise KeyError(f"no task {key!r}{_suggestion(key, self._tasks)}")

    def select(self, *patterns: str) -> list[Task]:
        """Return the tasks whose name or id matches one of the globs, in the order of the dataset.

        Raises:
            DatasetError: a pattern matches no task.

        """
        return select_tasks(self._tasks, patterns, ())

    def to_records(self) -> list[dict[str, Any]]:
        """Return one row per task, in the layout of verifiers' HarborEnv.

        The columns are ``example_id`` (the position), ``task`` (the name), ``prompt`` (the instruction as a list of
        one user message) and ``info`` with ``task_dir``, ``docker_image`` and ``config``. Unlike in HarborEnv,
        ``config`` is the raw task.toml as JSON *text*, with dates in ISO 8601. Real metadata contains keys whose type
        differs between rows and lists of mixed types; pyarrow, and so the ``datasets`` library, supports neither.

        Raises:
            TaskError: a task is broken; silently omitting its row would be worse.

        """
        return [_record(number, task) for number, task in enumerate(self._tasks)]


def _record(number: int, task: Task) -> dict[str, Any]:
    try:
        config = json.dumps(json_values(task.document), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        # TOML can nest deeper (dotted keys) and have longer integers (hexadecimal) than json can write.
        raise TaskError(task.toml_path, f"cannot be written as JSON: {error}") from error
    return {
        "example_id": number,
        "task": task.name,
        "prompt": [{"role": "user", "content": task.instruction}],
        "info": {
            "task_dir": str(task.path),
            "docker_image": task.config.environment.docker_image,
            "config": config,
        },
    }


def select_tasks(tasks: Sequence[Task], include: Sequence[str], exclude: Sequence[str]) -> list[Task]:
    """Return the tasks that match an include pattern, or all tasks if there is none, and no exclude pattern.

    The order is kept. Patterns are globs on a task's name or id, and are case-sensitive. A pattern that equals a name
    or an id selects that task, even if it contains brackets.

    Raises:
        DatasetError: an include or exclude pattern matches no task.

    """
    index = _index(tasks)
    unmatched: list[str] = []

    def matching(patterns: Sequence[str]) -> set[int]:
        positions: set[int] = set()
        for pattern in patterns:
            found: Sequence[int] = index.get(pattern, ())
            if not found and _GLOB.search(pattern):
                matches = re.compile(translate(pattern)).match
                found = [n for n, task in enumerate(tasks) if matches(task.name) or matches(task.id)]
            if not found:
                unmatched.append(pattern)
            positions.update(found)
        return positions

    included = matching(include) if include else set(range(len(tasks)))
    excluded = matching(exclude)
    if unmatched:
        lines = [f"no task matches {pattern!r}{_suggestion(pattern, tasks)}" for pattern in unmatched[:_SHOWN_PATTERNS]]
        if len(unmatched) > _SHOWN_PATTERNS:
            more = plural(len(unmatched) - _SHOWN_PATTERNS, "more pattern")
            lines.append(f"and {more} without a match")
        raise DatasetError("; ".join(lines))
    return [tasks[n] for n in sorted(included - excluded)]


def _index(tasks: Sequence[Task]) -> dict[str, list[int]]:
    """Map names and ids to positions."""
    index: dict[str, list[int]] = {}
    for position, task in enumerate(tasks):
        index.setdefault(task.name, []).append(position)
        index.setdefault(task.id, []).append(position)
    return index


def _suggestion(pattern: str, tasks: Sequence[Task]) -> str:
    """Return the end of a message that a name was not found: similar names, or an example."""
    known = {task.id if "/" in pattern else task.name for task in tasks}
    near = difflib.get_close_matches(_GLOB.sub("", pattern), sorted(known), n=3, cutoff=0.5)
    if near:
        return f"; did you mean {alternatives([repr(name) for name in near])}?"
    if not tasks:
        return "; there are no tasks"
    verb = "is" if len(tasks) == 1 else "are"
    return f"; there {verb} {plural(len(tasks), 'task')}, such as {tasks[0].id!r}"

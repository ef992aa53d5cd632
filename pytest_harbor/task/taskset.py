"""taskset.json: the tasks of a converted folder, and the tasks they were converted from."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from pytest_harbor._util.json_text import unique_keys
from pytest_harbor.task.converted import TASKS, TASKSET, TasksetRow
from pytest_harbor.task.errors import DatasetError

SCENARIO = "run-task"


def read_taskset(path: Path) -> list[TasksetRow]:
    """Read a taskset.

    Raises:
        DatasetError: the file cannot be read, or a row is not valid; the message shows a valid row.

    """
    try:
        content = unique_keys(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist; give the {TASKSET} of a converted folder") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, list):
        raise DatasetError(f"{path} does not contain a list; a taskset is a list with one row per task")
    if not content:
        raise DatasetError(f"{path} has no rows; a taskset has one row per task")
    rows = []
    for number, row in enumerate(content, start=1):
        try:
            rows.append(_row(number, row))
        except ValueError as error:
            raise DatasetError(
                f"{path}: row {number}: {error}; a row is "
                f'{{"env": {{"name": E}}, "scenario": "E:{SCENARIO}", "args": {{"task_id": T}}}}'
            ) from None
    return rows


def _row(number: int, row: Any) -> TasksetRow:
    def text(table: Any, key: str, where: str) -> str:
        value = table.get(key) if isinstance(table, dict) else None
        if not isinstance(value, str) or not value:
            raise ValueError(f"{where} is not a string")
        return value

    if not isinstance(row, dict):
        raise ValueError("it is not an object")
    environment = text(row.get("env"), "name", "env.name")
    scenario = text(row, "scenario", "scenario")
    if scenario != f"{environment}:{SCENARIO}":
        raise ValueError(f"scenario {scenario!r} is not {environment}:{SCENARIO}")
    arguments = row.get("args")
    task = text(arguments, "task_id", "args.task_id") if arguments else ""
    if {"/", os.sep, "\0"} & {*environment, *task} or {environment, task} & {".", ".."}:
        raise ValueError("env.name or args.task_id is not a valid folder name")
    metadata = row.get("metadata")
    source = metadata.get("harbor_source") if isinstance(metadata, dict) else None
    return TasksetRow(number, environment, task, source if isinstance(source, str) else "")


def task_directories(path: Path) -> list[Path]:
    """Return the directories of a taskset's tasks, in its order; their environments are next to it.

    Raises:
        DatasetError: the taskset is broken, the task of a row does not exist, or two rows name the same task.

    """
    seen: dict[Path, int] = {}
    for row in read_taskset(path):
        directory = _directory(path, row)
        if directory in seen:
            raise DatasetError(
                f"{path}: row {row.number} names the same task as row {seen[directory]}; "
                "remove one, and use --harbor-attempts to run tasks more than once"
            )
        seen[directory] = row.number
    return list(seen)


def _directory(path: Path, row: TasksetRow) -> Path:
    environment = path.parent / row.environment
    tasks = environment / TASKS
    try:
        there = sorted(child.name for child in tasks.iterdir() if (child / "task.toml").exists())
    except OSError:
        there = []
    if not there:
        raise DatasetError(
            f"{path}: row {row.number}: there is no environment {row.environment!r} next to it (no tasks in {tasks}); "
            "keep a taskset in its converted folder"
        )
    if row.task in there:
        return tasks / row.task
    if not row.task and len(there) == 1:
        return tasks / there[0]
    near = difflib.get_close_matches(row.task, there, n=3, cutoff=0.5) or there[:3]
    more = f" and {len(there) - len(near):,} more" if len(near) < len(there) else ""
    raise DatasetError(
        f"{path}: row {row.number}: environment {row.environment!r} has no task {row.task!r}; "
        f"it has {', '.join(map(repr, near))}{more}"
    )


class TasksetCache:
    """The tasksets of converted folders, which name the original tasks; each file is read once."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[tuple[str, str], str]] = {}

    def dataset_parts(self, task: str, environment: str) -> tuple[str, ...]:
        """Return the parts of a path that identifies the dataset of a converted task; the last one is its name.

        The name is that of the original dataset, so that results of converted and original tasks can be compared.
        Without a taskset, it is the folder's.

        Raises:
            DatasetError: the taskset is broken.

        """
        folder, name = os.path.split(environment)
        if folder not in self._sources:
            path = Path(folder, TASKSET)
            rows = read_taskset(path) if os.path.lexists(path) else []
            self._sources[folder] = {(row.environment, row.task): row.source for row in rows}
        known = self._sources[folder]
        source = known.get((name, os.path.basename(task))) or known.get((name, ""), "")  # noqa: PTH119
        dataset = source.rpartition("/")[0].strip("/")
        place = folder.split(os.sep)  # noqa: PTH206 - as in discovery
        if dataset:
            return (*place, *dataset.split("/"))
        return tuple(place) if known else (*place, name)

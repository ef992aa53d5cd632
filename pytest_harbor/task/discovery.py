"""Discovery of tasks below paths, and the names of their datasets.

Paths are plain strings here, because with pathlib, discovering 10,000 tasks takes several times as long.
"""
# ruff: noqa: PTH100, PTH112, PTH116, PTH119, PTH118, PTH120, PTH206, PTH207

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_harbor._util.text import plural
from pytest_harbor.task.converted import DOCKERFILE, TASKS, environment_folder
from pytest_harbor.task.errors import DatasetError
from pytest_harbor.task.task import Task
from pytest_harbor.task.taskset import TasksetCache, task_directories

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_Identity = tuple[int, int]  # device and inode


def discover(paths: Sequence[str | os.PathLike[str]]) -> list[Task]:
    """Find all tasks below paths: in the order of the paths, sorted within each, without duplicates.

    A directory with an entry named task.toml is a task, and is not searched further. Hidden directories are skipped.
    Links to directories are followed and keep their own path, so a linked dataset is distinct from its target. A
    task's dataset is named after the parent directory; parents with equal names are prefixed with as much of their
    paths as makes them distinct (``a/tb2`` and ``b/tb2``). Harbor itself searches immediate children only.

    In a converted environment (a directory with a Dockerfile.hud and tasks), only its tasks are searched; their dataset
    is the one they were converted from.

    Raises:
        DatasetError: a path does not exist, is neither a directory nor a task.toml, or contains no task; or the
            taskset.json of converted tasks is broken.

    """
    # A dictionary keeps the order and drops duplicates.
    return _tasks(dict.fromkeys(directory for path in paths for directory in _tasks_below(path)))


def discover_taskset(path: str | os.PathLike[str]) -> list[Task]:
    """Find the tasks of a taskset.json, in its order.

    Raises:
        DatasetError: the file is broken, or the task of a row does not exist.

    """
    return _tasks([str(directory) for directory in task_directories(Path(os.path.abspath(path)))])


def _tasks(directories: Iterable[str]) -> list[Task]:
    """Create the tasks of directories."""
    tasksets = TasksetCache()
    found: list[tuple[str, tuple[str, ...], str | None]] = []
    for directory in directories:
        environment = environment_folder(directory)
        if environment is None:
            found.append((directory, tuple(os.path.dirname(directory).split(os.sep)), None))
        else:
            found.append((directory, tasksets.dataset_parts(directory, environment), environment))
    datasets = _dataset_names({place for _, place, _ in found})
    return [
        Task(Path(directory), datasets[place], Path(environment) if environment else None)
        for directory, place, environment in found
    ]


def _tasks_below(path: str | os.PathLike[str]) -> list[str]:
    top = os.path.abspath(path)
    if not os.path.lexists(top):
        raise DatasetError(f"{top} does not exist; give a task, a dataset or a directory of datasets")
    if os.path.basename(top) == "task.toml":
        top = os.path.dirname(top)
    elif not os.path.isdir(top):
        hint = "; give a taskset with --harbor-taskset" if top.endswith(".json") else ""
        raise DatasetError(f"{top} is not a directory; give a task, a dataset or a directory of datasets{hint}")
    found = _search(top)
    if not found:
        if old := glob.glob(os.path.join(glob.escape(top), "**", "task.yaml"), recursive=True):
            raise DatasetError(
                f"{top} contains {plural(len(old), 'task')} in the format of Terminal-Bench 1 (task.yaml), and none in "
                f"that of Harbor; convert it with `harbor tasks migrate -i {top} -o {top}-harbor`"
            )
        raise DatasetError(
            f"{top} contains no task; a task is a directory with a task.toml, and hidden directories are skipped"
        )
    return sorted(found, key=lambda directory: directory.split(os.sep))


def _search(top: str) -> list[str]:
    """Find the task directories at or below a directory, unsorted.

    A link to one of its own ancestors is not followed. Below a link, no directory is entered twice, so the search
    ends soon even if directories link to each other in every way.
    """
    found: list[str] = []
    waiting: list[tuple[str, frozenset[_Identity], set[_Identity] | None]] = [(top, frozenset(), None)]
    while waiting:
        directory, ancestors, entered = waiting.pop()
        try:
            with os.scandir(directory) as scan:
                entries = list(scan)
            names = {entry.name for entry in entries}
            if "task.toml" in names:
                found.append(directory)
                continue
            if {DOCKERFILE, TASKS} <= names:
                # The rest is the build context and generated files.
                entries = [entry for entry in entries if entry.name == TASKS]
            status = os.stat(directory)
        except OSError as error:
            raise DatasetError(
                f"{directory} cannot be searched for tasks: {error.strerror or error}; "
                "make it readable, or give the other datasets one by one"
            ) from error
        here = (status.st_dev, status.st_ino)
        if here in ancestors:
            continue
        if entered is not None:
            if here in entered:
                continue
            entered.add(here)
        above = ancestors | {here}
        for entry in entries:
            if not entry.name.startswith(".") and _is_directory(entry):
                waiting.append((entry.path, above, set() if entered is None and entry.is_symlink() else entered))
    return found


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or without permission
        return False


def _dataset_names(places: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Map each path of a dataset, given in parts, to the shortest end that is unique."""
    names: dict[tuple[str, ...], str] = {}
    unnamed = set(places)
    length = 1
    while unnamed:
        ends = {place: "/".join(place[-length:]) for place in unnamed}
        uses = Counter(ends.values())
        for place, end in ends.items():
            if uses[end] == 1:
                names[place] = end.lstrip("/")
                unnamed.remove(place)
        length += 1
    return names

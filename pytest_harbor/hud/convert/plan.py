"""Which environments a dataset becomes: tasks by what their images are made of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_harbor._util.files import file_digest
from pytest_harbor.errors import ImageError
from pytest_harbor.hud.convert.dockerfile import Original, from_dockerfile, from_image
from pytest_harbor.hud.names import base_name, scenario
from pytest_harbor.image import BuildContext
from pytest_harbor.image.dockerfile import DockerfileError
from pytest_harbor.task import DatasetError, Task, TaskError
from pytest_harbor.task.converted import GENERATED
from pytest_harbor.task.document import json_values
from pytest_harbor.task.files import walk

# A name that FROM takes as it stands.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


@dataclass(frozen=True)
class Entry:
    """A file, directory or link of a build context.

    Attributes:
        path: below the context.
        host: where it is.
        mode: kind and permission bits.

    """

    path: PurePosixPath
    host: Path
    mode: int


@dataclass(frozen=True)
class Recipe:
    """A Dockerfile.hud, and its permission bits."""

    dockerfile: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Environment:
    """A converted environment.

    Attributes:
        name: its name, and that of its folder.
        tasks: its tasks, sorted.
        recipe: what its image is built with.

    """

    name: str
    tasks: tuple[Task, ...]
    recipe: Recipe

    @property
    def model(self) -> Task:
        """The task whose build context is taken; those of the others are equal."""
        return self.tasks[0]

    @cached_property
    def context(self) -> tuple[Entry, ...]:
        """What is in the build context, parents first."""
        return tuple(build_context(self.model))

    def rows(self) -> list[dict[str, Any]]:
        """Return the environment's rows of taskset.json."""
        return [_row(self.name, task) for task in self.tasks]


@dataclass(frozen=True)
class Refusal:
    """A task that cannot be converted, and why."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Plan:
    """What becomes of tasks.

    Attributes:
        environments: in the order of the taskset.
        refused: tasks that cannot be converted, in their own order.

    """

    environments: tuple[Environment, ...]
    refused: tuple[Refusal, ...]


def plan(tasks: Iterable[Task]) -> Plan:
    """Sort out what environments tasks become.

    Raises:
        DatasetError: two datasets would become environments of one name.

    """
    refused: list[Refusal] = []
    datasets: dict[str, dict[str, list[Task]]] = {}
    recipes: dict[str, Recipe | ValueError] = {}
    for task in tasks:
        try:
            _check(task)
            key = _group_key(task)
            if key not in recipes:
                recipes[key] = _recipe(task)
            recipe = recipes[key]
            if isinstance(recipe, ValueError):
                raise recipe
        except TaskError as error:
            refused.append(Refusal(task, _relative(error, task)))
        except ValueError as error:
            refused.append(Refusal(task, str(error)))
        else:
            datasets.setdefault(task.dataset, {}).setdefault(key, []).append(task)
    environments: dict[str, Environment] = {}
    for dataset, groups in datasets.items():
        base = base_name(dataset)
        # The largest first; sorted() keeps the order of equal ones.
        for number, (key, group) in enumerate(sorted(groups.items(), key=lambda item: -len(item[1])), start=1):
            name = base if len(groups) == 1 else f"{base}-g{number}"
            if name in environments:
                other = environments[name].model.dataset
                raise DatasetError(
                    f"the datasets {other} and {dataset} would both become {name}; convert them one by one"
                )
            recipe = recipes[key]
            assert isinstance(recipe, Recipe)
            environments[name] = Environment(name, tuple(group), recipe)
    return Plan(tuple(environments.values()), tuple(refused))


def _check(task: Task) -> None:
    """Raise TaskError or ValueError where a task cannot be converted."""
    if task.unsupported:
        raise ValueError(task.unsupported)
    task.check()
    _row("", task)
    task.name.encode()  # UnicodeEncodeError is a ValueError
    if not task.name.isprintable():
        raise ValueError("its name has characters that cannot be printed")
    image = task.config.environment.docker_image
    if task.dockerfile is None and image and not _IMAGE.fullmatch(image):
        raise ValueError(f"docker_image {image!r} is no name that FROM takes")
    task.upload_files("tests")


def _relative(error: TaskError, task: Task) -> str:
    try:
        return f"{error.path.relative_to(task.path)}: {error.reason}"
    except ValueError:
        return str(error)


def _group_key(task: Task) -> str:
    """Return what tasks of one environment have in common.

    Paths and contents of the files, as in HUD; and modes, links and empty directories, which an image shows too. An
    image that is named counts only where it is what the environment starts from.

    Raises:
        TaskError: a file cannot be read.
        ValueError: the build context cannot be kept as it is.

    """
    total = hashlib.sha256()

    def add(*parts: bytes) -> None:
        for part in parts:
            total.update(len(part).to_bytes(8, "big") + part)

    if task.dockerfile is None:
        add(b"image", str(task.config.environment.docker_image).encode())
    if not task.environment_dir.is_dir():
        add(b"nothing")
    for entry in build_context(task):
        if str(entry.path) in GENERATED:
            raise ValueError(f"environment/{entry.path}: a conversion writes a file of this name; rename it")
        if not (stat.S_ISDIR(entry.mode) or stat.S_ISREG(entry.mode) or stat.S_ISLNK(entry.mode)):
            raise ValueError(f"environment/{entry.path}: is neither a file nor a directory nor a link")
        mode = f"{entry.mode:o}".encode()
        try:
            content = b""
            if stat.S_ISLNK(entry.mode):
                content = os.fsencode(entry.host.readlink())
            elif stat.S_ISREG(entry.mode):
                content = file_digest(entry.host)
        except OSError as error:
            raise TaskError(entry.host, f"cannot be read: {error.strerror or error}") from error
        add(os.fsencode(entry.path), mode, content)
    return total.hexdigest()


def _recipe(task: Task) -> Recipe | ValueError:
    """Return how the image of a task and of all with the same build context is built, or why it cannot be.

    Raises:
        TaskError: a file cannot be read.

    """
    path = task.dockerfile
    context = BuildContext(task.environment_dir)
    try:
        _ = context.ignore_patterns
        if path is None:
            return Recipe(from_image(task.config.environment.docker_image).encode())
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        # Images may show the mode, and the digest of the build context does.
        mode = stat.S_IMODE(path.stat().st_mode)
        original = Original(text, f"{task.id}/environment", "Dockerfile" in context.copyable_files(), mode)
        return Recipe(from_dockerfile(original).encode("utf-8", "surrogateescape"), mode)
    except OSError as error:
        raise TaskError(path or task.environment_dir, f"cannot be read: {error.strerror or error}") from error
    except DockerfileError as error:
        return ValueError(f"environment/Dockerfile: {error}")
    except ImageError as error:
        return ValueError(error.fact)


def build_context(task: Task) -> list[Entry]:
    """List what is in a task's build context, parents first; links are not followed.

    Raises:
        TaskError: a directory cannot be read.

    """
    if not task.environment_dir.is_dir():
        return []
    found = walk(task.environment_dir, PurePosixPath(), lambda _path, _mode: True)
    return sorted((Entry(*entry) for entry in found), key=lambda entry: entry.path)


def _row(environment: str, task: Task) -> dict[str, Any]:
    """Return a task's row of taskset.json.

    Raises:
        TaskError: task.toml is broken.
        ValueError: its metadata cannot be written as JSON.

    """
    # What [metadata] may call harbor_source itself must not hide where the task comes from.
    metadata: dict[str, Any] = {"harbor_source": task.id}
    if isinstance(table := task.document.get("metadata"), dict):
        metadata.update((key, value) for key, value in json_values(table).items() if key not in metadata)
    row = {
        "env": {"name": environment},
        "scenario": scenario(environment),
        "args": {"task_id": task.name},
        "metadata": metadata,
    }
    try:
        json.dumps(row, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"[metadata] cannot be written as JSON: {error}") from error
    return row


def rows(environments: Sequence[Environment]) -> str:
    """Return the text of taskset.json."""
    listed = [row for environment in environments for row in environment.rows()]
    return json.dumps(listed, ensure_ascii=False, indent=2) + "\n"

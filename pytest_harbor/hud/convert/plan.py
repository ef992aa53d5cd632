"""The conversion's plan: tasks with the same image become one environment."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_harbor._util.files import Digest, file_digest
from pytest_harbor.errors import ImageError
from pytest_harbor.hud.convert.dockerfile import Original, from_dockerfile, from_image
from pytest_harbor.hud.names import base_name, scenario
from pytest_harbor.image import BuildContext
from pytest_harbor.image.words import DockerfileError
from pytest_harbor.task import DatasetError, Task, TaskError
from pytest_harbor.task.converted import GENERATED
from pytest_harbor.task.document import json_values
from pytest_harbor.task.files import walk

# An image name that can follow FROM literally.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


@dataclass(frozen=True)
class ContextEntry:
    """A file, directory or link in a build context.

    Attributes:
        path: path in the build context.
        host: path on the host.
        mode: file type and permission bits.

    """

    path: PurePosixPath
    host: Path
    mode: int


@dataclass(frozen=True)
class HudDockerfile:
    """The content of a Dockerfile.hud, and its permission bits."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class ConvertedEnvironment:
    """A converted environment.

    Attributes:
        name: the name of the environment and its directory.
        tasks: its tasks, sorted.
        dockerfile: its Dockerfile.hud.

    """

    name: str
    tasks: tuple[Task, ...]
    dockerfile: HudDockerfile

    @property
    def representative(self) -> Task:
        """The task whose build context is copied; the other tasks' contexts are equal."""
        return self.tasks[0]

    @cached_property
    def context(self) -> tuple[ContextEntry, ...]:
        """The entries of the build context, parent directories first."""
        return tuple(build_context(self.representative))

    def rows(self) -> list[dict[str, Any]]:
        """Return the environment's rows of taskset.json."""
        return [_row(self.name, task) for task in self.tasks]


@dataclass(frozen=True)
class RejectedTask:
    """A task that cannot be converted, and the reason."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Plan:
    """The environments that tasks become, and the tasks that cannot be converted.

    Attributes:
        environments: the environments, in the order of the taskset.
        rejected: the tasks that cannot be converted, in their original order.

    """

    environments: tuple[ConvertedEnvironment, ...]
    rejected: tuple[RejectedTask, ...]


def plan(tasks: Iterable[Task]) -> Plan:
    """Group tasks into environments.

    Raises:
        DatasetError: two datasets would become environments with the same name.

    """
    rejected: list[RejectedTask] = []
    datasets: dict[str, dict[str, list[Task]]] = {}
    dockerfiles: dict[str, HudDockerfile | ValueError] = {}
    for task in tasks:
        try:
            _check(task)
            key = _group_key(task)
            if key not in dockerfiles:
                dockerfiles[key] = _hud_dockerfile(task)
            dockerfile = dockerfiles[key]
            if isinstance(dockerfile, ValueError):
                raise dockerfile
        except TaskError as error:
            rejected.append(RejectedTask(task, _relative(error, task)))
        except ValueError as error:
            rejected.append(RejectedTask(task, str(error)))
        else:
            datasets.setdefault(task.dataset, {}).setdefault(key, []).append(task)
    environments: dict[str, ConvertedEnvironment] = {}
    for dataset, groups in datasets.items():
        base = base_name(dataset)
        # The largest group first; sorted() keeps the order of groups of the same size.
        for number, (key, group) in enumerate(sorted(groups.items(), key=lambda item: -len(item[1])), start=1):
            name = base if len(groups) == 1 else f"{base}-g{number}"
            if name in environments:
                other = environments[name].representative.dataset
                raise DatasetError(f"datasets {other} and {dataset} would both become {name}; convert them separately")
            dockerfile = dockerfiles[key]
            assert isinstance(dockerfile, HudDockerfile)
            environments[name] = ConvertedEnvironment(name, tuple(group), dockerfile)
    return Plan(tuple(environments.values()), tuple(rejected))


def _check(task: Task) -> None:
    """Raise TaskError or ValueError if a task cannot be converted."""
    if task.unsupported:
        raise ValueError(task.unsupported)
    task.check()
    _row("", task)
    task.name.encode()  # UnicodeEncodeError is a ValueError
    if not task.name.isprintable():
        raise ValueError("the task's name has unprintable characters")
    image = task.config.environment.docker_image
    if task.dockerfile is None and image and not _IMAGE.fullmatch(image):
        raise ValueError(f"docker_image {image!r} is not a valid image name")
    task.upload_files("tests")


def _relative(error: TaskError, task: Task) -> str:
    try:
        return f"{error.path.relative_to(task.path)}: {error.reason}"
    except ValueError:
        return str(error)


def _group_key(task: Task) -> str:
    """Return a digest that is equal for tasks of the same environment.

    It covers paths and contents of the files, as in HUD, and also modes, links and empty directories, which are visible
    in an image. docker_image counts only if there is no Dockerfile.

    Raises:
        TaskError: a file cannot be read.
        ValueError: the build context cannot be converted faithfully.

    """
    digest = Digest()
    if task.dockerfile is None:
        digest.add("image", str(task.config.environment.docker_image))
    if not task.environment_dir.is_dir():
        digest.add("no environment directory")
    for entry in build_context(task):
        if str(entry.path) in GENERATED:
            raise ValueError(f"environment/{entry.path}: the conversion generates a file with this name; rename it")
        if not (stat.S_ISDIR(entry.mode) or stat.S_ISREG(entry.mode) or stat.S_ISLNK(entry.mode)):
            raise ValueError(f"environment/{entry.path}: not a file, directory or link")
        try:
            content = b""
            if stat.S_ISLNK(entry.mode):
                content = os.fsencode(entry.host.readlink())
            elif stat.S_ISREG(entry.mode):
                content = file_digest(entry.host)
        except OSError as error:
            raise TaskError(entry.host, f"cannot be read: {error.strerror or error}") from error
        digest.add(str(entry.path), f"{entry.mode:o}", content)
    return digest.hex()


def _hud_dockerfile(task: Task) -> HudDockerfile | ValueError:
    """Return the Dockerfile.hud for a task and all tasks with the same build context, or why there cannot be one.

    Raises:
        TaskError: a file cannot be read.

    """
    path = task.dockerfile
    context = BuildContext(task.environment_dir)
    try:
        copied = not context.ignored.excludes("Dockerfile")
        if path is None:
            return HudDockerfile(from_image(task.config.environment.docker_image).encode())
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        # The mode may be visible in the image, and is part of the build context's digest.
        mode = stat.S_IMODE(path.stat().st_mode)
        original = Original(text, f"{task.id}/environment", copied, mode)
        return HudDockerfile(from_dockerfile(original).encode("utf-8", "surrogateescape"), mode)
    except OSError as error:
        raise TaskError(path or task.environment_dir, f"cannot be read: {error.strerror or error}") from error
    except DockerfileError as error:
        return ValueError(f"environment/Dockerfile: {error}")
    except ImageError as error:
        return ValueError(error.fact)


def build_context(task: Task) -> list[ContextEntry]:
    """List the entries of a task's build context, parent directories first; links are not followed.

    Raises:
        TaskError: a directory cannot be read.

    """
    if not task.environment_dir.is_dir():
        return []
    found = walk(task.environment_dir, PurePosixPath(), lambda _path, _mode: True)
    return sorted((ContextEntry(*entry) for entry in found), key=lambda entry: entry.path)


def _row(environment: str, task: Task) -> dict[str, Any]:
    """Return a task's row of taskset.json.

    Raises:
        TaskError: task.toml is invalid.
        ValueError: the metadata cannot be written as JSON.

    """
    # A harbor_source in [metadata] must not override this one.
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


def taskset_json(environments: Sequence[ConvertedEnvironment]) -> str:
    """Return the text of taskset.json."""
    rows = [row for environment in environments for row in environment.rows()]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"

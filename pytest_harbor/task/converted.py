"""The layout of converted tasks, which is HUD's: `<folder>/<environment>/tasks/<task>`.

Paths are plain strings here, as in discovery.
"""
# ruff: noqa: PTH112, PTH113, PTH118, PTH119, PTH120

from __future__ import annotations

import os
from dataclasses import dataclass

DOCKERFILE = "Dockerfile.hud"
ENV_PY = "env.py"
PYPROJECT = "pyproject.toml"
TASKS = "tasks"
TASKSET = "taskset.json"

# The files that a conversion adds to the build context.
GENERATED = (DOCKERFILE, f"{DOCKERFILE}.dockerignore", ENV_PY, PYPROJECT, TASKS)

# The title of a Dockerfile.hud that is based on the task's Dockerfile rather than on an image.
BASE_TITLE = "Harbor environment base"


@dataclass(frozen=True)
class TasksetRow:
    """A row of a taskset.

    Attributes:
        number: the position in the file, from 1.
        environment: the name of the environment and of its folder.
        task: the name of the task; empty for the only task of an environment.
        source: the id `<dataset>/<task>` before the conversion; empty if the row does not contain it.

    """

    number: int
    environment: str
    task: str
    source: str


def is_environment_folder(directory: str) -> bool:
    """Return True if a directory is the folder of a converted environment."""
    return os.path.isfile(os.path.join(directory, DOCKERFILE)) and os.path.isdir(os.path.join(directory, TASKS))


def environment_folder(task: str) -> str | None:
    """Return the environment folder of a converted task, or None for any other task."""
    above = os.path.dirname(task)
    if os.path.basename(above) != TASKS or not is_environment_folder(os.path.dirname(above)):
        return None
    # A task with its own environment directory is an ordinary Harbor task, wherever it is.
    return None if os.path.lexists(os.path.join(task, "environment")) else os.path.dirname(above)


def has_own_dockerfile(dockerfile: str) -> bool:
    """Return True if a Dockerfile.hud is based on a Dockerfile of its tasks.

    Raises:
        OSError: the file cannot be read.

    """
    with open(dockerfile, encoding="utf-8-sig", errors="replace") as file:  # noqa: PTH123
        for line in file:
            if not line.startswith("#"):
                return False
            if line[1:].strip() == BASE_TITLE:
                return True
    return False

"""The layout of converted tasks: `<folder>/<environment>/tasks/<task>`, as HUD has it.

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

# What a conversion puts beside the files of the build context.
GENERATED = (DOCKERFILE, f"{DOCKERFILE}.dockerignore", ENV_PY, PYPROJECT, TASKS)

# Stands at the head of a Dockerfile.hud that goes back to a Dockerfile of the task, and not to an image.
BASE_TITLE = "Harbor environment base"


@dataclass(frozen=True)
class TasksetRow:
    """A row of a taskset.

    Attributes:
        number: its place in the file, from 1.
        environment: name of the environment, which is also that of its folder.
        task: name of the task; empty for the only one of an environment.
        source: `<dataset>/<task>` as it was before the conversion; empty where the row does not say.

    """

    number: int
    environment: str
    task: str
    source: str


def is_environment_folder(directory: str) -> bool:
    """Tell whether a directory is the folder of a converted environment."""
    return os.path.isfile(os.path.join(directory, DOCKERFILE)) and os.path.isdir(os.path.join(directory, TASKS))


def environment_folder(task: str) -> str | None:
    """Return the environment's folder of a converted task, None for any other task."""
    above = os.path.dirname(task)
    if os.path.basename(above) != TASKS or not is_environment_folder(os.path.dirname(above)):
        return None
    # What has an environment of its own is a task as Harbor has it, whatever lies around it.
    return None if os.path.lexists(os.path.join(task, "environment")) else os.path.dirname(above)


def has_own_dockerfile(dockerfile: str) -> bool:
    """Tell whether a Dockerfile.hud goes back to a Dockerfile of its tasks.

    Raises:
        OSError: it cannot be read.

    """
    with open(dockerfile, encoding="utf-8-sig", errors="replace") as file:  # noqa: PTH123
        for line in file:
            if not line.startswith("#"):
                return False
            if line[1:].strip() == BASE_TITLE:
                return True
    return False

"""What pytest must be kept from before it reads its own configuration, where task directories are its arguments.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def spare_task_directories(early_config: pytest.Config) -> None:
    """Replace task directories among pytest's arguments by what is above them, while it looks for conftest.py files.

    It would import those of a task and of its tests/, which belong into the task's environment; those of a converted
    environment likewise.
    """
    namespace = early_config.known_args_namespace
    base = early_config.invocation_params.dir
    given = getattr(namespace, "file_or_dir", None) or getattr(namespace, "harbor_dataset", None)
    if not given and (taskset := getattr(namespace, "harbor_taskset", None)):
        given = [str(Path(taskset).parent)]
    if not given:
        return
    places = []
    for argument in given:
        path = base / str(argument).partition("::")[0]
        directory = path.parent if path.name == "task.toml" else path
        outside = _outside(directory)
        places.append(str(argument) if outside == directory else str(outside))
    namespace.file_or_dir = places


def keep_root_outside(early_config: pytest.Config) -> None:
    """Have pytest's root directory, where its cache is, not be a converted environment.

    pytest takes the directory of the nearest pyproject.toml where no file configures it. That of an environment is for
    its image, and what pytest would leave beside it would become part of that.
    """
    inipath = early_config.inipath
    if inipath is None or inipath.name != "pyproject.toml" or not (inipath.parent / "Dockerfile.hud").is_file():
        return
    if early_config.rootpath != inipath.parent or early_config.known_args_namespace.rootdir:
        return
    # As it would be without that file. pytest itself has decided before the first hook.
    places = [early_config.invocation_params.dir, inipath.parent.parent]
    early_config._rootpath = Path(os.path.commonpath(places))
    early_config._inipath = None


def _outside(directory: Path) -> Path:
    """Return the innermost directory around a path that belongs neither to a task nor to a converted environment."""
    if (directory / "task.toml").is_file():
        directory = directory.parent
    if directory.name == "tasks" and (directory.parent / "Dockerfile.hud").is_file():
        directory = directory.parent
    return directory.parent if (directory / "Dockerfile.hud").is_file() else directory

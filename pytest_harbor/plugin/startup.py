"""Before and around the session: protect task directories from pytest's own discovery, read options, clean up.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_harbor.plugin.listener import Listener
from pytest_harbor.plugin.options.config import read_options
from pytest_harbor.plugin.session import SESSION, HarborSession

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKER = (
    "harbor(dataset=None, task='*'): run this test once for each task of a dataset (its name, or a path relative to "
    "the test's file) whose name or id matches; without arguments, for each task of --harbor-dataset"
)


def keep_conftests_out(early_config: pytest.Config) -> None:
    """Keep pytest from importing conftest.py files of tasks and of converted environments given as arguments.

    They belong in the task's environment. For this early search only, each such directory is replaced by the one above
    it.
    """
    namespace = early_config.known_args_namespace
    base = early_config.invocation_params.dir
    given = getattr(namespace, "file_or_dir", None) or getattr(namespace, "harbor_dataset", None)
    if not given and (taskset := getattr(namespace, "harbor_taskset", None)):
        given = [str(Path(taskset).parent)]
    if not given:
        return
    replaced = []
    for argument in given:
        path = base / str(argument).partition("::")[0]
        directory = path.parent if path.name == "task.toml" else path
        outside = _outside(directory)
        replaced.append(str(argument) if outside == directory else str(outside))
    namespace.file_or_dir = replaced


def keep_root_outside(early_config: pytest.Config) -> None:
    """Keep pytest's root directory, and so its cache, out of a converted environment.

    If no file configures pytest, it takes the directory of the nearest pyproject.toml. An environment's pyproject.toml
    is for its image, and whatever pytest wrote next to it would become part of that image.
    """
    inipath = early_config.inipath
    if inipath is None or inipath.name != "pyproject.toml" or not (inipath.parent / "Dockerfile.hud").is_file():
        return
    if early_config.rootpath != inipath.parent or early_config.known_args_namespace.rootdir:
        return
    # What pytest would choose without that file; it decides before the first hook.
    parents = [early_config.invocation_params.dir, inipath.parent.parent]
    early_config._rootpath = Path(os.path.commonpath(parents))
    early_config._inipath = None


def _outside(directory: Path) -> Path:
    """Return the nearest directory, going up, that belongs to neither a task nor a converted environment."""
    if (directory / "task.toml").is_file():
        directory = directory.parent
    if directory.name == "tasks" and (directory.parent / "Dockerfile.hud").is_file():
        directory = directory.parent
    return directory.parent if (directory / "Dockerfile.hud").is_file() else directory


def configure(config: pytest.Config) -> None:
    """Read the options, and take part in the run if they name datasets.

    Raises:
        pytest.UsageError: an option's value is not valid, or options exclude each other.

    """
    session = HarborSession(config, read_options(config))
    config.stash[SESSION] = session
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(Listener(session), "harbor-listener")
    if session.options.datasets:
        from pytest_harbor.plugin.activation import activate

        activate(session)
        _collect_only_datasets(config, session.options.datasets)


def unconfigure(config: pytest.Config) -> None:
    """Restore the SIGTERM handler and close the provider and the services."""
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    if session.restore_sigterm is not None:
        session.restore_sigterm()
    if session.runner is not None:
        with contextlib.ExitStack() as stack:
            stack.callback(session.runner.provider.close)
            stack.callback(session.runner.close)


def _collect_only_datasets(config: pytest.Config, datasets: Sequence[Path]) -> None:
    """Collect nothing but the datasets if the command line names no path.

    pytest-xdist workers need this too, since they parse the command line again.
    """
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        paths = dict.fromkeys(datasets)
        # A dataset below another is collected with it; older versions of pytest fail if given both.
        config.args = [str(path) for path in paths if paths.keys().isdisjoint(path.parents)]
        config.args_source = pytest.Config.ArgsSource.ARGS

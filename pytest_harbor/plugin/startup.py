"""Before and around the session: protect task directories from pytest's own discovery, read options, clean up.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from pytest_harbor.plugin import places
from pytest_harbor.plugin.listener import Listener
from pytest_harbor.plugin.options.config import check_datasets, read_options
from pytest_harbor.plugin.options.suggestions import refuse_unknown_keys
from pytest_harbor.plugin.options.without_effect import refuse_flags_without_effect
from pytest_harbor.plugin.places import Places
from pytest_harbor.plugin.session import SESSION, HarborSession

MARKERS = (
    "harbor(dataset=None, task='*'): run this test once for each task of a dataset (its name, or a path relative to "
    "the test's file) whose name or id matches; without arguments, for each task of --harbor-dataset",
    "difficulty_<x>, category_<x>, tag_<x>: on tasks, from [metadata] of task.toml, in lower case with _ for what is "
    "neither a letter nor a digit; for example -m 'difficulty_easy and not category_games'",
    "agent_<name>: on tasks, if several agents run",
)


def keep_conftests_out(early_config: pytest.Config) -> None:
    """Keep pytest from importing conftest.py files of tasks and of converted environments before it collects tests.

    They belong in the task's environment. pytest imports those in and above its arguments and in their directories
    named test*. For this early search only, an argument that leads to a task is replaced by files outside of the task.
    """
    namespace = early_config.known_args_namespace
    base = early_config.invocation_params.dir
    given = namespace.file_or_dir or getattr(namespace, "harbor_dataset", None)
    if not given and (taskset := getattr(namespace, "harbor_taskset", None)):
        given = [str(Path(taskset).parent)]
    by_option = given and not namespace.file_or_dir
    if not given:
        given, _ = early_config._decide_args(
            args=[],
            pyargs=namespace.pyargs,
            testpaths=early_config.getini("testpaths"),
            invocation_dir=base,
            rootpath=early_config.rootpath,
            warn=False,
        )
    replaced = [anchor for argument in given for anchor in _anchors(str(argument), base)]
    # pytest does not know of datasets; it would load a conftest.py above one too late for its options and plugins.
    if by_option or replaced != [str(argument) for argument in given]:
        namespace.file_or_dir = replaced


def _anchors(argument: str, base: Path) -> list[str]:
    """Return what to give to pytest's search for conftest.py files in place of an argument."""
    path = Path(os.path.abspath(base / argument.partition("::")[0]))  # noqa: PTH100
    if not path.exists():
        return [argument]
    outside = places.outside_tasks(path)
    if not outside.is_dir():
        return [argument]
    tests = [child for child in outside.glob("test*") if child.is_dir()]
    safe = [child for child in tests if not places.is_task(child)]
    if outside == path and len(safe) == len(tests):
        return [argument]
    # For a file, pytest loads the conftest.py files beside and above it, and looks into no directory.
    return [str(file) for directory in (outside, *safe) if (file := _file_in(directory)) is not None]


def _file_in(directory: Path) -> Path | None:
    """Return a file in a directory or, if there is none, in the nearest one above it that has one."""
    for place in (directory, *directory.parents):
        with contextlib.suppress(OSError):
            for entry in sorted(place.iterdir()):
                if entry.is_file():
                    return entry
    return None


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


def configure(config: pytest.Config) -> None:
    """Read the options, and take part in the run if they name datasets.

    Raises:
        pytest.UsageError: an option's value is not valid, or options exclude each other.

    """
    refuse_unknown_keys(config._get_unknown_ini_keys())
    session = HarborSession(config, read_options(config))
    config.stash[SESSION] = session
    if not session.is_worker:
        refuse_flags_without_effect(config, session.options)
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(Listener(session), "harbor-listener")
    session.places = Places(config, session.options)
    by_flag = config.getoption("harbor_dataset")
    check_datasets(config, session.options.datasets if by_flag else session.places.used)
    # A verdict that was asked for may not be missing because no task was found.
    if session.places.used or session.places.found or session.asked_for_verdict:
        from pytest_harbor.plugin.activation import activate

        activate(session)
        session.places.add_datasets()


def unconfigure(config: pytest.Config) -> None:
    """Restore the signal handlers and close the provider and the services."""
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    if session.restore_signals is not None:
        session.restore_signals()
    if session.runner is not None:
        with contextlib.ExitStack() as stack:
            stack.callback(session.runner.provider.close)
            stack.callback(session.runner.close)

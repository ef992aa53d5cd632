"""The pytest hooks, each of which delegates.

Loaded in every project that has the plugin installed, so nothing here may import more than pytest and the standard
library; the heavy imports happen inside the functions, once a run turns out to have Harbor tasks.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_harbor.plugin import startup

# pytest looks for fixtures in the plugin's module.
from pytest_harbor.plugin.fixtures import (
    harbor_agent,
    harbor_checked_agent,
    harbor_environment,
    harbor_image,
    harbor_task,
    harbor_trial,
    need_task,
)
from pytest_harbor.plugin.options import config as options
from pytest_harbor.plugin.options.suggestions import refuse_unknown_flags
from pytest_harbor.plugin.places import guard
from pytest_harbor.plugin.session import session_of

__all__ = [
    "harbor_agent",
    "harbor_checked_agent",
    "harbor_environment",
    "harbor_image",
    "harbor_task",
    "harbor_trial",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that users can implement."""
    from pytest_harbor.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Keep pytest out of task directories that are given as arguments, and refuse mistyped flags."""
    startup.keep_root_outside(early_config)
    startup.keep_conftests_out(early_config)
    yield
    refuse_unknown_flags(parser, args)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and take part in the run if there is a reason to."""
    startup.configure(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close whatever is open."""
    startup.unconfigure(config)


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect datasets and tasks, and keep pytest out of other tasks."""
    session = session_of(parent.config)
    if session.selection is not None:
        from pytest_harbor.plugin.collection import collect_directory

        if node := collect_directory(session, path, parent):
            return node
    return guard(path, parent, session.guarded)


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect tasks in directories that pytest would skip because of their names."""
    session = session_of(config)
    if session.selection is None:
        return None
    from pytest_harbor.plugin.collection import leads_to_tasks

    return False if leads_to_tasks(session, collection_path) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a user's test once for each task that it asks for."""
    if need_task(metafunc.fixturenames):
        from pytest_harbor.plugin.parametrize import parametrize

        parametrize(metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give each run of a test a trial of its own."""
    if need_task(getattr(item, "fixturenames", ())):
        from pytest_harbor.plugin.trials import begin_rerun

        begin_rerun(item)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Run the trial, so that a test starts when its trial has ended."""
    trial: Any = pyfuncitem.funcargs.get("harbor_trial")
    if trial is not None:
        from pytest_harbor.plugin.expected_failure import note_expectation

        note_expectation(pyfuncitem)
        trial.run()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add a trial's result to the report of its test."""
    if not need_task(getattr(item, "fixturenames", ())):
        return (yield)
    from pytest_harbor.plugin.item_reports import complete, hide_internals

    hide_internals(item, call)
    report = yield
    complete(item, call, report)
    return report


def pytest_report_teststatus(report: Any, config: pytest.Config) -> Any:
    """Show the reward next to the outcome."""
    if hasattr(report, "harbor_word"):
        from pytest_harbor.plugin.item_reports import status

        return status(report, with_reward=not session_of(config).summarizing)
    return None

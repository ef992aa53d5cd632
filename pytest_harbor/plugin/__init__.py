"""The pytest hooks, each of which delegates. Nothing here may import more than pytest and the standard library."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_harbor.plugin import startup as early

# Fixtures are named here because pytest looks for them in the plugin's module.
from pytest_harbor.plugin.fixtures import (
    harbor_agent,
    harbor_checked_agent,
    harbor_environment,
    harbor_image,
    harbor_task,
    harbor_trial,
)
from pytest_harbor.plugin.options import config as options

__all__ = [
    "harbor_agent",
    "harbor_checked_agent",
    "harbor_environment",
    "harbor_image",
    "harbor_task",
    "harbor_trial",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add our hooks."""
    from pytest_harbor.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Keep pytest from what lies in a task directory that was given as an argument."""
    early.keep_root_outside(early_config)
    early.spare_task_directories(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Read our options, and take part if there is a reason to."""
    from pytest_harbor.plugin.session import configure

    configure(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of everything."""
    from pytest_harbor.plugin.session import unconfigure

    unconfigure(config)


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect datasets and tasks."""
    from pytest_harbor.plugin.session import session_of

    return session_of(parent.config).collect_directory(path, parent)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a user's test once for each task it asks for."""
    if "harbor_task" in metafunc.fixturenames:
        from pytest_harbor.plugin.parametrize import parametrize

        parametrize(metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Run the trial, so that a test begins where the trial has ended."""
    trial: Any = pyfuncitem.funcargs.get("harbor_trial")
    if trial is not None:
        trial.run()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put a trial's result into its report."""
    report = yield
    if "harbor_task" in getattr(item, "fixturenames", ()):
        from pytest_harbor.plugin.item_reports import complete

        complete(item, call, report)
    return report


def pytest_report_teststatus(report: Any) -> Any:
    """Show the reward beside the outcome."""
    if hasattr(report, "harbor_word"):
        from pytest_harbor.plugin.item_reports import status

        return status(report)
    return None

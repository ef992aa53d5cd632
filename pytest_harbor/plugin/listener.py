"""Hooks that every pytest run with the plugin installed goes through; without Harbor tasks they cost nothing."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_harbor.plugin.session import HarborSession


class Listener:
    """Notices trials, including those of a user's own tests, which only turn up during the run.

    Args:
        session: the plugin's session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._session = session

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count failures that no verdict on trials may excuse."""
        self._session.other_failures += report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass the run's id, and the provider if one was chosen, to a pytest-xdist worker."""
        node.workerinput["harbor_run"] = self._session.run_id
        if self._session.runner is not None:
            node.workerinput["harbor_environment"] = self._session.runner.provider.name

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Raise the usage error that a worker found, since a worker cannot end the run.

        Raises:
            pytest.UsageError: a worker found one.

        """
        problem = getattr(node, "workeroutput", {}).get("harbor_usage_error")
        if problem:
            raise pytest.UsageError(problem)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> Generator[None, None, None]:
        """Keep results for the summary, and make an infrastructure error count as an error everywhere."""
        if hasattr(report, "harbor") or hasattr(report, "harbor_stop"):
            self._add_to_table(report)
        # A user's own test may fail for reasons other than its trial.
        self._session.other_failures += report.failed and not getattr(report, "harbor_scored", False)
        if report.when != "call" or not getattr(report, "harbor_error", False):
            yield
            return
        # JUnit XML and many plugins distinguish errors from failures by the report's phase.
        report.when = "setup"
        try:
            yield
        finally:
            report.when = "call"

    def _add_to_table(self, report: Any) -> None:
        from pytest_harbor.plugin.activation import activate
        from pytest_harbor.plugin.runner import open_runner
        from pytest_harbor.trial import TrialResult

        # With -n, workers collect, so this may be the first that the controller knows of any task.
        activate(self._session)
        open_runner(self._session)
        if hasattr(report, "harbor"):
            self._session.table.add(TrialResult.from_json(report.harbor))
        if hasattr(report, "harbor_stop"):
            self._session.table.add_stop(**report.harbor_stop)

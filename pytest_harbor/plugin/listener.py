"""Hooks that every pytest run with the plugin installed goes through; without Harbor tasks they cost nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_harbor._util.text import listed, plural, without_surrogates
from pytest_harbor.plugin.places import shown
from pytest_harbor.plugin.session import HarborSession

if TYPE_CHECKING:
    from pytest_harbor.plugin.scheduling import Claims


class Listener:
    """Notices trials, including those of a user's own tests, which only turn up during the run.

    Args:
        session: the plugin's session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._session = session
        self._base = session.config.invocation_params.dir
        # With pytest-xdist, if no distribution was chosen (scheduling.py).
        self._claims: Claims | None = None
        self._positions: dict[int, int] = {}

    def pytest_report_header(self) -> list[str]:
        """Name the datasets that the command line leaves out."""
        unused = [shown(path, self._base) for path in self._session.places.unused]
        if not unused:
            return []
        what = "dataset" if len(unused) == 1 else "datasets"
        cure = f"add {unused[0]} to run its tasks" if len(unused) == 1 else "add those whose tasks should run"
        why = "collected only for tests that ask for tasks, since the command line names other paths"
        return [f"harbor: {what} {listed(unused, 5)} {why}; {cure}"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how to run the tasks that pytest was pointed at, if no agent was chosen."""
        session = self._session
        ran = any(terminalreporter.stats.get(kind) for kind in ("passed", "failed", "error", "skipped"))
        deselected = terminalreporter.stats.get("deselected")
        # pytest also enters directories next to its arguments.
        tasks = [task for task in session.guarded if session.places.include(task)]
        if tasks and session.selection is None and (session.places.named or not ran):
            terminalreporter.write_line(f"harbor: {_not_collected(tasks, self._base)}")
        # pytest itself reports arguments that do not exist.
        elif session.places.found_nothing and session.places.given and not session.active:
            tops = listed([shown(path, self._base) for path in session.places.given], 5)
            what = "no test needs the agent, and there is no task" if ran or deselected else "no task found"
            terminalreporter.write_line(
                f"harbor: {what} in {tops}; a task is a directory with a task.toml and an instruction.md"
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_sessionfinish(self) -> None:
        """Send what only a pytest-xdist worker knows from collecting tests to its controller."""
        if self._session.is_worker:
            output = self._session.config.workeroutput  # type: ignore[attr-defined]
            output["harbor_guarded"] = without_surrogates([*map(str, self._session.guarded)])
            output["harbor_changed_notes"] = self._session.changed_notes

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Note when the session started, as pytest does for its last line."""
        self._session.began = time.monotonic()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count failures that no verdict on trials may excuse."""
        self._session.other_failures += report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Pass the run's id, what is wrong, and the provider if one was chosen, to a pytest-xdist worker."""
        node.workerinput["harbor_run"] = self._session.run_id
        node.workerinput["harbor_problems"] = self._session.problems
        node.workerinput["harbor_asked_for_verdict"] = self._session.asked_for_verdict
        if (claims := self._open_claims()) is not None:
            node.workerinput["harbor_claims"] = str(claims.directory)
        if self._session.runner is not None:
            node.workerinput["harbor_environment"] = self._session.runner.provider.name

    def _open_claims(self) -> Claims | None:
        session = self._session
        if self._claims is None and (session.active or session.options.agent or session.options.agents):
            from pytest_harbor.plugin.scheduling import Claims, may_queue

            if may_queue(session.config, self):
                self._claims = Claims.create()
                session.config.add_cleanup(self._claims.remove)
        return self._claims

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Distribute tasks so that none waits behind a slow one, unless the user named a distribution."""
        if self._claims is None:
            return None
        from pytest_harbor.plugin.scheduling import QueueScheduling

        return QueueScheduling(config, log, self._claims)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Leave out a test that another worker has begun."""
        directory = getattr(item.config, "workerinput", {}).get("harbor_claims")
        if directory is None:
            return None
        from pytest_harbor.plugin.scheduling import Claims, run_unless_claimed

        # By identity, since some plugins copy items with their node ids.
        self._positions = self._positions or {id(each): n for n, each in enumerate(item.session.items)}
        return run_unless_claimed(item, nextitem, Claims(Path(directory)), self._positions[id(item)])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Raise the usage errors that a worker found, since a worker cannot end the run.

        Raises:
            pytest.UsageError: a worker found one.

        """
        output = getattr(node, "workeroutput", {})
        self._session.changed_notes = output.get("harbor_changed_notes") or self._session.changed_notes
        self._session.guarded = [*map(Path, output.get("harbor_guarded", ()))]
        if problems := output.get("harbor_usage_errors"):
            raise pytest.UsageError(*problems)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(self) -> Generator[None, Any, Any]:
        """Make a report fit for pytest-xdist's messages: the names of files need not be Unicode there."""
        data = yield
        if self._session.active and data is not None:
            result = data.pop("harbor", None)
            data = without_surrogates(data)
            if result is not None:
                data["harbor"] = json.dumps(result)
        return data

    @pytest.hookimpl(wrapper=True)
    def pytest_report_from_serializable(self) -> Generator[None, Any, Any]:
        """Undo what pytest_report_to_serializable does to a trial's result."""
        report = yield
        if isinstance(result := getattr(report, "harbor", None), str):
            report.harbor = json.loads(result)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> Generator[None, None, None]:
        """Keep results for the summary, and make an infrastructure error count as an error everywhere."""
        if hasattr(report, "harbor") or hasattr(report, "harbor_stop"):
            self._add_to_table(report)
        # A user's own test may fail for reasons other than its trial.
        self._session.other_failures += report.failed and not getattr(report, "harbor_scored", False)
        # A worker's controller does the rest, and needs to know the phase.
        if report.when != "call" or not getattr(report, "harbor_error", False) or self._session.is_worker:
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


def _not_collected(tasks: list[Path], base: Path) -> str:
    """Return the message about tasks in a run without an agent."""
    if len(tasks) == 1:
        task = tasks[0].name if tasks[0] == base else shown(tasks[0], base)
        what, them = f"the Harbor task {task} was", "it"
    else:
        top = Path(os.path.commonpath(tasks))
        where = "here" if top == base else f"below {shown(top, base)}"
        what, them = f"{plural(len(tasks), 'Harbor task')} {where} were", "them"
    return f"{what} not collected; choose an agent to run {them}, such as --harbor-agent=oracle"

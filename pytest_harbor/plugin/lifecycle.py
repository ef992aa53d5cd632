"""A run from its first line to its last: the hooks of a session with Harbor tasks, in controller and workers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_harbor.errors import InfrastructureError
from pytest_harbor.gate import confirmations_of, samples_of
from pytest_harbor.plugin.agents import NO_AGENT
from pytest_harbor.plugin.options.config import HarborConfig
from pytest_harbor.plugin.progress import live_progress
from pytest_harbor.plugin.run_record import record
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.report import attempts, github
from pytest_harbor.report import verdict_text as verdict
from pytest_harbor.report.terminal import TrialTable
from pytest_harbor.task import Task
from pytest_harbor.trial import TrialResult

if TYPE_CHECKING:
    from pytest_harbor.gate import Verdict

WORKER_DIED = "the worker process died while the trial ran (killed, out of memory, or crashed)"


class Lifecycle:
    """Registered where datasets are given, or where the first test with a task turns up.

    Args:
        session: the state of this process.

    """

    def __init__(self, session: HarborSession) -> None:
        self._session = session
        self._config = session.config
        self._table = TrialTable()
        self._refused = False
        self._verdict: Verdict | None = None
        self._said: list[str] = []
        if session.runs_trials:
            session.handle_sigterm()

    def choose_arguments(self) -> None:
        """Have only the datasets run where the command line names no path.

        In the workers of pytest-xdist too: they read the command line anew.
        """
        if self._config.args_source is not pytest.Config.ArgsSource.ARGS:
            paths = dict.fromkeys(self._session.options.datasets)
            # What lies below another dataset is collected with that; older versions of pytest trip over both.
            self._config.args = [str(path) for path in paths if paths.keys().isdisjoint(path.parents)]
            self._config.args_source = pytest.Config.ArgsSource.ARGS

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Find the tasks, so that what is wrong with the options is said before anything runs."""
        session = self._session
        self._table.began = time.monotonic()
        if not session.options.datasets:
            return
        _ = session.selection
        if session.is_worker or not session.runs_trials:
            return
        session.agents.load()
        _ = session.services
        _ = session.run
        with contextlib.suppress(InfrastructureError):
            self._table.leftovers = session.provider.remove_owned("dead")

    def pytest_report_header(self) -> list[str]:
        """Say what is about to run, and on what."""
        session = self._session
        lines = [f"harbor: {_datasets(session.selection.datasets())}"]
        if session.options.shard:
            how = "durations in the baseline" if session.gate.seconds() else "number"
            share = f"{len(session.selection.tasks):,} of {len(session.selection.whole):,} tasks"
            lines.append(f"harbor: shard {session.options.shard}, {share}, divided by {how}")
        if not session.runs_trials:
            return lines
        options = session.options
        attempts = f", {options.attempts} attempts" if options.attempts > 1 else ""
        lines.append(f"harbor: {session.agents.describe()}{attempts}, passes from reward {options.threshold:g}")
        why = f", {session.why_provider}" if session.why_provider else ""
        try:
            lines.append(f"harbor: environment {session.provider.describe()}{why}")
        except InfrastructureError as error:
            lines.append(f"harbor: environment {session.provider.name}: {error}{why}")
        if options.proxy != "off":
            lines.append(f"harbor: {_proxy(options)}")
        lines.append(f"harbor: results {_relative(session.run.directory)}")
        if self._table.leftovers:
            lines.append(f"harbor: removed what a dead run left: {', '.join(self._table.leftovers)}")
        return lines

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put tasks into the order of their taskset, and refuse to run them without an agent."""
        config = self._config
        if self._session.options.taskset is not None:
            self._sort(items)
        if config.option.collectonly or config.option.setuponly or self._session.agents.chosen:
            return
        if config.hook.pytest_harbor_agent.get_hookimpls() or not any(_uses_our_agent(item) for item in items):
            return
        self._refused = True
        if not self._session.is_worker:
            raise pytest.UsageError(NO_AGENT)
        # A worker cannot end a run; its controller does, when it hears of this.
        config.workeroutput["harbor_usage_error"] = NO_AGENT  # type: ignore[attr-defined]
        items.clear()

    def _sort(self, items: list[pytest.Item]) -> None:
        """Sort the items of tasks among themselves; other tests keep their places."""
        from pytest_harbor.plugin.collection import HarborItem

        order = {path: number for number, path in enumerate(self._session.selection.tasks)}
        places = [number for number, item in enumerate(items) if isinstance(item, HarborItem)]
        # sorted() keeps the order of the attempts at one task.
        moved = sorted((items[number] for number in places), key=lambda item: order[item.path.parent])
        for number, item in zip(places, moved, strict=True):
            items[number] = item

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write down what the run is about; pytest comes here from a collection that was refused, too."""
        if not self._refused:
            record(self._session, session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """Have a trial whose worker died count as an infrastructure error, and remove what it left."""
        if crashitem in {result.node_id for result in self._record_lost()}:
            report.harbor_error = True
            report.harbor_scored = self._session.gate.scores
            report.harbor_word = ""
        with contextlib.suppress(InfrastructureError):
            self._session.provider.remove_owned("dead")

    def take(self, report: Any) -> None:
        """Keep what a report says of a trial."""
        if hasattr(report, "harbor"):
            self._table.add(TrialResult.from_json(report.harbor))
        if hasattr(report, "harbor_stop"):
            self._table.add_stop(**report.harbor_stop)

    def pytest_keyboard_interrupt(self) -> None:
        """Pass an interrupt on: workers do not get a terminal's Ctrl-C."""
        if not self._session.is_worker and self._session.runs_trials:
            for pid in self._session.run.busy_processes():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Show live progress."""
        with live_progress(self._session):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Judge the run, and leave nothing behind: no trial without a result, no container."""
        self._judge(session)
        try:
            return (yield)
        finally:
            harbor = self._session
            harbor.abandon(KeyboardInterrupt())
            if harbor.runs_trials and "run" in harbor.__dict__:
                if not harbor.is_worker:
                    self._record_lost()
                with contextlib.suppress(InfrastructureError):
                    if harbor.provider_used:
                        harbor.provider.remove_owned("mine")
                    if not harbor.is_worker:
                        harbor.provider.remove_owned("dead")

    def _judge(self, session: pytest.Session) -> None:
        """Let the verdict, where one is asked for, decide the exit status of trials that ran to the end."""
        harbor = self._session
        if harbor.is_worker or "run" not in harbor.__dict__ or not harbor.runs_trials:
            return
        self._record_lost()
        results = harbor.run.results()
        if harbor.options.shard and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            # There may be more shards than tasks, and a matrix of jobs must not fail because of that.
            session.exitstatus = pytest.ExitCode.OK
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        spent = next((result.budget or result.reason for result in results if result.cut_by_run), "")
        stopped = str(session.shouldfail or session.shouldstop or (spent if ended else "interrupted"))
        self._verdict = harbor.gate.judge(results, stopped)
        if ended:
            self._said = harbor.gate.save(results)
        if ended and harbor.listener and not harbor.listener.other_failures:
            if harbor.gate.deferred:
                session.exitstatus = pytest.ExitCode.OK
            elif self._verdict is not None:
                session.exitstatus = harbor.gate.exit_status(self._verdict)

    def _record_lost(self) -> list[TrialResult]:
        """Write down the trials whose worker died before it could, and return their results."""
        run = self._session.run
        lost = run.lost()
        for result in lost:
            result.outcome = "error"
            result.reason = WORKER_DIED
            run.append(result)
            run.note(result, "finished")
            self._table.add(result)
        return lost

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table of trials."""
        session = self._session
        if session.is_worker or "run" not in session.__dict__:
            return
        # The terminal comes here before the session has finished, and a worker that was killed had no last word.
        self._record_lost()
        # A worker that was interrupted has written its results, and could not report them.
        results = session.run.results()
        for result in results:
            self._table.add_missing(result)
        on_github = github.is_github_actions(os.environ)
        reporter = github.EscapingReporter(terminalreporter) if on_github else terminalreporter
        report = self._report(results)
        if report.verdict is not None:
            reporter.section("harbor gate")
            every = self._config.option.verbose > 0
            for line in verdict.lines(report.verdict, report.samples, report.confirmations, every=every):
                reporter.write_line(line)
        elif session.gate.deferred:
            reporter.section("harbor gate")
            reporter.write_line(
                f"no verdict on shard {session.options.shard} alone: "
                "`pytest-harbor gate RUN... --baseline FILE` judges the runs of all shards together"
            )
        self._table.write(reporter, session.run, attempts.lines(report.samples, flaky=report.verdict is None))
        for line in self._said:
            reporter.write_line(line)
        if session.options.html:
            _write_page(session.options.html, self._table.results, self._verdict, reporter)
        if on_github and report.results:
            for line in github.publish(report, os.environ, session.run.directory / github.COMMENT):
                terminalreporter.write_line(line)

    def _report(self, results: list[TrialResult]) -> github.Report:
        """Return what there is to tell beyond the table."""
        session = self._session
        return github.Report(
            results,
            samples_of(results),
            self._verdict,
            confirmations_of(results),
            None if session.options.record_only or session.gate.deferred else "error",
        )


def _write_page(path: Path, results: list[TrialResult], judged: Verdict | None, reporter: Any) -> None:
    """Write the page, and say where it is or why it is not."""
    from pytest_harbor.report import html

    try:
        html.write(path, results, verdict=judged)
    except OSError as error:
        reporter.write_line(f"--harbor-html: {path} cannot be written: {error}", red=True)
    else:
        reporter.write_line(f"page: {_relative(path)}")


def _uses_our_agent(item: pytest.Item) -> bool:
    """Tell whether a test takes its agent from the options, and not from an overriding fixture."""
    definitions = getattr(item, "_fixtureinfo", None)
    found = definitions.name2fixturedefs.get("harbor_agent") if definitions is not None else None
    if not found or any(mark.name == "skip" for mark in item.iter_markers()):
        return False
    return bool(getattr(found[-1].func, "__module__", "") == "pytest_harbor.plugin.fixtures")


def _proxy(options: HarborConfig) -> str:
    """Return in a phrase what calls of models go through."""
    cassettes = "" if options.proxy == "live" else f", cassettes {_relative(options.cassettes)}"
    budget = f", budget of the run {options.session_budget}" if options.session_budget else ""
    return f"proxy for calls of models: {options.proxy}{cassettes}{budget}"


def _datasets(groups: dict[str, list[Task]]) -> str:
    """Return datasets and their sizes in a phrase."""
    shown = 5
    said = [f"{name} ({len(tasks):,} task{'' if len(tasks) == 1 else 's'})" for name, tasks in groups.items()]
    more = f" and {len(said) - shown} more" if len(said) > shown else ""
    return f"dataset{'' if len(said) == 1 else 's'} {', '.join(said[:shown])}{more}"


def _relative(path: Any) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(os.getcwd()))  # noqa: PTH109
    return str(path)

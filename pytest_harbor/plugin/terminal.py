"""What the plugin prints in pytest's terminal: the header, the table of trials and the verdict."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.gate import confirmations_of, samples_of, uncounted_tests
from pytest_harbor.plugin.early_stop import tasks_not_run
from pytest_harbor.plugin.options.table import HarborConfig
from pytest_harbor.plugin.page import page_path, write_page
from pytest_harbor.plugin.runner import open_runner
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.plugin.trials import all_results
from pytest_harbor.report import attempts, github, verdict_text
from pytest_harbor.report.workflow_commands import EscapingReporter, is_github_actions
from pytest_harbor.task import Task
from pytest_harbor.trial import TrialResult

_DATASETS_SHOWN = 5
_AGENTS_SHOWN = 8
_TESTS_SHOWN = 3
# The verbosity of -qq, with which pytest itself prints no summary.
_SILENT = -2
_VERDICT_MARKUP = {
    "pass": {"green": True},
    "regressed": {"red": True},
    "inconclusive": {"yellow": True},
    "not judged": {"red": True},
}


class TerminalReport:
    """The terminal hooks of a session with Harbor tasks; activation.activate() registers it.

    Args:
        session: the plugin's session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._session = session
        self._described = False

    def pytest_report_header(self) -> list[str]:
        """Return the lines that describe the run."""
        session, options = self._session, self._session.options
        selection = session.selection
        if selection is None:
            return []
        lines = [f"harbor: {_datasets(selection.datasets())}"]
        if options.shard:
            how = "durations in the baseline" if session.gate.seconds() else "number"
            share = f"{len(selection.tasks):,} of {len(selection.whole):,} tasks"
            lines.append(f"harbor: shard {options.shard}, {share}, divided by {how}")
        if not session.runs_trials:
            return lines
        lines += self._describe_run()
        if session.config.pluginmanager.has_plugin("dsession"):
            # Workers collect, so that pytest does not call the hook below.
            lines.append(self._results_line(open_runner(session).run.directory))
        if session.table.leftovers:
            lines.append(f"harbor: removed environments of a dead run: {', '.join(session.table.leftovers)}")
        return lines

    def _describe_run(self) -> list[str]:
        """Return the lines about what trials run with."""
        session, options = self._session, self._session.options
        self._described = True
        attempts_each = f", {session.attempts} attempts" if session.attempts > 1 else ""
        if session.in_rounds:
            attempts_each = f", {session.attempts_least} to {session.attempts} attempts until the verdict is certain"
        agents = session.agents.describe()
        lines = [f"harbor: {agents}{attempts_each}, threshold {options.threshold:g}"]
        runner = open_runner(session)
        reason = f", {session.provider_reason}" if session.provider_reason else ""
        # Trials report an engine that does not answer.
        with contextlib.suppress(InfrastructureError):
            lines.append(f"harbor: environment {runner.provider.describe()}{reason}")
        if options.proxy != "off":
            lines.append(f"harbor: {_proxy(options)}")
        elif keyless := session.agents.keyless:
            lines.append(
                f"harbor: model proxy: off, and no key is passed to {listed(keyless, _AGENTS_SHOWN)}; "
                "give --harbor-proxy=live, or --harbor-agent-env=NAME for the key"
            )
        return lines

    def pytest_report_collectionfinish(self) -> list[str]:
        """Return the line with the run's directory, which exists if any test has a task.

        If only tests of the user's own do, the header did not know of them.
        """
        runner = self._session.runner
        shown = self._session.runs_trials and self._session.config.option.verbose >= 0
        if not shown or not runner or not runner.run.directory.is_dir():
            return []
        described = [] if self._described else self._describe_run()
        notes = [f"harbor: {one_line(note, None)}" for note in self._session.changed_notes]
        return [*described, *notes, self._results_line(runner.run.directory)]

    def pytest_enter_pdb(self) -> None:
        """Say how to get at the environment that a debugger keeps running."""
        reporter: Any = self._session.config.pluginmanager.get_plugin("terminalreporter")
        for trial in self._session.open_trials if reporter is not None else ():
            if (environment := trial.environment) is None:
                continue
            reporter.ensure_newline()
            reporter.write_line(f"harbor: the environment of {trial.task.id} is still running; enter it with")
            is_docker = environment.provider == "docker"
            prefix = f"docker exec -it {environment.name}" if is_docker else environment.exec_prefix()
            reporter.write_line(f"    {prefix} sh")
            reporter.write_line("  `up` leads to the frame that has harbor_trial.environment")

    @staticmethod
    def _results_line(directory: Path) -> str:
        return f"harbor: results {_relative(directory)}"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, Any, Any]:
        """Print the summary and write the page if pytest did not ask for a summary.

        It does not after an internal error, nor, in older versions, with --no-summary.
        """
        result = yield
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            self._write_page(None, tasks_not_run(self._session, self._session.table.results, exitstatus))
        elif not self._session.summarizing:
            self.pytest_terminal_summary(reporter, exitstatus)
        return result

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        """Print the verdict, the table of trials and where the results are."""
        session = self._session
        session.summarizing = True
        if session.is_worker:
            return
        # pytest prints this before the session has finished, and a worker that was killed had no chance to report.
        # An interrupted worker has written its results but could not report them.
        results = all_results(session)
        if session.runner is None:
            if session.verdict is not None:
                self._write_verdict(terminalreporter, self._report(results))
                terminalreporter.write_line(session.exit_note)
            return
        for result in results:
            session.table.add_missing(result)
        on_github = is_github_actions(os.environ)
        reporter = EscapingReporter(terminalreporter) if on_github else terminalreporter
        not_run = tasks_not_run(session, session.table.results, exitstatus)
        report = self._report(results, not_run)
        self._write_failures(reporter, report)
        self._write_verdict(reporter, report)
        if self._shows_results:
            rates = attempts.lines(report.samples, flaky=report.verdict is None)
            if others := uncounted_tests(results):
                rates.append(
                    f"note: each test that takes harbor_trial runs its own trial; gates, baselines and pass@k do not "
                    f"count those of {listed([one_line(test) for test in others], _TESTS_SHOWN)}"
                )
            session.table.write(reporter, session.runner.run, rates)
        for line in session.baseline_notes:
            reporter.write_line(line)
        if on_github and report.results:
            for line in github.publish(report, os.environ, session.runner.run.directory / github.COMMENT):
                terminalreporter.write_line(line)
        self._write_page(reporter, not_run)
        if session.exit_note:
            reporter.write_line(session.exit_note)

    @property
    def _shows_results(self) -> bool:
        option = self._session.config.option
        return option.verbose > _SILENT and not option.no_summary

    def _write_page(self, reporter: Any | None, not_run: tuple[str, ...] | None) -> None:
        """Write the HTML page, and print its path or why there is none."""
        path = page_path(self._session)
        if path is None or self._session.is_worker:
            return
        try:
            write_page(self._session, path, not_run)
        except OSError as error:
            if reporter is not None:
                reporter.write_line(f"--harbor-html: {path} cannot be written: {error}", red=True)
            self._session.output_missing |= bool(self._session.options.html)
        else:
            if reporter is not None and self._shows_results:
                reporter.write_line(f"page: {_relative(path)}")

    def _write_failures(self, reporter: Any, report: github.Report) -> None:
        """Print why scored trials did not pass; without -v, only those that matter for a verdict other than `pass`."""
        config = self._session.config
        if config.option.tbstyle == "no" or not self._shows_results:
            return
        failures = [each for each in reporter.stats.get("scored", ()) if hasattr(each, "harbor_failure")]
        shown = failures
        if report.verdict is not None and config.option.verbose < 1:
            wanted = verdict_text.blamed(report.verdict, report.samples)
            shown = [each for each in failures if (each.harbor["task"], each.harbor["agent"]) in wanted]
        if failures:
            reporter.ensure_newline()
            reporter.section("FAILURES OF SCORED TRIALS")
        for each in shown:
            reporter.write_sep("_", each.head_line or each.nodeid, red=True, bold=True)
            for line in each.harbor_failure.splitlines():
                reporter.write_line(line)
        if len(shown) < len(failures):
            more = plural(len(failures) - len(shown), "other trial" if shown else "trial")
            reporter.write_line(f"{more} did not pass; use -v to show why")

    def _write_verdict(self, reporter: Any, report: github.Report) -> None:
        session = self._session
        if report.verdict is not None:
            reporter.write_sep("=", "harbor gate")
            every = session.config.option.verbose > 0
            verdict, *lines = verdict_text.lines(report.verdict, report.samples, report.confirmations, every=every)
            reporter.write_line(verdict, bold=True, **_VERDICT_MARKUP[report.verdict.word])
            for line in lines:
                reporter.write_line(line)
        elif session.gate.deferred:
            rule = f"--gate {session.options.gate}" if session.gate.versus else "--baseline FILE"
            reporter.write_sep("=", "harbor gate")
            reporter.write_line(
                f"no verdict on shard {session.options.shard} alone: "
                f"`pytest-harbor gate RUN... {rule}` judges the runs of all shards together"
            )
            for note in session.changed_notes:
                reporter.write_line(one_line(note, None))
            if session.options.attempts.adaptive:
                reporter.write_line(
                    f"{plural(session.attempts, 'attempt')} of up to {session.options.attempts.most}: a shard cannot "
                    "know that more are needed; if the verdict on all shards is inconclusive, run them with more"
                )

    def _report(self, results: list[TrialResult], not_run: tuple[str, ...] | None = None) -> github.Report:
        """Return what there is to report besides the table."""
        session = self._session
        return github.Report(
            results,
            samples_of(results),
            session.verdict,
            confirmations_of(results),
            None if session.options.record_only or session.gate.deferred else "error",
            not_run,
        )


def _proxy(options: HarborConfig) -> str:
    cassettes = "" if options.proxy == "live" else f", cassettes {_relative(options.cassettes)}"
    budget = f", run budget {options.session_budget}" if options.session_budget else ""
    return f"model proxy: {options.proxy}{cassettes}{budget}"


def _datasets(groups: dict[str, list[Task]]) -> str:
    names = [f"{name} ({plural(len(tasks), 'task')})" for name, tasks in groups.items()]
    return f"dataset{'' if len(names) == 1 else 's'} {listed(names, _DATASETS_SHOWN)}"


def _relative(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)

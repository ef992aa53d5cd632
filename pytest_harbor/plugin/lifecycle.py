"""A session with Harbor tasks from its start to its end, in the controller and in workers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

from pytest_harbor._util.text import plural
from pytest_harbor._util.unpatched import remember
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.gate import in_rounds, with_rounds
from pytest_harbor.plugin import fixtures
from pytest_harbor.plugin.agents import NO_AGENT
from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.plugin.changed import skip_unchanged
from pytest_harbor.plugin.collection import HarborItem
from pytest_harbor.plugin.junit import add_verdict
from pytest_harbor.plugin.pasted_ids import refuse_wrong_ids
from pytest_harbor.plugin.preflight import find_problems
from pytest_harbor.plugin.progress import live_progress
from pytest_harbor.plugin.rounds import judged_rounds, round_log
from pytest_harbor.plugin.run_record import planned_trials, write_run_record
from pytest_harbor.plugin.runner import check_environment, open_runner
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.plugin.trials import abandon, all_results, record_lost
from pytest_harbor.report.verdict_text import exit_note


class Lifecycle:
    """The hooks of a session with Harbor tasks; activation.activate() registers it.

    Args:
        session: the plugin's session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._session = session
        self._config = session.config
        # Whether collection was refused; pytest calls pytest_collection_finish even then.
        self._refused = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Find the tasks and check the options, so that mistakes are reported before anything runs."""
        session = self._session
        if session.select() is None or session.is_worker:
            return
        refuse_wrong_ids(session)
        if not session.runs_trials:
            return
        runner = open_runner(session)
        try:
            check_environment(session, runner)
        except pytest.UsageError as error:
            # Without environments there is no point in collecting tests, so this is all that will be reported.
            mistakes, missing = find_problems(session)
            raise pytest.UsageError(*error.args, *mistakes, *missing) from error
        if self._config.pluginmanager.hasplugin("dsession"):
            session.problems = find_problems(session)
        with contextlib.suppress(InfrastructureError):
            session.table.leftovers = runner.provider.remove_owned("dead")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort tasks, skip what has not changed, and refuse to run the rest if that would be useless."""
        if self._session.options.taskset is not None:
            self._sort(items)
        if self._session.gate.versus:
            _take_turns(items)
        if self._config.option.collectonly and not self._session.agents.given_in_full:
            return
        problems = self._problems(items) or self._empty_groups(items)
        if not problems:
            if self._session.options.changed and not self._config.option.collectonly:
                self._session.changed_notes = skip_unchanged(self._session, items)
            return
        self._refused = True
        if not self._session.is_worker:
            raise pytest.UsageError(*problems)
        # A worker cannot end the run; its controller does once it reads this.
        self._config.workeroutput["harbor_usage_errors"] = problems  # type: ignore[attr-defined]
        items.clear()

    def _problems(self, items: list[pytest.Item]) -> list[str]:
        """Return why the run would be useless; empty if nothing is known to be wrong."""
        config, agents = self._config, self._session.agents
        configured = [item for item in items if _takes_configured_agent(item)]
        will_run = [item for item in configured if not item.get_closest_marker("skip")]
        if config.option.collectonly:
            return agents.problems() if will_run else []
        agent_may_follow = config.option.setuponly or config.hook.pytest_harbor_agent.get_hookimpls()
        if not agents.chosen:
            return [NO_AGENT] if will_run and not agent_may_follow else []
        # Checked once, by the controller, unless only the workers know that there are tasks.
        found = getattr(config, "workerinput", {}).get("harbor_problems") if configured else ((), ())
        if found is None:
            found = find_problems(self._session, any_runs=bool(will_run))
        mistakes, missing = found
        problems = [*mistakes, *(missing if will_run else ())]
        if not mistakes and not agent_may_follow and (problem := self._gate_problem(items, len(will_run))):
            problems.append(problem)
        return problems

    def _gate_problem(self, items: list[pytest.Item], configured: int) -> str:
        """Return why there would be no verdict, if every test about a task takes a configured agent."""
        agents = self._session.agents
        will_run = [item for item in items if not item.get_closest_marker("skip")]
        found = {item: assignment for item in will_run if (assignment := assignment_of(item))}
        if configured < len(found):
            return ""
        models = {
            (task.task.id, agent.name): agents.settings(task.agent).model
            for task in found.values()
            if (agent := agents.agent(task.agent))
        }
        return self._session.gate.problem(models, open_runner(self._session).provider.name) if models else ""

    def _empty_groups(self, items: list[pytest.Item]) -> list[str]:
        """Return the groups of the gate's rule that no task belongs to, selected for this run or not."""
        tasks = [assignment.task for item in items if (assignment := assignment_of(item))]
        if not tasks or self._config.option.setuponly:
            return []
        selection = self._session.selection
        return self._session.gate.empty_groups([*tasks, *(selection.found.values() if selection else ())])

    def _sort(self, items: list[pytest.Item]) -> None:
        """Sort the items of tasks among themselves; other tests keep their positions."""
        assert self._session.selection is not None
        order = {path: number for number, path in enumerate(self._session.selection.tasks)}
        positions = [number for number, item in enumerate(items) if isinstance(item, HarborItem)]
        # sorted() is stable, so the attempts at one task keep their order.
        moved = sorted((items[number] for number in positions), key=lambda item: order[item.path.parent])
        for number, item in zip(positions, moved, strict=True):
            items[number] = item

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write run.json once the tests are known, and get ready before the first test, which may replace functions."""
        if self._refused:
            return
        write_run_record(self._session, session.items)
        if self._session.runs_trials and any(assignment_of(item) for item in session.items):
            with contextlib.suppress(InfrastructureError):
                open_runner(self._session).provider.describe()
            # The hooks that need these are called while a test runs.
            import pytest_harbor.plugin.expected_failure
            import pytest_harbor.plugin.item_reports  # noqa: F401

            remember()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """Count a trial whose worker died as an infrastructure error, and remove what it left running."""
        session = self._session
        if crashitem in {result.node_id for result in record_lost(session)}:
            report.harbor_error = True
            report.harbor_scored = session.gate.scores
            report.harbor_word = ""
        with contextlib.suppress(InfrastructureError):
            open_runner(session).provider.remove_owned("dead")

    def pytest_keyboard_interrupt(self) -> None:
        """Pass an interrupt on to the workers, which do not get a terminal's Ctrl-C."""
        session = self._session
        if not session.is_worker and session.runner is not None:
            pids = session.runner.run.busy_processes()
            if running := len(pids) or len(session.open_trials):
                self._write(f"harbor: interrupted; stopping {plural(running, 'trial')} and removing what it left")
            for pid in pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)

    def _write(self, line: str) -> None:
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line)

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
            if harbor.output_missing and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            abandon(harbor, KeyboardInterrupt())
            if harbor.runner is not None:
                if not harbor.is_worker:
                    record_lost(harbor)
                with contextlib.suppress(InfrastructureError):
                    harbor.runner.provider.remove_owned("mine")
                    if not harbor.is_worker:
                        harbor.runner.provider.remove_owned("dead")

    def _judge(self, session: pytest.Session) -> None:
        """Let the verdict decide the exit status of a run that ended normally."""
        harbor = self._session
        refused = session.exitstatus == pytest.ExitCode.USAGE_ERROR
        if harbor.is_worker or refused or not harbor.runs_trials or self._config.option.setuponly:
            return
        results = all_results(harbor)
        if harbor.options.shard and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            # There may be more shards than tasks, and that must not fail a matrix of jobs.
            session.exitstatus = pytest.ExitCode.OK
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        rounds = judged_rounds(harbor) if harbor.in_rounds and harbor.runner else None
        judged = in_rounds(results, rounds)
        spent = next((result.budget or result.reason for result in judged if result.cut_by_run), "")
        interrupted = session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        stopped = str(session.shouldfail or session.shouldstop or ("interrupted" if interrupted else spent))
        # What was decided before the run was stopped holds.
        decided = rounds is not None and round_log(harbor).decided
        harbor.verdict = harbor.gate.judge(judged, "" if decided else stopped, harbor.changed_notes, rounds)
        if harbor.verdict is not None and rounds is not None and (decided or not stopped):
            harbor.verdict = with_rounds(harbor.verdict, rounds, results, planned_trials(harbor), decided=decided)
        if harbor.verdict is not None:
            add_verdict(harbor, harbor.verdict, results)
        saved = harbor.gate.save(results, stopped)
        harbor.baseline_notes = [line for _, lines in saved for line in lines]
        harbor.output_missing = not all(written for written, _ in saved)
        if ended and harbor.other_failures:
            if harbor.verdict is not None:
                failures = plural(harbor.other_failures, "failure")
                harbor.exit_note = f"exit status {int(session.exitstatus)}: {failures} that the verdict is not about"
        elif ended and harbor.gate.deferred:
            session.exitstatus = pytest.ExitCode.OK
        elif ended and harbor.verdict is not None:
            session.exitstatus = harbor.gate.exit_status(harbor.verdict)
            harbor.exit_note = exit_note(
                session.exitstatus, harbor.verdict, "--harbor-inconclusive", harbor.gate.accepted_by
            )
        elif session.exitstatus == pytest.ExitCode.OK and (missing := sum(each.out_of_budget for each in results)):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            total = sum(not each.confirmation for each in results)
            harbor.exit_note = f"exit status 1: {missing:,} of {plural(total, 'trial')} did not run"
        if harbor.output_missing and session.exitstatus == pytest.ExitCode.OK:
            harbor.exit_note = "exit status 1: a baseline was not written"


def _take_turns(items: list[pytest.Item]) -> None:
    """Let each agent be the first equally often: the first at a task waits for its image, and finds caches cold.

    A task's agents are next to each other already, so that a bad hour of a provider hits all of them.
    """
    rounds: dict[Any, list[int]] = {}
    for position, item in enumerate(items):
        if (assignment := assignment_of(item)) is not None and assignment.agent:
            key = (item.parent, getattr(item, "originalname", ""), assignment.task.id, assignment.attempt)
            rounds.setdefault(key, []).append(position)
    for number, positions in enumerate(rounds.values()):
        first = number % len(positions)
        turn = [items[position] for position in positions]
        for position, item in zip(positions, [*turn[first:], *turn[:first]], strict=True):
            items[position] = item


def _takes_configured_agent(item: pytest.Item) -> bool:
    """Return True if a test takes its agent from the options rather than from an overriding fixture."""
    if fixtures.AGENT_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return False
    # Not from the item's own list of fixtures; see fixtures.need_task().
    found = item.session._fixturemanager.getfixturedefs("harbor_agent", item)
    if not found:
        return False
    return bool(getattr(found[-1].func, "__module__", "") == fixtures.__name__)

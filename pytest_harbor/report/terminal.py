"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytest_harbor._util.text import listed, one_line, plural, printable
from pytest_harbor.gate.baseline import GRADED
from pytest_harbor.report import table, usage_text
from pytest_harbor.report.agent_rates import percent
from pytest_harbor.report.failure import relative_paths
from pytest_harbor.results import RESULTS, Run
from pytest_harbor.trial import TrialResult

# The most rows without -v, those that did not pass first; the most notes, and the most tasks named in a note.
MAX_ROWS = 60
MAX_NOTES = 10
MAX_TASKS = 3

OUTCOME_MARKUP = {
    "passed": {"green": True},
    "failed": {"red": True},
    "unverified": {"red": True},
    "error": {"red": True, "bold": True},
    "skipped": {"yellow": True},
}


class TrialTable:
    """Collects results and prints them by task."""

    def __init__(self) -> None:
        self._results: dict[tuple[str | int, ...], TrialResult] = {}
        self._by_node: dict[str, TrialResult] = {}
        self.leftovers: list[str] = []

    @property
    def results(self) -> list[TrialResult]:
        """All results."""
        return list(self._results.values())

    def add(self, result: TrialResult) -> None:
        """Add a result, replacing an earlier one of the same trial."""
        self._results[_key(result)] = result
        self._by_node[result.node_id] = result

    def add_missing(self, result: TrialResult) -> None:
        """Add a result unless it is known, or is that of a confirmation."""
        if _key(result) not in self._results and not result.confirmation:
            self.add(result)

    def add_stop(self, node_id: str, seconds: float) -> None:
        """Add the duration of the stop phase, in seconds, which is known only after the result."""
        if node_id in self._by_node:
            self._by_node[node_id].phases["stop"] = seconds

    def write(self, reporter: Any, run: Run, more: Iterable[str] = ()) -> None:
        """Print the table, the totals and more lines; nothing if no trial ran."""
        results = self.results
        if not results:
            return
        reporter.write_sep("=", "harbor")
        verbose = reporter.config.option.verbose > 0
        rows = table.rows_of(results)
        for row in rows:
            row.reason = relative_paths(row.reason, Path.cwd())
        shown = rows if verbose else rows[:MAX_ROWS]
        writer = reporter._tw

        def markup(text: str, outcome: str) -> str:
            colored: str = writer.markup(text, **OUTCOME_MARKUP[outcome])
            return colored

        for line in table.lines(shown, writer.fullwidth, markup, phases=verbose):
            reporter.write_line(line)
        if len(shown) < len(rows):
            reporter.write_line(f"... and {plural(len(rows) - len(shown), 'more task')}; use -v to list all")
        rates = [f"{one_line(agent)}: {rate}" for agent, rate in agent_rates(results)]
        for line in (*notes(results), *totals(results), *rates, *usage_text.lines(results), *more):
            reporter.write_line(line)
        if run.results_file.exists():
            reporter.write_line(f"results: {relative_paths(str(run.results_file), Path.cwd())}")


def _key(result: TrialResult) -> tuple[str | int, ...]:
    """Return what a trial has for itself; a test that is run again has several."""
    return result.task, result.agent, result.attempt, result.node_id, result.directory


def notes(results: list[TrialResult]) -> list[str]:
    """Return the spent budgets and the warnings, each once, with the tasks they concern.

    Agents are named if a note concerns only some of a task's agents.
    """
    agents: dict[str, set[str]] = {}
    for result in results:
        agents.setdefault(result.task, set()).add(result.agent)
    by_note: dict[str, dict[str, set[str]]] = {}
    pairs = [(result, budget) for result in results if (budget := usage_text.spent_budget(result))]
    pairs += [(result, warning) for result in results for warning in result.warnings]
    for result, text in pairs:
        by_note.setdefault(printable(text), {}).setdefault(result.task, set()).add(result.agent)
    lines = []
    for text, concerned in list(by_note.items())[:MAX_NOTES]:
        tasks = [
            printable(task if some == agents[task] else f"{task}[{', '.join(sorted(some))}]")
            for task, some in concerned.items()
        ]
        lines.append(f"note: {listed(tasks, MAX_TASKS)}: {text}")
    if len(by_note) > MAX_NOTES:
        lines.append(f"... and {plural(len(by_note) - MAX_NOTES, 'more note')} in {RESULTS}")
    return lines


def totals(results: Iterable[TrialResult], within: str = "") -> list[str]:
    """Return the number of trials by outcome, then mean reward and pass rate, then how many trials did not run.

    Confirmations are only counted.

    Args:
        results: the trials.
        within: what the trials are in, such as runs, if that needs to be said.

    """
    results = list(results)
    attempts = [result for result in results if not result.confirmation]
    counts = table.count_outcomes(attempts)
    outcomes = ", ".join(
        table.outcome_count(name, number) for name, number in counts.items() if number or name != "skipped"
    )
    lines = [f"{plural(len(attempts), 'trial')}{f' in {within}' if within else ''}: {outcomes}"]
    if confirmations := len(results) - len(attempts):
        lines[0] += f" ({plural(confirmations, 'confirmation')} not included)"
    if rates := _rates(attempts):
        lines.append(rates)
    elif attempts:
        lines.append("no trial was graded")
    if missing := [result for result in attempts if result.out_of_budget]:
        lines.append(f"{len(missing):,} of {plural(len(attempts), 'trial')} did not run: {missing[-1].reason}")
    return lines


def agent_rates(results: Iterable[TrialResult]) -> list[tuple[str, str]]:
    """Return each agent with its mean reward and pass rate, if there are several agents."""
    groups: dict[str, list[TrialResult]] = {}
    for result in results:
        if not result.confirmation:
            groups.setdefault(result.agent, []).append(result)
    rates = [(agent, text) for agent in sorted(groups) if (text := _rates(groups[agent]))]
    return rates if len(rates) > 1 else []


def _rates(attempts: list[TrialResult]) -> str:
    """Return mean reward and pass rate of the trials that were graded, and how many did not run; empty if none was."""
    # An infrastructure error says nothing about the agent: it is not a reward of 0, and the pass rate ignores it.
    graded = [result for result in attempts if result.outcome in GRADED]
    if not graded:
        return ""
    rewards = [result.reward for result in graded if result.reward is not None]
    mean = f"mean reward {sum(rewards) / len(rewards):.3f}, " if rewards else ""
    passed = table.count_outcomes(graded)["passed"]
    missing = sum(result.out_of_budget for result in attempts)
    not_run = f", {missing:,} not run" if missing else ""
    return f"{mean}pass rate {percent(passed / len(graded))} ({passed} of {len(graded)} passed{not_run})"

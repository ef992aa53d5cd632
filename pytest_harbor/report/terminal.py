"""The table at the end of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pytest_harbor._util.text import listed, one_line, plural, printable
from pytest_harbor.errors import PHASES
from pytest_harbor.gate.baseline import GRADED
from pytest_harbor.report import usage_text
from pytest_harbor.results import RESULTS, Run
from pytest_harbor.trial import TrialResult

# The most rows without -v, those that did not pass first; the most notes, and the most tasks named in a note.
MAX_ROWS = 60
MAX_NOTES = 10
MAX_TASKS = 3


class TrialTable:
    """Collects results and prints them by task."""

    def __init__(self) -> None:
        self._results: dict[tuple[str | int, ...], TrialResult] = {}
        self._by_node: dict[str, TrialResult] = {}
        self.leftovers: list[str] = []
        self.began = time.monotonic()

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
        reporter.section("harbor")
        rows = [_Row(group) for group in _groups(results)]
        shown = rows
        if len(rows) > MAX_ROWS and reporter.config.option.verbose < 1:
            shown = sorted(rows, key=lambda row: row.passed)[:MAX_ROWS]
        self._write_rows(reporter, shown)
        if len(shown) < len(rows):
            reporter.write_line(f"... and {plural(len(rows) - len(shown), 'more task')}; use -v to list all")
        for line in notes(results):
            reporter.write_line(line)
        rates = [f"{one_line(agent)}: {rate}" for agent, rate in agent_rates(results)]
        totals = summary(results, time.monotonic() - self.began)
        for line in (*totals, *rates, *usage_text.lines(results), *more):
            reporter.write_line(line)
        reporter.write_line(f"results: {run.results_file}")

    @staticmethod
    def _write_rows(reporter: Any, rows: list[_Row]) -> None:
        phases = [phase for phase in PHASES if any(phase in row.seconds for row in rows)]
        show_usage = any(row.has_usage for row in rows)
        heads = [*(usage_text.HEADS if show_usage else ()), *(f"{phase} s" for phase in phases)]
        table = [["task", "agent", "attempts", "reward", "outcome", *heads]]
        table += [
            [
                row.task,
                row.agent,
                row.attempts,
                row.reward,
                row.outcome,
                *(row.usage if show_usage else ()),
                *(_seconds(row.seconds.get(phase)) for phase in phases),
            ]
            for row in rows
        ]
        widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
        for line in table:
            cells = [
                cell.ljust(width) if column in (0, 1, 4) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            reporter.write_line("  ".join(cells).rstrip())


def _key(result: TrialResult) -> tuple[str | int, ...]:
    """Return what a trial has for itself; a test that is run again has several."""
    return result.task, result.agent, result.attempt, result.node_id, result.directory


class _Row:
    """The attempts of one agent at one task."""

    def __init__(self, results: list[TrialResult]) -> None:
        self.task = printable(results[0].task).replace("\n", " ")
        self.agent = printable(results[0].agent).replace("\n", " ") or "-"
        self.attempts = str(len(results))
        rewards = [result.reward for result in results if result.reward is not None]
        self.reward = f"{sum(rewards) / len(rewards):.2f}" if rewards else "-"
        counts = count_outcomes(results)
        self.outcome = ", ".join(
            name if len(results) == 1 else outcome_count(name, number) for name, number in counts.items() if number
        )
        self.passed = counts["passed"] == len(results)
        self.has_usage = any(result.usage is not None for result in results)
        self.usage = usage_text.cells(results)
        self.seconds = {
            phase: sum(times) / len(times)
            for phase in PHASES
            if (times := [result.phases[phase] for result in results if phase in result.phases])
        }


def _groups(results: Iterable[TrialResult]) -> list[list[TrialResult]]:
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for result in results:
        groups.setdefault((result.task, result.agent), []).append(result)
    return [groups[key] for key in sorted(groups)]


def count_outcomes(results: Iterable[TrialResult]) -> dict[str, int]:
    """Return the number of trials by outcome."""
    counts = dict.fromkeys(("passed", "failed", "unverified", "error", "skipped"), 0)
    for result in results:
        counts[result.outcome] += 1
    return counts


def outcome_count(outcome: str, number: int) -> str:
    """Return a number of trials with their outcome: "3 passed", "1 error", "2 errors"."""
    return plural(number, "error") if outcome == "error" else f"{number:,} {outcome}"


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


def summary(results: list[TrialResult], seconds: float) -> list[str]:
    """Return the totals of a run.

    Args:
        results: the trials.
        seconds: wall-clock duration.

    """
    return totals(results, f"{seconds:.1f} s")


def totals(results: list[TrialResult], within: str) -> list[str]:
    """Return the number of trials by outcome, then mean reward and pass rate if any trial was graded.

    Args:
        results: the trials.
        within: what the trials are in: a duration, runs, or the total.

    """
    counts = count_outcomes(results)
    # An infrastructure error says nothing about the agent: it is not a reward of 0, and the pass rate ignores it.
    graded = [result for result in results if result.outcome in GRADED]
    outcomes = ", ".join(outcome_count(name, number) for name, number in counts.items() if number or name != "skipped")
    lines = [f"{plural(len(results), 'trial')} in {within}: {outcomes}"]
    if graded:
        lines.append(_rates(graded))
    return lines


def agent_rates(results: Iterable[TrialResult]) -> list[tuple[str, str]]:
    """Return each agent with its mean reward and pass rate, if there are several agents."""
    groups: dict[str, list[TrialResult]] = {}
    for result in results:
        if result.outcome in GRADED:
            groups.setdefault(result.agent, []).append(result)
    return [(agent, _rates(groups[agent])) for agent in sorted(groups)] if len(groups) > 1 else []


def _rates(graded: list[TrialResult]) -> str:
    """Return mean reward and pass rate of graded trials."""
    rewards = [result.reward for result in graded if result.reward is not None]
    mean = f"mean reward {sum(rewards) / len(rewards):.3f}, " if rewards else ""
    passed = count_outcomes(graded)["passed"]
    return f"{mean}pass rate {_rate(passed, len(graded))} ({passed} of {len(graded)} graded)"


def _rate(part: int, total: int) -> str:
    """Return a share in percent, never rounded up to 100% nor down to 0%."""
    share = round(100 * part / total, 1)
    if part < total:
        share = min(share, 99.9)
    return f"{max(share, 0.1) if part else 0.0:.1f}%"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

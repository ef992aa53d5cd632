"""The table at the end of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pytest_harbor._util.text import one_line, printable
from pytest_harbor.errors import PHASES
from pytest_harbor.report import usage_text as usage
from pytest_harbor.results import RESULTS, Run
from pytest_harbor.trial import TrialResult

# Rows beyond this are left out of the terminal unless -v is given; those that did not pass come first.
MANY_ROWS = 60
MANY_NOTES = 10
GRADED = ("passed", "failed", "unverified")


class TrialTable:
    """Gathers results and prints them by task."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, str, int, str], TrialResult] = {}
        self._by_node: dict[str, TrialResult] = {}
        self.leftovers: list[str] = []
        self.began = time.monotonic()

    @property
    def results(self) -> list[TrialResult]:
        """All results."""
        return list(self._results.values())

    def add(self, result: TrialResult) -> None:
        """Take a result."""
        self._results[(result.task, result.agent, result.attempt, result.node_id)] = result
        self._by_node[result.node_id] = result

    def add_missing(self, result: TrialResult) -> None:
        """Take a result unless its trial is there already."""
        if result.node_id not in self._by_node:
            self.add(result)

    def add_stop(self, node_id: str, seconds: float) -> None:
        """Take how long a removal took, which is known after the result."""
        if node_id in self._by_node:
            self._by_node[node_id].phases["stop"] = seconds

    def write(self, reporter: Any, run: Run, more: Iterable[str] = ()) -> None:
        """Print the table, unless nothing ran, and below the totals what else there is to say of them."""
        results = self.results
        if not results:
            return
        reporter.section("harbor")
        rows = [_row(group) for group in _groups(results)]
        shown = rows
        if len(rows) > MANY_ROWS and reporter.config.option.verbose < 1:
            shown = sorted(rows, key=lambda row: row.passed)[:MANY_ROWS]
        self._write_rows(reporter, shown)
        if len(shown) < len(rows):
            reporter.write_line(f"... and {len(rows) - len(shown)} more tasks; -v shows all")
        for line in notes(results):
            reporter.write_line(line)
        rates = [f"{one_line(agent)}: {told}" for agent, told in agent_rates(results)]
        ended = summary(results, time.monotonic() - self.began)
        for line in (*ended, *rates, *usage.lines(results), *more):
            reporter.write_line(line)
        reporter.write_line(f"results: {run.results_file}")

    @staticmethod
    def _write_rows(reporter: Any, rows: list[_Row]) -> None:
        phases = [phase for phase in PHASES if any(phase in row.seconds for row in rows)]
        used = any(row.used for row in rows)
        heads = [*(usage.HEADS if used else ()), *(f"{phase} s" for phase in phases)]
        table = [["task", "agent", "attempts", "reward", "outcome", *heads]]
        table += [
            [
                row.task,
                row.agent,
                row.attempts,
                row.reward,
                row.outcome,
                *(row.usage if used else ()),
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


class _Row:
    """One task and agent, over its attempts."""

    def __init__(self, results: list[TrialResult]) -> None:
        self.task = printable(results[0].task).replace("\n", " ")
        self.agent = printable(results[0].agent).replace("\n", " ") or "-"
        self.attempts = str(len(results))
        rewards = [result.reward for result in results if result.reward is not None]
        self.reward = f"{sum(rewards) / len(rewards):.2f}" if rewards else "-"
        counts = count_outcomes(results)
        self.outcome = ", ".join(
            name if len(results) == 1 else f"{number} {name}" for name, number in counts.items() if number
        )
        self.passed = counts["passed"] == len(results)
        self.used = any(result.usage is not None for result in results)
        self.usage = usage.cells(results)
        self.seconds = {
            phase: sum(times) / len(times)
            for phase in PHASES
            if (times := [result.phases[phase] for result in results if phase in result.phases])
        }


def _row(results: list[TrialResult]) -> _Row:
    return _Row(results)


def _groups(results: Iterable[TrialResult]) -> list[list[TrialResult]]:
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for result in results:
        groups.setdefault((result.task, result.agent), []).append(result)
    return [groups[key] for key in sorted(groups)]


def count_outcomes(results: Iterable[TrialResult]) -> dict[str, int]:
    """Return how many trials came to each outcome."""
    counts = dict.fromkeys(("passed", "failed", "unverified", "error", "skipped"), 0)
    for result in results:
        counts[result.outcome] += 1
    return counts


def notes(results: list[TrialResult]) -> list[str]:
    """Return budgets that were spent and what the trials warn about, each once, with the tasks that it is about.

    Agents are named where it is about some of a task's agents only.
    """
    agents: dict[str, set[str]] = {}
    for result in results:
        agents.setdefault(result.task, set()).add(result.agent)
    about: dict[str, dict[str, set[str]]] = {}
    told = [(result, spent) for result in results if (spent := usage.budget(result))]
    told += [(result, warning) for result in results for warning in result.warnings]
    for result, text in told:
        about.setdefault(printable(text), {}).setdefault(result.task, set()).add(result.agent)
    lines = []
    for text, those in list(about.items())[:MANY_NOTES]:
        shown = 3
        tasks = [
            printable(task if some == agents[task] else f"{task}[{', '.join(sorted(some))}]")
            for task, some in those.items()
        ]
        more = f" and {len(tasks) - shown} more" if len(tasks) > shown else ""
        lines.append(f"note: {', '.join(tasks[:shown])}{more}: {text}")
    if len(about) > MANY_NOTES:
        lines.append(f"... and {len(about) - MANY_NOTES} more notes in {RESULTS}")
    return lines


def summary(results: list[TrialResult], seconds: float) -> list[str]:
    """Return the totals of a run.

    Args:
        results: the trials.
        seconds: how long they took together, by the clock on the wall.

    """
    return totals(results, f"{seconds:.1f} s")


def totals(results: list[TrialResult], within: str) -> list[str]:
    """Return the totals: what counts in the pass rate, and beside it what does not.

    Args:
        results: the trials.
        within: what they were in: seconds, or runs.

    """
    counts = count_outcomes(results)
    # An infrastructure error says nothing about the agent: it is neither a 0 nor part of what the rate is of.
    graded = [result for result in results if result.outcome in GRADED]
    said = ", ".join(f"{number} {name}" for name, number in counts.items() if number or name != "skipped")
    lines = [f"{len(results)} trial{'' if len(results) == 1 else 's'} in {within}: {said}"]
    if graded:
        lines.append(_rates(graded))
    return lines


def agent_rates(results: Iterable[TrialResult]) -> list[tuple[str, str]]:
    """Return the names of agents and what each came to, where there are several."""
    groups: dict[str, list[TrialResult]] = {}
    for result in results:
        if result.outcome in GRADED:
            groups.setdefault(result.agent, []).append(result)
    return [(agent, _rates(groups[agent])) for agent in sorted(groups)] if len(groups) > 1 else []


def _rates(graded: list[TrialResult]) -> str:
    """Return mean reward and pass rate of trials that count."""
    rewards = [result.reward for result in graded if result.reward is not None]
    mean = f"mean reward {sum(rewards) / len(rewards):.3f}, " if rewards else ""
    passed = count_outcomes(graded)["passed"]
    return f"{mean}pass rate {_rate(passed, len(graded))} ({passed} of {len(graded)} graded)"


def _rate(part: int, whole: int) -> str:
    """Return a share in percent, never rounded up to all nor down to none."""
    share = round(100 * part / whole, 1)
    if part < whole:
        share = min(share, 99.9)
    return f"{max(share, 0.1) if part else 0.0:.1f}%"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

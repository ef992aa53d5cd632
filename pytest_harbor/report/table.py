"""The table of a run: a row per task and agent, those that did not pass first, within the width of the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from pytest_harbor._util import columns
from pytest_harbor._util.text import one_line, plural
from pytest_harbor.errors import PHASES
from pytest_harbor.report import usage_text
from pytest_harbor.report.reason import reason
from pytest_harbor.trial import TrialResult

Markup = Callable[[str, str], str]
"""Colors a text for an outcome."""

_GAP = "  "
_INDENT = "    "
# Reasons are beside their rows if all fit or there is so much room, and below them otherwise.
_REASON_COLUMNS = 50
# How far names are shortened, step by step, if a row is too long.
_SHORTENED = (("task", 28), ("agent", 12), ("task", 20), ("agent", 8), ("task", 12))
# What is dropped, one after the other, if that is not enough.
_DROPPED = ("calls", "tokens", "cost", "attempts", "seconds")
_LEFT = ("task", "agent", "outcome")


class Row:
    """The attempts of one agent at one task."""

    def __init__(self, results: Sequence[TrialResult]) -> None:
        self.attempts = len(results)
        rewards = [result.reward for result in results if result.reward is not None]
        self._counts = count_outcomes(results)
        self.reason = _reasons(results)
        self.has_usage = any(result.usage is not None for result in results)
        self.phases = {
            phase: sum(times) / len(times)
            for phase in PHASES
            if (times := [result.phases[phase] for result in results if phase in result.phases])
        }
        totals = [sum(result.phases.values()) for result in results if result.phases]
        self.texts = {
            "task": one_line(results[0].task),
            "agent": one_line(results[0].agent) or "-",
            "attempts": str(self.attempts),
            "reward": f"{sum(rewards) / len(rewards):.2f}" if rewards else "-",
            "outcome": self.outcome,
            "seconds": _seconds(sum(totals) / len(totals) if totals else None),
            **dict(zip(usage_text.HEADS, usage_text.cells(results), strict=True)),
            **{f"{phase} s": _seconds(self.phases.get(phase)) for phase in PHASES},
        }

    @property
    def outcome(self) -> str:
        """The outcome, or the number of attempts by outcome."""
        found = {name: number for name, number in self._counts.items() if number}
        return ", ".join(name if self.attempts == 1 else outcome_count(name, number) for name, number in found.items())

    @property
    def worst(self) -> str:
        """The outcome that needs attention most."""
        order = ("error", "failed", "unverified", "skipped", "passed")
        return next(name for name in order if self._counts[name])

    @property
    def rank(self) -> int:
        """Its place: what did not pass, what was skipped, what passed."""
        return {"passed": 2, "skipped": 1}.get(self.worst, 0)


def rows_of(results: Iterable[TrialResult]) -> list[Row]:
    """Return the rows of results, those that did not pass first."""
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for result in results:
        groups.setdefault((result.task, result.agent), []).append(result)
    return sorted((Row(groups[key]) for key in sorted(groups)), key=lambda row: row.rank)


def lines(rows: Sequence[Row], width: int, markup: Markup, *, phases: bool = False) -> list[str]:
    """Return a table as lines that are at most as wide as the terminal.

    Args:
        rows: the rows.
        width: columns of the terminal.
        markup: colors a text for an outcome.
        phases: whether to show the seconds of each phase.

    """
    table = _Table(rows, width, phases=phases)
    text = [columns.fit(_GAP.join(table.cells(None)).rstrip(), width)]
    for row in rows:
        cells = table.cells(row)
        plain = _GAP.join(cells).rstrip()
        if columns.width(plain) > width:
            text.append(columns.fit(plain, width))
        else:
            cells[table.outcome] = markup(cells[table.outcome], row.worst)
            text.append(_GAP.join(cells).rstrip())
        text += [f"{_INDENT}{line}" for line in table.below(row)]
    return text


class _Table:
    """Which columns there are, how wide each is, and what goes below its row instead."""

    def __init__(self, rows: Sequence[Row], width: int, *, phases: bool) -> None:
        self._width = width
        attempts = ["attempts"] if any(row.attempts > 1 for row in rows) else []
        usage = usage_text.HEADS if any(row.has_usage for row in rows) else ()
        names = ["task", "agent", *attempts, "reward", "outcome", "seconds", *usage]
        self._widths = _within(_widths(names, rows), width)
        self._phases = [phase for phase in PHASES if any(phase in row.phases for row in rows)] if phases else []
        beside = self._widths | _widths([f"{phase} s" for phase in self._phases], rows)
        if _total(beside.values()) <= width:
            self._widths, self._phases = beside, []
        room = width - _total(self._widths.values()) - len(_GAP)
        longest = max((columns.width(row.reason) for row in rows), default=0)
        self._reason_columns = room if room >= min(_REASON_COLUMNS, longest) else 0
        self.outcome = list(self._widths).index("outcome")

    def cells(self, row: Row | None) -> list[str]:
        """Return the cells of a row, or the heads of the columns."""
        found = []
        for name, width in self._widths.items():
            text = columns.fit_middle(name if row is None else row.texts[name], width)
            found.append(columns.pad(text, width, right=name not in _LEFT))
        if row is not None and self._reason_columns:
            found.append(columns.fit(row.reason, self._reason_columns))
        return found

    def below(self, row: Row) -> list[str]:
        """Return the lines below a row."""
        texts = [] if self._reason_columns or not row.reason else [row.reason]
        if self._phases and row.phases:
            texts.append(f"{', '.join(f'{phase} {_seconds(value)}' for phase, value in row.phases.items())} s")
        return [columns.fit(text, self._width - len(_INDENT)) for text in texts]


def _widths(names: Iterable[str], rows: Sequence[Row]) -> dict[str, int]:
    return {name: max(map(columns.width, (name, *(row.texts[name] for row in rows)))) for name in names}


def _within(widths: dict[str, int], width: int) -> dict[str, int]:
    """Return the widths of columns that fit, without those for which there is no room."""
    for name, least in _SHORTENED:
        over = _total(widths.values()) - width
        if over > 0:
            widths[name] = max(min(widths[name], least), widths[name] - over)
    for name in _DROPPED:
        if _total(widths.values()) > width:
            widths.pop(name, None)
    return widths


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + len(_GAP) * (len(found) - 1)


def _reasons(results: Sequence[TrialResult]) -> str:
    counts = Counter(text for result in results if (text := reason(result)))
    return "; ".join(text if number == 1 else f"{text} ({number} times)" for text, number in counts.most_common())


def count_outcomes(results: Iterable[TrialResult]) -> dict[str, int]:
    """Return the number of trials by outcome."""
    counts = dict.fromkeys(("passed", "failed", "unverified", "error", "skipped"), 0)
    for result in results:
        counts[result.outcome] += 1
    return counts


def outcome_count(outcome: str, number: int) -> str:
    """Return a number of trials with their outcome: "3 passed", "1 error", "2 errors"."""
    return plural(number, "error") if outcome == "error" else f"{number:,} {outcome}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"

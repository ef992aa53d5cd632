"""A verdict in words: what it is and why, then the tasks that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pytest_harbor._util.text import one_line
from pytest_harbor.gate import Key, Pair, Sample, Verdict
from pytest_harbor.report import usage_text as usage

# Rows of a section beyond this are left out, unless all are asked for.
MANY_ROWS = 20
MANY_NAMES = 5


@dataclass(frozen=True)
class Row:
    """One task and agent; rewards are means over attempts, None where there is none."""

    task: str
    agent: str
    before: float | None
    after: float | None
    note: str

    @property
    def rewards(self) -> str:
        """Reward before and after."""
        return f"{number(self.before)} -> {number(self.after)}"


@dataclass(frozen=True)
class Section:
    """Tasks of which the same is to be said."""

    title: str
    rows: tuple[Row, ...]


def sections(
    verdict: Verdict, run: Mapping[Key, Sample], confirmations: Mapping[Key, tuple[int, int]] | None = None
) -> list[Section]:
    """Return regressions, improvements, failures, flaky tasks, unverified trials and errors, those there are.

    Args:
        verdict: the verdict.
        run: the samples that it is on.
        confirmations: of each task that newly failed, how many of how many further trials passed.

    """
    pairs = {(pair.task, pair.agent): pair for comparison in verdict.comparisons for pair in comparison.pairs}
    further = confirmations or {}

    def row(key: Key, note: str) -> Row:
        pair, after = pairs.get(key), run.get(key)
        confirmed = "; run again, {} of {} passed".format(*further[key]) if key in further else ""
        return Row(*key, pair.before.mean if pair else None, after.mean if after else None, note + confirmed)

    def compared(chosen: Iterable[Pair]) -> tuple[Row, ...]:
        return tuple(row((pair.task, pair.agent), _passed(pair)) for pair in chosen)

    def counted(say: Callable[[Sample], str]) -> tuple[Row, ...]:
        return tuple(row(key, note) for key, sample in sorted(run.items()) if (note := say(sample)))

    def failed(key: Key) -> bool:
        sample = run[key]
        return key not in pairs and not sample.passed and len(sample.rewards) > sample.unverified

    found = [
        Section("regressions", compared(pair for each in verdict.comparisons for pair in each.regressions)),
        Section("improvements", compared(pair for each in verdict.comparisons for pair in each.improvements)),
        Section("failed", tuple(row(key, _share(run[key])) for key in sorted(run) if failed(key))),
        Section("flaky", tuple(row(key, _share(run[key])) for key in verdict.flaky if key in run)),
        Section("unverified", counted(_unverified)),
        Section("errors", counted(_errors)),
    ]
    return [section for section in found if section.rows]


def _share(sample: Sample) -> str:
    return f"{sample.passed} of {len(sample.rewards)} passed"


def _unverified(sample: Sample) -> str:
    number = sample.unverified
    return f"{number} of {len(sample.rewards) + sample.errors} left no usable reward" if number else ""


def _errors(sample: Sample) -> str:
    number = sample.errors
    return f"{number} of {len(sample.rewards) + number} ended with an infrastructure error" if number else ""


def _passed(pair: Pair) -> str:
    said = [f"{sample.passed} of {len(sample.rewards)}" for sample in (pair.before, pair.after)]
    return f"passed {said[0]}, now {said[1]}{'; beyond chance' if pair.significant else ''}"


def number(value: float | None) -> str:
    """Return a mean reward; a dash where there is none."""
    return "-" if value is None or value != value else f"{value:.2f}"


def lines(
    verdict: Verdict,
    run: Mapping[Key, Sample],
    confirmations: Mapping[Key, tuple[int, int]] | None = None,
    *,
    every: bool = False,
) -> list[str]:
    """Return a verdict as lines of a terminal: few where it is `pass`, unless every task is to be told.

    Args:
        verdict: the verdict.
        run: the samples that it is on.
        confirmations: of each task that newly failed, how many of how many further trials passed.
        every: whether to leave no task out.

    """
    said = [f"verdict: {verdict.word} (rule {verdict.spec})"]
    said += [f"  {one_line(reason, None)}" for reason in verdict.reasons]
    said += [f"  {line}" for line in usage.changes(verdict)]
    found = sections(verdict, run, confirmations)
    if verdict.word == "pass" and not every and not confirmations:
        counts = ", ".join(f"{section.title} {len(section.rows)}" for section in found)
        said += [f"{counts}; -v shows them"] if counts else []
    else:
        for section in found:
            said += _table(section, every=every)
    for reason, keys in verdict.left_out.items():
        count = f"{len(keys)} task{'' if len(keys) == 1 else 's'}"
        said.append(f"not compared: {count}, {one_line(reason)}: {names((task for task, _ in keys), every=every)}")
    return said


def _table(section: Section, *, every: bool) -> list[str]:
    shown = section.rows if every else section.rows[:MANY_ROWS]
    cells = [(one_line(row.task), one_line(row.agent), row.rewards, row.note) for row in shown]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    said = [f"{section.title} ({len(section.rows)}):"]
    said += [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(line[:3], widths, strict=True)), line[3]])
        for line in cells
    ]
    if len(shown) < len(section.rows):
        said.append(f"  ... and {len(section.rows) - len(shown)} more; -v shows all")
    return said


def names(tasks: Iterable[str], *, every: bool = False) -> str:
    """Return the first few of some names, and how many more there are."""
    shown = [one_line(task) for task in dict.fromkeys(tasks)]
    if every or len(shown) <= MANY_NAMES:
        return ", ".join(shown)
    return f"{', '.join(shown[:MANY_NAMES])} and {len(shown) - MANY_NAMES} more"

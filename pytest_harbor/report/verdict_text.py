"""The verdict as text: the verdict, its reasons, then the tasks that matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.gate import Comparison, Key, Pair, Sample, Verdict
from pytest_harbor.report import usage_text

# The most rows of a section and the most names in a line, unless everything is to be shown.
MAX_ROWS = 20
MAX_NAMES = 5

REGRESSIONS = "regressions"


def worse_title(verdict: Verdict) -> str:
    """Return the title of the tasks with lower rewards: only a verdict makes them regressions."""
    return REGRESSIONS if verdict.rewards_word == "regressed" else f"lower than {verdict.spec.reference}"


@dataclass(frozen=True)
class Row:
    """One task and agent; rewards are means over attempts, None if there are none."""

    task: str
    agent: str
    before: float | None
    after: float | None
    note: str

    @property
    def rewards(self) -> str:
        """The reward before and after, as text; only the one of the run if there is none to compare with."""
        return number(self.after) if self.before is None else f"{number(self.before)} -> {number(self.after)}"


@dataclass(frozen=True)
class Section:
    """Tasks that have something in common, such as regressions."""

    title: str
    rows: tuple[Row, ...]


def sections(
    verdict: Verdict, run: Mapping[Key, Sample], confirmations: Mapping[Key, tuple[int, int]] | None = None
) -> list[Section]:
    """Return the non-empty sections: lower rewards, improvements, failed, flaky, unverified and errors.

    Args:
        verdict: the verdict.
        run: the samples that were judged.
        confirmations: how many confirmations passed, and how many there were, for each task that newly failed.

    """
    pairs = {(pair.task, pair.agent): pair for comparison in verdict.comparisons for pair in comparison.pairs}
    reruns = confirmations or {}

    def row(key: Key, note: str) -> Row:
        pair, after = pairs.get(key), run.get(key)
        rerun = "; rerun: {} of {} passed".format(*reruns[key]) if key in reruns else ""
        return Row(*key, pair.before.mean if pair else None, after.mean if after else None, note + rerun)

    def compared(each: Comparison, some_pairs: Iterable[Pair]) -> Iterator[Row]:
        for pair in some_pairs:
            yield row((pair.task, pair.agent), f"{_passed(pair)}{_contribution(pair, each)}")

    def counted(describe: Callable[[Sample], str]) -> tuple[Row, ...]:
        return tuple(row(key, note) for key, sample in sorted(run.items()) if (note := describe(sample)))

    def failed(key: Key) -> bool:
        sample = run[key]
        counted = len(sample.rewards) - sample.expected
        judged = key not in pairs and key[1] != verdict.spec.versus
        return judged and not sample.passed and counted > sample.unverified

    each_worse = [row for each in verdict.comparisons for row in compared(each, each.regressions)]
    each_better = [row for each in verdict.comparisons for row in compared(each, each.improvements)]
    found = [
        Section(worse_title(verdict), tuple(each_worse)),
        Section("improvements", tuple(each_better)),
        Section("failed", tuple(row(key, _share(run[key])) for key in sorted(run) if failed(key))),
        Section("flaky", tuple(row(key, _share(run[key])) for key in verdict.flaky if key in run)),
        Section("unverified", counted(_unverified)),
        Section("expected failures", counted(_expected)),
        Section("errors", counted(_errors)),
    ]
    return [section for section in found if section.rows]


def blamed(verdict: Verdict, run: Mapping[Key, Sample]) -> set[Key]:
    """Return the tasks and agents with failures that a verdict other than `pass` is about."""
    if verdict.rewards_word == "pass":
        return set()
    titles = (worse_title(verdict), "failed", "unverified")
    found = (section for section in sections(verdict, run) if section.title in titles)
    return {(row.task, row.agent) for section in found for row in section.rows}


def _share(sample: Sample) -> str:
    return f"{sample.passed} of {len(sample.rewards)} passed"


def _unverified(sample: Sample) -> str:
    number = sample.unverified
    return f"{number} of {len(sample.rewards) + sample.errors} left no usable reward" if number else ""


def _expected(sample: Sample) -> str:
    return f"{sample.expected} of {len(sample.rewards)} failed, as an xfail mark expects" if sample.expected else ""


def _errors(sample: Sample) -> str:
    number = sample.errors
    return f"{number} of {len(sample.rewards) + number} ended with an infrastructure error" if number else ""


def _passed(pair: Pair) -> str:
    before, after = (f"{sample.passed} of {len(sample.rewards)}" for sample in (pair.before, pair.after))
    change = f"passed {after}, {pair.reference} {before}" if pair.versus else f"passed {before}, now {after}"
    return f"{change}{'; more than chance explains' if pair.significant else ''}"


def _contribution(pair: Pair, comparison: Comparison) -> str:
    """Return what a task adds to the difference between two agents; in a baseline's verdict, nobody asks."""
    share = pair.difference / len(comparison.pairs)
    return f"; {share:+.3f} of {comparison.estimate:+.3f}" if pair.versus else ""


def number(value: float | None) -> str:
    """Return a mean reward as text, a dash for None."""
    return "-" if value is None or value != value else f"{value:.2f}"


def lines(
    verdict: Verdict,
    run: Mapping[Key, Sample],
    confirmations: Mapping[Key, tuple[int, int]] | None = None,
    *,
    every: bool = False,
) -> list[str]:
    """Return a verdict as lines for a terminal; a `pass` is short unless every task is shown.

    Args:
        verdict: the verdict.
        run: the samples that were judged.
        confirmations: how many confirmations passed, and how many there were, for each task that newly failed.
        every: whether to show every task.

    """
    text = [f"verdict: {verdict.word} (rule {verdict.spec})"]
    text += [f"  {one_line(reason, None)}" for reason in verdict.reasons]
    text += [f"  {line}" for line in usage_text.changes(verdict)]
    found = sections(verdict, run, confirmations)
    if verdict.rewards_word == "pass" and not every and not confirmations:
        counts = ", ".join(f"{section.title} {len(section.rows)}" for section in found)
        text += [f"{counts}; use -v to list them"] if counts else []
    else:
        for section in found:
            text += _table(section, every=every)
    for reason, keys in verdict.not_compared.items():
        names = [one_line(task) for task in dict.fromkeys(task for task, _ in keys)]
        tasks = listed(names, len(names) if every else MAX_NAMES)
        text.append(f"not compared ({plural(len(keys), 'task')}, {one_line(reason)}): {tasks}")
    return text


def exit_note(status: int, verdict: Verdict, inconclusive: str, accepted_by: str = "") -> str:
    """Return a line that explains the exit status of a verdict; empty if there is nothing to explain.

    Args:
        status: the exit status.
        verdict: the verdict.
        inconclusive: the option that sets the exit status of an inconclusive verdict.
        accepted_by: the option that makes the status 0 whatever the verdict; the one above if not given.

    """
    if verdict.word == "pass":
        return ""
    if not status:
        return f"exit status 0, although {verdict.word}: {accepted_by or f'{inconclusive}=pass'} accepts it"
    fix = f"; {inconclusive}=pass would make it 0" if verdict.word == "inconclusive" else ""
    return f"exit status {status}: {verdict.word}{fix}"


def _table(section: Section, *, every: bool) -> list[str]:
    shown = section.rows if every else section.rows[:MAX_ROWS]
    cells = [(one_line(row.task), one_line(row.agent), row.rewards, row.note) for row in shown]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    text = [f"{section.title} ({len(section.rows)}):"]
    text += [
        "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(line[:3], widths, strict=True)), line[3]])
        for line in cells
    ]
    if len(shown) < len(section.rows):
        text.append(f"  ... and {len(section.rows) - len(shown)} more; use -v to list all")
    return text

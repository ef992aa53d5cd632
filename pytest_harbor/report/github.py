"""A run on GitHub: the step summary, annotations, and the body of a comment.

Task names and the output of agents and tests are untrusted: they must not become Markdown, HTML, mentions, links or
workflow commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_harbor._util.text import capitalized, listed, one_line, plural
from pytest_harbor.gate import Key, Sample, Verdict
from pytest_harbor.report import usage_text
from pytest_harbor.report.agent_rates import percent, rates_by_agent
from pytest_harbor.report.failure import headline
from pytest_harbor.report.headline import headline as run_headline
from pytest_harbor.report.headline import is_expected_failure
from pytest_harbor.report.reason import reason
from pytest_harbor.report.terminal import totals
from pytest_harbor.report.verdict_text import Row, Section, number, sections, worse_title
from pytest_harbor.report.workflow_commands import command
from pytest_harbor.trial import TrialResult

MARKER = "<!-- pytest-harbor -->"
COMMENT = "github-comment.md"

# GitHub's limits for a step summary, in bytes, and for a comment, in characters.
SUMMARY_LIMIT = 1 << 20
COMMENT_LIMIT = 65_536
# The most trials in the table of those that did not pass; the table of all trials has the others.
MAX_ROWS = 30
MAX_NAMES = 10
# The number of annotations per level that GitHub shows for a step.
MAX_ANNOTATIONS = 10

_TRUNCATED = "\nThe rest is omitted because of GitHub's size limit.\n"
_SPECIAL = re.compile(r"[^A-Za-z0-9 ,/=\-\u00a1-\U0010ffff]")

_OPENING = "\n<details>"
_CLOSING = "\n</details>\n"

Level = Literal["error", "warning", "notice"]
LEVELS: tuple[Level, ...] = ("error", "warning", "notice")


@dataclass(frozen=True)
class Report:
    """A run, or several merged runs, with the verdict.

    Attributes:
        results: the trials.
        samples: the results by task and agent.
        verdict: the verdict of the gate; None without a gate.
        confirmations: how many confirmations passed, and how many there were, for each task that newly failed.
        level: level of the annotations on failed trials without a verdict; None for no such annotations.
        not_run: ids of the tasks without a result if the run stopped early; None if it did not.

    """

    results: Sequence[TrialResult]
    samples: Mapping[Key, Sample]
    verdict: Verdict | None = None
    confirmations: Mapping[Key, tuple[int, int]] | None = None
    level: Level | None = "error"
    not_run: Sequence[str] | None = None


@dataclass(frozen=True)
class _Annotation:
    """An annotation on a task."""

    level: Level
    key: Key
    title: str
    text: str


# Markdown.


def inline_code(text: str) -> str:
    """Return at most 300 characters of a text as one line of inline code that Markdown cannot interpret.

    Every character that Markdown, HTML, mentions, references or links could be made of becomes a numeric entity.
    """
    text = one_line(text)
    return f"<code>{_SPECIAL.sub(lambda match: f'&#{ord(match[0])};', text)}</code>" if text else ""


def summary(report: Report) -> list[str]:
    """Return a report in Markdown, in parts; any number of parts can be cut from the end.

    First the verdict, then what did not pass and why, then the agents.
    """
    parts = ["## pytest-harbor\n"]
    if report.verdict is not None:
        parts.append(f"**Verdict: {report.verdict.word}** (rule {inline_code(str(report.verdict.spec))})\n\n")
        parts += [f"- {inline_code(line)}\n" for line in (*report.verdict.reasons, *usage_text.changes(report.verdict))]
    else:
        parts.append(f"**{run_headline(report.results, stopped=report.not_run is not None)[0]}**\n")
    if report.not_run:
        names = inline_code(listed(report.not_run, MAX_NAMES))
        parts.append(f"\nNot run ({plural(len(report.not_run), 'task')}): {names}\n")
    parts.append(f"\n{totals(report.results, 'total')[0]}\n")
    if report.verdict is not None:
        reasons = _reasons(report.results)
        for section in sections(report.verdict, report.samples, report.confirmations):
            parts += _section(section, reasons)
        for why, keys in report.verdict.not_compared.items():
            parts.append(f"\nNot compared ({plural(len(keys), 'task')}, {inline_code(why)}):\n\n")
            parts += [f"- {inline_code(task)}\n" for task in dict.fromkeys(task for task, _ in keys)]
    else:
        parts += _not_passed(report.results)
    parts += _agents(report.results)
    parts += [f"\n{inline_code(line)}\n" for line in usage_text.lines(report.results)]
    parts += _all_trials(report.results)
    return parts


def _reasons(results: Iterable[TrialResult]) -> dict[Key, str]:
    """Return for each task and agent why its first trial that did not pass did not."""
    found: dict[Key, str] = {}
    for result in sorted(results, key=lambda each: each.attempt):
        if result.outcome != "passed":
            found.setdefault((result.task, result.agent), reason(result))
    return found


def _section(section: Section, reasons: Mapping[Key, str]) -> list[str]:
    rows = [
        _row(
            (
                inline_code(row.task),
                inline_code(row.agent),
                number(row.before),
                number(row.after),
                row.note,
                inline_code(reasons.get((row.task, row.agent), "")),
            )
        )
        for row in section.rows
    ]
    title = f"{capitalized(section.title)} ({len(rows)})"
    return _table(title, ("task", "agent", "before:", "after:", "", "reason"), rows)


def _not_passed(results: Iterable[TrialResult]) -> list[str]:
    """Return a table of the trials that neither passed nor were skipped or expected to fail, the errors last."""
    chosen = [
        result for result in results if result.outcome not in ("passed", "skipped") and not is_expected_failure(result)
    ]
    chosen.sort(key=lambda each: (each.outcome == "error", each.task, each.agent, each.attempt))
    rows = [
        _row(
            (
                inline_code(each.task),
                inline_code(each.agent),
                each.outcome,
                number(each.reward),
                inline_code(reason(each)),
            )
        )
        for each in chosen[:MAX_ROWS]
    ]
    more = len(chosen) - len(rows)
    table = _table(f"Not passed ({len(chosen)})", ("task", "agent", "outcome", "reward:", "reason"), rows)
    return [*table, f"\nand {more:,} more, below\n"] if more else table


def _agents(results: Sequence[TrialResult]) -> list[str]:
    rates = [each for each in rates_by_agent(results) if each.graded]
    has_k, has_usage = any(each.k > 1 for each in rates), usage_text.total(results) is not None
    heads = ["agent", "passed:", "pass rate:", "mean reward:", *([f"{inline_code('pass@k')}:"] if has_k else [])]
    heads += [*(["cost per trial:"] if has_usage else []), "time per trial:"]
    rows = [
        _row(
            (
                inline_code(each.agent),
                f"{each.passed} of {each.graded}",
                percent(each.pass_rate),
                number(each.mean),
                *([f"{percent(each.pass_at_k)} (k={each.k})"] if has_k else []),
                *([inline_code(usage_text.cells(each.results)[2])] if has_usage else []),
                "-" if each.seconds is None else f"{each.seconds:,.1f} s",
            )
        )
        for each in rates
    ]
    return _table("Agents" if len(rows) > 1 else "Agent", heads, rows)


def _table(title: str, heads: Sequence[str], rows: Sequence[str]) -> list[str]:
    """Return a table with a title, or nothing if it has no rows. A head with a colon is that of a column of numbers."""
    if not rows:
        return []
    rules = ["---:" if head.endswith(":") else "---" for head in heads]
    return [f"\n### {title}\n{_row(head.rstrip(':') for head in heads)}{_row(rules)}", *rows]


def _all_trials(results: Iterable[TrialResult]) -> list[str]:
    attempts = (result for result in results if not result.confirmation)
    ordered = sorted(attempts, key=lambda each: (each.outcome == "passed", each.task, each.agent, each.attempt))
    if not ordered:
        return []
    usage_heads = usage_text.HEADS if any(result.usage is not None for result in ordered) else ()
    heads = ("task", "agent", "attempt", "outcome", "reward", "seconds", *usage_heads, "")
    rules = ("---", "---", "---:", "---", "---:", "---:", *("---:" for _ in usage_heads), "---")
    head = f"{_OPENING}<summary>All trials ({len(ordered)})</summary>\n\n{_row(heads)}{_row(rules)}"
    rows = [
        _row(
            (
                inline_code(result.task),
                inline_code(result.agent),
                str(result.attempt),
                result.outcome,
                number(result.reward),
                f"{sum(result.phases.values()):.1f}",
                *(map(inline_code, usage_text.cells([result])) if usage_heads else ()),
                _reason(result),
            )
        )
        for result in ordered
    ]
    return [head, *rows, _CLOSING]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _reason(result: TrialResult) -> str:
    if result.outcome == "passed":
        return inline_code(result.budget)
    return inline_code(result.reason if result.outcome == "skipped" else headline(result))


def truncate(parts: Iterable[str], limit: int) -> str:
    """Join the parts that fit into `limit` bytes, with a note if some do not; nothing if not even the note fits."""
    parts = list(parts)
    if sum(map(_size, parts)) <= limit:
        return "".join(parts)
    room = limit - _size(_CLOSING + _TRUNCATED)
    kept: list[str] = []
    for part in parts:
        room -= _size(part)
        if room < 0:
            break
        kept.append(part)
    closing = _CLOSING if any(part.startswith(_OPENING) for part in kept) else ""
    return "".join([*kept, closing, _TRUNCATED]) if kept else ""


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


# Workflow commands.


def commands(report: Report, root: Path | None) -> list[str]:
    """Return workflow commands that annotate the tasks that need attention, at most ten per level.

    Args:
        report: the run.
        root: root of the repository; annotations on tasks outside it have no location.

    """
    paths = {(result.task, result.agent): result.task_path for result in report.results}
    lines: list[str] = []
    annotations = _annotations(report)
    for level in LEVELS:
        chosen = [each for each in annotations if each.level == level]
        shown = chosen if len(chosen) <= MAX_ANNOTATIONS else chosen[: MAX_ANNOTATIONS - 1]
        lines += [command(level, each.title, each.text, _location(paths.get(each.key, ""), root)) for each in shown]
        if len(shown) < len(chosen):
            more = f"{len(chosen) - len(shown)} more; see the step summary"
            lines.append(command(level, "pytest-harbor", more, ""))
    return lines


def _annotations(report: Report) -> list[_Annotation]:
    """Return one annotation per task and agent, the worst first."""
    if report.verdict is not None:
        found = _verdict_annotations(report, report.verdict)
    else:
        at_least_warning: Level = report.level or "warning"
        levels = {"failed": report.level, "unverified": at_least_warning, "error": at_least_warning}
        found = [
            _Annotation(level, (result.task, result.agent), f"{result.outcome}: {result.task}", headline(result))
            for result in sorted(report.results, key=lambda result: (result.task, result.agent, result.attempt))
            if (level := levels.get(result.outcome)) and not is_expected_failure(result)
        ]
    annotations: dict[Key, _Annotation] = {}
    for each in sorted(found, key=lambda each: LEVELS.index(each.level)):
        annotations.setdefault(each.key, each)
    return list(annotations.values())


def _verdict_annotations(report: Report, verdict: Verdict) -> list[_Annotation]:
    level_if_worse: Level = "error" if verdict.rewards_word == "regressed" else "warning"
    levels: dict[str, Level] = {"unverified": "warning", "errors": "warning"}
    if verdict.rewards_word != "pass":
        # Under a `pass`, rewards differ by chance, and that needs nobody's attention.
        levels.update({worse_title(verdict): level_if_worse, "failed": level_if_worse, "flaky": "notice"})
    return [
        _Annotation(level, (row.task, row.agent), f"{section.title}: {row.task}", f"{row.rewards}, {row.note}")
        for section in sections(verdict, report.samples, report.confirmations)
        if (level := levels.get(section.title))
        for row in (sorted(section.rows, key=_change) if section.title == worse_title(verdict) else section.rows)
    ]


def _change(row: Row) -> float:
    """Return the change of a reward, so that the worst of all agents comes first."""
    return 0.0 if row.before is None or row.after is None else row.after - row.before


def _location(task_path: str, root: Path | None) -> str:
    """Return the path of task.toml relative to the repository, or an empty text if it is outside."""
    if not task_path or root is None:
        return ""
    try:
        return (Path(task_path).relative_to(root) / "task.toml").as_posix()
    except ValueError:
        return ""


# Writing.


def publish(report: Report, environ: Mapping[str, str], comment: Path | None) -> list[str]:
    """Write the step summary and the comment, and return the lines to print: annotations and write errors.

    Args:
        report: the run.
        environ: environment variables of the job.
        comment: file for the body of a comment; None for none.

    """
    problems = []
    parts = summary(report)
    target = environ.get("GITHUB_STEP_SUMMARY", "")
    try:
        if target:
            _append(Path(target), parts)
    except OSError as error:
        problems.append(f"harbor: the step summary was not written: {one_line(str(error), None)}")
    try:
        if comment is not None:
            comment.parent.mkdir(parents=True, exist_ok=True)
            body = truncate([f"{MARKER}\n", *parts], COMMENT_LIMIT)
            comment.write_text(body, encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"harbor: the comment was not written: {one_line(str(error), None)}")
    root = environ.get("GITHUB_WORKSPACE", "")
    return [*commands(report, Path(root) if root else None), *problems]


def _append(file: Path, parts: Iterable[str]) -> None:
    """Append to the step summary, which other programs may have written to."""
    size = file.stat().st_size if file.exists() else 0
    with file.open("a", encoding="utf-8", errors="replace") as summary_file:
        summary_file.write(truncate(parts, SUMMARY_LIMIT - size))

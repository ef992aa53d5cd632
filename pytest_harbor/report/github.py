"""What GitHub shows of a run: a step summary, annotations, and the body of a comment.

Names of tasks and what agents and tests have printed are hostile here: they must become neither Markdown nor HTML,
mention nobody, link nowhere, and give no workflow command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_harbor._util.text import one_line
from pytest_harbor.gate import Key, Sample, Verdict
from pytest_harbor.report import usage_text as usage
from pytest_harbor.report.failure import headline
from pytest_harbor.report.terminal import agent_rates, totals
from pytest_harbor.report.verdict_text import Section, number, sections
from pytest_harbor.trial import TrialResult

MARKER = "<!-- pytest-harbor -->"
COMMENT = "github-comment.md"

# Bytes that GitHub takes as the summary of a step, and characters as a comment.
SUMMARY_LIMIT = 1 << 20
COMMENT_LIMIT = 65_536
# Annotations that GitHub shows of a step at each level.
ANNOTATIONS = 10

_NOTE = "\nThe rest is left out: GitHub takes no more.\n"
_PLAIN = re.compile(r"[^A-Za-z0-9 ,/=\-\u00a1-\U0010ffff]")

_OPENING = "\n<details>"
_CLOSING = "\n</details>\n"

Level = Literal["error", "warning", "notice"]


@dataclass(frozen=True)
class Report:
    """A run, or several that were merged, and what is said of it.

    Attributes:
        results: the trials.
        samples: the same, by task and agent.
        verdict: of the gate; None where none was asked for.
        confirmations: of each task that newly failed, how many of how many further trials passed.
        level: of annotations on trials that failed, where there is no verdict; None where they mean nothing alone.

    """

    results: Sequence[TrialResult]
    samples: Mapping[Key, Sample]
    verdict: Verdict | None = None
    confirmations: Mapping[Key, tuple[int, int]] | None = None
    level: Level | None = "error"


@dataclass(frozen=True)
class _Mark:
    """An annotation, before it is a command."""

    level: Level
    key: Key
    title: str
    text: str


def active(environ: Mapping[str, str]) -> bool:
    """Tell whether this is a job of GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


# Markdown.


def inline(text: str) -> str:
    """Return a text as code in Markdown that is nothing but its characters, in one line, at most 300 of them.

    Everything that Markdown, HTML, GitHub's mentions, references or links could be made of is a numeric entity.
    """
    text = one_line(text)
    return f"<code>{_PLAIN.sub(lambda match: f'&#{ord(match[0])};', text)}</code>" if text else ""


def summary(report: Report) -> list[str]:
    """Return a report in Markdown, in parts that each can be left out after those before it."""
    parts = ["## pytest-harbor\n"]
    if report.verdict is not None:
        parts.append(f"**Verdict: {report.verdict.word}** (rule {inline(str(report.verdict.spec))})\n\n")
        parts += [f"- {inline(line)}\n" for line in (*report.verdict.reasons, *usage.changes(report.verdict))]
    parts += ["\n", *(f"{line}\n\n" for line in totals(list(report.results), "all"))]
    parts += [f"{inline(agent)}: {told}\n\n" for agent, told in agent_rates(report.results)]
    parts += [f"{inline(line)}\n\n" for line in usage.lines(report.results)]
    if report.verdict is not None:
        for section in sections(report.verdict, report.samples, report.confirmations):
            parts += _table(section)
        for reason, keys in report.verdict.left_out.items():
            parts.append(f"\nNot compared, {inline(reason)}: {len(keys)}\n\n")
            parts += [f"- {inline(task)}\n" for task in dict.fromkeys(task for task, _ in keys)]
    parts += _all(report.results)
    return parts


def _table(section: Section) -> list[str]:
    rows = [
        f"| {inline(row.task)} | {inline(row.agent)} | {number(row.before)} | {number(row.after)} | {row.note} |\n"
        for row in section.rows
    ]
    title = f"\n### {section.title.capitalize()} ({len(rows)})\n"
    return [f"{title}| task | agent | before | after | |\n| --- | --- | ---: | ---: | --- |\n", *rows]


def _all(results: Iterable[TrialResult]) -> list[str]:
    ordered = sorted(results, key=lambda each: (each.outcome == "passed", each.task, each.agent, each.attempt))
    if not ordered:
        return []
    used = usage.HEADS if any(result.usage is not None for result in ordered) else ()
    heads = ("task", "agent", "attempt", "outcome", "reward", "seconds", *used, "")
    rules = ("---", "---", "---:", "---", "---:", "---:", *("---:" for _ in used), "---")
    head = f"{_OPENING}<summary>All trials ({len(ordered)})</summary>\n\n{_row(heads)}{_row(rules)}"
    rows = [
        _row(
            (
                inline(result.task),
                inline(result.agent),
                str(result.attempt),
                result.outcome,
                number(result.reward),
                f"{sum(result.phases.values()):.1f}",
                *(map(inline, usage.cells([result])) if used else ()),
                _why(result),
            )
        )
        for result in ordered
    ]
    return [head, *rows, _CLOSING]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _why(result: TrialResult) -> str:
    if result.outcome == "passed":
        return inline(result.budget)
    return inline(result.reason if result.outcome == "skipped" else headline(result))


def bounded(parts: Iterable[str], limit: int) -> str:
    """Return the parts that fit into so many bytes, with a note where some do not; nothing where not even that fits."""
    parts = list(parts)
    if sum(map(_size, parts)) <= limit:
        return "".join(parts)
    room = limit - _size(_CLOSING + _NOTE)
    kept: list[str] = []
    for part in parts:
        room -= _size(part)
        if room < 0:
            break
        kept.append(part)
    closing = _CLOSING if any(part.startswith(_OPENING) for part in kept) else ""
    return "".join([*kept, closing, _NOTE]) if kept else ""


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


# Workflow commands.


def commands(report: Report, root: Path | None) -> list[str]:
    """Return workflow commands that mark the tasks that need a look, at most ten a level.

    Args:
        report: the run.
        root: of the repository; tasks that do not lie in it are marked without a place.

    """
    paths = {(result.task, result.agent): result.task_path for result in report.results}
    said: list[str] = []
    marks = _marks(report)
    for level in ("error", "warning", "notice"):
        chosen = [mark for mark in marks if mark.level == level]
        shown = chosen if len(chosen) <= ANNOTATIONS else chosen[: ANNOTATIONS - 1]
        said += [_command(level, mark.title, mark.text, _place(paths.get(mark.key, ""), root)) for mark in shown]
        if len(shown) < len(chosen):
            more = f"{len(chosen) - len(shown)} more; see the summary of this step"
            said.append(_command(level, "pytest-harbor", more, ""))
    return said


def _marks(report: Report) -> list[_Mark]:
    """Return one mark a task and agent, the worst first."""
    if report.verdict is not None:
        marks = _marks_of_verdict(report, report.verdict)
    else:
        careful: Level = report.level or "warning"
        levels = {"failed": report.level, "unverified": careful, "error": careful}
        marks = [
            _Mark(level, (result.task, result.agent), f"{result.outcome}: {result.task}", headline(result))
            for result in sorted(report.results, key=lambda result: (result.task, result.agent, result.attempt))
            if (level := levels.get(result.outcome))
        ]
    return list({mark.key: mark for mark in reversed(marks)}.values())[::-1]


def _marks_of_verdict(report: Report, verdict: Verdict) -> list[_Mark]:
    bad: Level = "error" if verdict.word == "regressed" else "warning"
    levels: dict[str, Level] = {"unverified": "warning", "errors": "warning"}
    if verdict.word != "pass":
        # Where the verdict is `pass`, rewards differ by chance, and nobody needs to look at that each time.
        levels.update({"regressions": bad, "failed": bad, "flaky": "notice"})
    return [
        _Mark(level, (row.task, row.agent), f"{section.title}: {row.task}", f"{row.rewards}, {row.note}")
        for section in sections(verdict, report.samples, report.confirmations)
        if (level := levels.get(section.title))
        for row in section.rows
    ]


def _place(task_path: str, root: Path | None) -> str:
    """Return task.toml relative to the repository; empty where it lies elsewhere."""
    if not task_path or root is None:
        return ""
    try:
        return (Path(task_path).relative_to(root) / "task.toml").as_posix()
    except ValueError:
        return ""


def _command(level: str, title: str, text: str, place: str) -> str:
    where = f"file={_property(place)},line=1," if place else ""
    return f"::{level} {where}title={_property(one_line(title))}::{_data(one_line(text))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def disarm(text: str) -> str:
    """Return a text of which no line is a workflow command: `::x` at its beginning, or `##[x]` anywhere."""
    return re.sub(r"##(?=\[)", "##\\\\", re.sub(r"(?m)^(\s*):(?=:)", r"\1\\:", text))


class Disarmed:
    """pytest's terminal, with whatever is written to it disarmed."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reporter, name)

    def write_line(self, line: str, **markup: bool) -> None:
        """Write a line."""
        self._reporter.write_line(disarm(line), **markup)


# Writing.


def publish(report: Report, environ: Mapping[str, str], comment: Path | None) -> list[str]:
    """Write summary and comment, and return lines to print: annotations, and what could not be written.

    Args:
        report: the run.
        environ: the variables of the job.
        comment: where the body of a comment goes; None for none.

    """
    problems = []
    parts = summary(report)
    target = environ.get("GITHUB_STEP_SUMMARY", "")
    try:
        if target:
            _append(Path(target), parts)
    except OSError as error:
        problems.append(f"harbor: the summary was not written: {one_line(str(error), None)}")
    try:
        if comment is not None:
            comment.parent.mkdir(parents=True, exist_ok=True)
            body = bounded([f"{MARKER}\n", *parts], COMMENT_LIMIT)
            comment.write_text(body, encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"harbor: the comment was not written: {one_line(str(error), None)}")
    root = environ.get("GITHUB_WORKSPACE", "")
    return [*commands(report, Path(root) if root else None), *problems]


def _append(file: Path, parts: Iterable[str]) -> None:
    """Append to the summary, which other programs may have written to."""
    used = file.stat().st_size if file.exists() else 0
    with file.open("a", encoding="utf-8", errors="replace") as summary_file:
        summary_file.write(bounded(parts, SUMMARY_LIMIT - used))

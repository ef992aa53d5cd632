"""The first card of the page: how many trials passed, and when, where and how long they ran."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.report.headline import headline
from pytest_harbor.report.html.grid import MARKS, outcome_pill
from pytest_harbor.report.html.markup import Child, Markup, duration, join, moment, tag
from pytest_harbor.report.table import count_outcomes
from pytest_harbor.trial import TrialResult

MAX_NAMES = 5
MAX_NOT_RUN = 20


def totals_section(
    results: Sequence[TrialResult], seconds: float | None, not_run: Sequence[str] | None, *, has_verdict: bool
) -> Markup:
    """Return the section. With a verdict, which then is the headline, only the counts."""
    attempts = [result for result in results if not result.confirmation]
    words, outcome = headline(results, stopped=not_run is not None)
    sign = tag("span", MARKS[outcome], class_="sign", aria_hidden="true")
    return tag(
        "section",
        tag("h2", "Totals", class_="sr-only"),
        None if has_verdict else tag("p", sign, words, class_="word"),
        _not_run(not_run) if not_run else None,
        _counts(attempts),
        _facts(results, attempts, seconds),
        id="totals",
        class_="totals" if has_verdict else f"verdict is-{outcome}",
    )


def _not_run(tasks: Sequence[str]) -> Markup:
    names = listed([one_line(task) for task in tasks], MAX_NOT_RUN)
    return tag("p", f"{plural(len(tasks), 'task')} did not run: {names}")


def _counts(attempts: Sequence[TrialResult]) -> Markup | None:
    counts = {outcome: count for outcome, count in count_outcomes(attempts).items() if count}
    if not counts:
        return None
    bars, x = [], 0.0
    for outcome, count in counts.items():
        width = 100 * count / len(attempts)
        bars.append(tag("rect", class_=f"fill-{outcome}", x=f"{x:.3f}", width=f"{width:.3f}", height=8))
        x += width
    bar = tag("svg", *bars, viewBox="0 0 100 8", class_="outcomes", aria_hidden="true", preserveAspectRatio="none")
    items = [
        tag("li", outcome_pill(outcome), " ", tag("b", f"{count:,}", class_="number"))
        for outcome, count in counts.items()
    ]
    return join([bar, tag("ul", *items, class_="counts")])


def _facts(results: Sequence[TrialResult], attempts: Sequence[TrialResult], seconds: float | None) -> Markup:
    tasks, agents = ({getattr(result, name) for result in results} for name in ("task", "agent"))
    size = [plural(len(tasks), "task")]
    if len(agents) > 1:
        size.append(plural(len(agents), "agent"))
    if len(attempts) > len(tasks):
        size.append(plural(len(attempts), "trial"))
    confirmations = len(results) - len(attempts)
    if confirmations:
        size.append(f"{plural(confirmations, 'confirmation')} not included")
    started = min((result.started_at for result in results if result.started_at), default="")
    facts: list[tuple[str, Child]] = [
        ("started", moment(started)),
        ("took", _wall_time(results) if seconds is None else duration(seconds)),
        ("size", ", ".join(size)),
        ("environment", _names(result.provider for result in results)),
        ("run", _names(result.run for result in results)),
    ]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in facts if text), class_="facts")


def _names(names: Iterable[str]) -> str:
    return listed(sorted({one_line(name) for name in names if name}), MAX_NAMES)


def _wall_time(results: Sequence[TrialResult]) -> str:
    """Return the time from the start of the first trial to the end of the last one."""
    with contextlib.suppress(ValueError, TypeError):
        starts = [datetime.fromisoformat(result.started_at) for result in results if result.started_at]
        ends = [datetime.fromisoformat(result.finished_at) for result in results if result.finished_at]
        if starts and ends:
            return duration((max(ends) - min(starts)).total_seconds())
    return ""

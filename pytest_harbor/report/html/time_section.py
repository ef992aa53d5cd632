"""Time by phase."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_harbor.errors import PHASES
from pytest_harbor.report.html.groups import Entry
from pytest_harbor.report.html.markup import Markup, data_table, duration, share_bar, tag


def time_section(entries: Sequence[Entry]) -> Markup | None:
    """Return the section, or None if no phase was timed."""
    total = sum(entry.seconds for entry in entries)
    rows = []
    for phase in PHASES:
        timed = [(entry.result.phases[phase], entry) for entry in entries if phase in entry.result.phases]
        if timed:
            rows.append(_phase(phase, timed, total))
    if not rows:
        return None
    return tag(
        "section",
        tag("h2", "Time by phase", id="time-title"),
        data_table("time-title", ("phase", "total", "share", "mean", "longest"), rows),
        id="time",
    )


def _phase(phase: str, timed: Sequence[tuple[float, Entry]], total: float) -> Markup:
    spent = sum(seconds for seconds, _ in timed)
    longest, entry = max(timed, key=lambda pair: (pair[0], -pair[1].number))
    share = spent / total if total else 0.0
    link = tag("a", duration(longest), href=f"#{entry.anchor}", aria_label=f"{duration(longest)}, {entry.result.task}")
    return tag(
        "tr",
        tag("th", phase, scope="row"),
        tag("td", duration(spent), class_="number"),
        tag("td", share_bar(share), f" {share:.0%}", class_="number"),
        tag("td", duration(spent / len(timed)), class_="number"),
        tag("td", link, class_="number"),
    )

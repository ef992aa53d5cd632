"""Earlier runs: a chart of rewards, cost and time for each agent, and a row per run behind it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from urllib.parse import quote

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.report.agent_rates import percent
from pytest_harbor.report.history import AgentRun, changes
from pytest_harbor.report.history_text import cost
from pytest_harbor.report.html.markup import Child, Markup, data_table, duration, join, moment, number, tag

MAX_NAMES = 10
PAGE = "report.html"
REWARD = "Mean reward"
# Size of a chart in its own units, and the room for points and lines at its edges.
_WIDTH, _HEIGHT, _EDGE = 240, 48, 5

_Text = Callable[[AgentRun], str]


def history_section(histories: Sequence[Sequence[AgentRun]], base: Path | None) -> Markup | None:
    """Return the section, or None if there are no earlier runs.

    Args:
        histories: the runs of each agent and dataset, the oldest first; the last one is the run of the page.
        base: the directory of the page, which links to other pages start from; None for no links.

    """
    if not histories:
        return None
    several = len({runs[-1].dataset for runs in histories}) > 1
    metered = any(each.metered for runs in histories for each in runs)
    heads = ("agent", "mean reward", *(["cost / trial"] if metered else []), "time / trial")
    return tag(
        "section",
        tag("h2", "History", id="history-title"),
        data_table("history-title", heads, [_row(runs, several=several, metered=metered) for runs in histories]),
        tag(
            "p",
            "Oldest run on the left. Rewards are those of the tasks that a run shares with this one (same files, "
            "same provider, same threshold), cost and time those of all its trials.",
            class_="quiet",
        ),
        *(
            part
            for index, runs in enumerate(histories, 1)
            for part in _details(f"history-{index}", runs, base, several=several, metered=metered)
        ),
        id="history",
    )


def _name(run: AgentRun, *, several: bool) -> str:
    name = one_line(run.agent) or "(no agent)"
    return f"{name}, {one_line(run.dataset)}" if several else name


def _row(runs: Sequence[AgentRun], *, several: bool, metered: bool) -> Markup:
    charts = [tag("td", _chart(REWARD, [each.mean for each in runs], [number(each.mean) for each in runs]))]
    if metered:
        charts.append(tag("td", _chart("Cost per trial", [each.cost for each in runs], [_cost(each) for each in runs])))
    times = [each.seconds for each in runs]
    charts.append(tag("td", _chart("Time per trial", times, [_time(each) for each in runs])))
    return tag("tr", tag("th", _name(runs[-1], several=several), scope="row"), *charts)


def _cost(run: AgentRun) -> str:
    return cost(run) if run.metered else "-"


def _time(run: AgentRun) -> str:
    return "-" if run.seconds is None else duration(run.seconds)


def _chart(what: str, values: Sequence[float | None], texts: Sequence[str]) -> Child:
    """Return a line through the known values, with its text for those who cannot see it, and the last value."""
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return texts[-1]
    low, high = min(0.0, *(value for _, value in known)), max(value for _, value in known)
    top = max(1.0, high) if what == REWARD else high or 1.0

    def y(value: float) -> str:
        return f"{_HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * (value - low) / (top - low):.1f}"

    def x(index: int) -> str:
        return f"{_EDGE + (_WIDTH - 2 * _EDGE) * index / (len(values) - 1):.1f}"

    first, least, most = known[0], min(known, key=itemgetter(1)), max(known, key=itemgetter(1))
    words = ", ".join(
        f"{word} {texts[index]}" for word, (index, _) in (("first", first), ("lowest", least), ("highest", most))
    )
    chart = tag(
        "svg",
        tag("line", x1=0, x2=_WIDTH, y1=y(0.0), y2=y(0.0)),
        *(
            tag("line", class_="segment", x1=x(one), y1=y(before), x2=x(other), y2=y(after))
            for (one, before), (other, after) in pairwise(known)
        ),
        *(
            tag("g", tag("title", texts[index]), tag("circle", cx=x(index), cy=y(value), r=2.5))
            for index, value in known[:-1]
        ),
        tag("circle", class_="last", cx=x(known[-1][0]), cy=y(known[-1][1]), r=4),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        class_="trend",
        role="img",
        aria_label=f"{what} in {plural(len(values), 'run')}: {words}, now {texts[-1]}",
    )
    return join([chart, " ", tag("span", texts[-1], class_="number")])


def _details(title: str, runs: Sequence[AgentRun], base: Path | None, *, several: bool, metered: bool) -> list[Markup]:
    """Return what changed since the runs before, and the runs in a table that can be opened; `title` is its id."""
    name, now = _name(runs[-1], several=several), runs[-1]
    columns: list[tuple[str, _Text]] = [
        ("shared tasks", lambda each: f"{len(each.tasks):,} of {len(now.tasks):,}"),
        ("pass rate", lambda each: percent(each.pass_rate)),
        ("mean reward", lambda each: number(each.mean)),
        *([("cost / trial", _cost)] if metered else []),
        ("time / trial", _time),
    ]
    rows = [
        tag(
            "tr",
            tag("th", _link(each, base) if each is not now else one_line(each.run), " ", _started(each), scope="row"),
            *(tag("td", text(each), class_="number") for _, text in columns),
        )
        for each in reversed(runs)
    ]
    heads = ("run", *(head for head, _ in columns))
    table = data_table(title, heads, rows)
    summary = tag("summary", f"{name}: {plural(len(runs) - 1, 'earlier run')}", id=title)
    return [*_changes(name, runs), tag("details", summary, table)]


def _changes(name: str, runs: Sequence[AgentRun]) -> list[Markup]:
    parts = []
    changed = [change for change in changes(runs) if change.run is runs[-1]]
    for word, fails in (("began to fail", True), ("fixed", False)):
        if tasks := [one_line(change.task) for change in changed if change.after.fails is fails]:
            parts.append(f"{plural(len(tasks), 'task')} {word}: {listed(tasks, MAX_NAMES)}")
    return [tag("p", f"{name}, in this run: {'; '.join(parts)}")] if parts else []


def _started(run: AgentRun) -> Markup | None:
    when = moment(run.started_at)
    return tag("span", when, class_="quiet") if when else None


def _link(run: AgentRun, base: Path | None) -> Child:
    """Return the name of a run, as a link to its page if that is where it usually is."""
    name, page = one_line(run.run), run.directory / PAGE
    if base is None or not page.is_file():
        return name
    return tag("a", name, href=quote(os.fsencode(os.path.relpath(page, base))))

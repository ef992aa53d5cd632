"""The grid: a row per task, a column per agent; a cell has the reward before and after, and a mark per attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_harbor._util.text import one_line
from pytest_harbor.gate.baseline import Key
from pytest_harbor.report import usage_text
from pytest_harbor.report.html.groups import Entry, Group
from pytest_harbor.report.html.markup import Markup, join, number, screen_reader_text, tag

MARKS = {"passed": "✓", "failed": "✕", "unverified": "?", "error": "!", "skipped": "\N{EN DASH}"}


def grid(groups: Mapping[Key, Group]) -> Iterator[Markup]:
    """Yield the grid in pieces."""
    agents = sorted({agent for _, agent in groups})
    yield Markup(
        '<div class="wide" tabindex="0" role="region" aria-labelledby="tasks-title">'
        '<table class="grid sortable" aria-labelledby="tasks-title">'
    )
    heads = (tag("th", one_line(agent) or "(no agent)", scope="col") for agent in agents)
    yield tag("thead", tag("tr", tag("th", "task", scope="col"), *heads))
    yield Markup("<tbody>")
    for task in sorted({task for task, _ in groups}):
        yield tag(
            "tr",
            tag("th", one_line(task), scope="row"),
            *(_cell(groups.get((task, agent))) for agent in agents),
        )
    yield Markup("</tbody></table></div>")


def _cell(group: Group | None) -> Markup:
    if group is None:
        return tag("td", tag("span", "not run", class_="quiet"), data_value="")
    return tag(
        "td",
        tag(
            "div",
            tag("b", number(group.reward) if group.reward is not None else "no reward", class_="number"),
            before(group),
            tag("span", "flaky", class_="note") if group.flaky else None,
            tag("span", "significant", class_="note") if group.pair and group.pair.significant else None,
            tag("span", "budget spent", class_="note") if any(entry.result.budget for entry in group.entries) else None,
            class_="rewards",
        ),
        _usage(group),
        tag("div", *(_mark(entry) for entry in group.entries), class_="marks"),
        data_value="" if group.reward is None else group.reward,
    )


def _usage(group: Group) -> Markup | None:
    """Return tokens and cost per trial, or None if they are unknown for all trials."""
    results = [entry.result for entry in group.entries]
    if all(result.usage is None for result in results):
        return None
    _, tokens, cost = usage_text.cells(results)
    return tag("div", f"{tokens} tokens, {'cost unknown' if cost == '?' else cost}", class_="number quiet used")


def before(group: Group) -> Markup | None:
    """Return the reward in the baseline or of the agent compared with, or None if it is unknown."""
    if group.pair is None:
        return None
    signs = {"worse": "▼ ", "better": "▲ ", "": ""}
    return tag(
        "span",
        tag("span", signs[group.change], aria_hidden="true") if group.change else None,
        screen_reader_text(f"{group.change}, ") if group.change else None,
        f"{one_line(group.pair.versus) or 'was'} {number(group.pair.before.mean)}",
        class_=f"before {group.change}".rstrip(),
    )


def _mark(entry: Entry) -> Markup:
    result = entry.result
    reward = "" if result.reward is None else f", reward {number(result.reward)}"
    return tag(
        "a",
        MARKS[result.outcome],
        href=f"#{entry.anchor}",
        class_=f"mark {result.outcome}{' confirmation' if result.confirmation else ''}",
        aria_label=f"{result.task}, {entry.label}: {result.outcome}{reward}{', budget spent' if result.budget else ''}",
    )


def outcome_pill(outcome: str) -> Markup:
    """Return an outcome as a mark and a word."""
    return tag("span", tag("span", MARKS[outcome], aria_hidden="true"), join([" ", outcome]), class_=f"pill {outcome}")

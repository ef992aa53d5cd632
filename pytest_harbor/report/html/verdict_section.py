"""The part of the page that is about the verdict: the word, why, and what has changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pytest_harbor._util.text import one_line
from pytest_harbor.gate.baseline import Key
from pytest_harbor.gate.verdict import Comparison, Pair, Verdict
from pytest_harbor.report import usage_text as usage
from pytest_harbor.report.html.groups import Group
from pytest_harbor.report.html.markup import Markup, hidden, join, number, plural, tag

SIGNS = {"pass": "✓", "regressed": "▼", "inconclusive": "?"}
# The grid has all of them.
MANY_CHANGES = 20
MANY_LEFT_OUT = 10


def verdict_section(verdict: Verdict) -> Markup:
    """Return the verdict: its word, its reasons, and the numbers behind it."""
    return tag(
        "section",
        tag(
            "p",
            tag("span", SIGNS[verdict.word], aria_hidden="true", class_="sign"),
            hidden("Verdict: "),
            verdict.word,
            class_="word",
        ),
        tag("ul", *(tag("li", one_line(reason, 2_000)) for reason in verdict.reasons), class_="reasons"),
        tag("p", "Rule: ", tag("code", str(verdict.spec)), class_="quiet"),
        _comparisons(verdict) if verdict.comparisons else None,
        *(tag("p", line, class_="quiet number") for line in usage.changes(verdict)),
        id="verdict",
        class_=f"verdict {verdict.word}",
        aria_label="Verdict",
    )


def _comparisons(verdict: Verdict) -> Markup:
    scale = max(verdict.spec.drop, *(abs(end) for each in verdict.comparisons for end in _ends(each))) * 1.1 or 1.0
    heads = ("agent", "tasks", "mean reward", "95 % interval", "p")
    return tag(
        "div",
        tag(
            "table",
            tag("caption", "Compared with the baseline"),
            tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
            tag("tbody", *(_comparison(each, verdict.spec.drop, scale) for each in verdict.comparisons)),
        ),
        class_="wide",
        tabindex=0,
        role="region",
        aria_label="Compared with the baseline",
    )


def _comparison(comparison: Comparison, drop: float, scale: float) -> Markup:
    low, high = comparison.interval
    known = math.isfinite(low)
    return tag(
        "tr",
        tag("th", one_line(comparison.agent), scope="row"),
        tag("td", len(comparison.pairs), class_="number"),
        tag("td", tag("b", f"{comparison.estimate:+.3f}"), _chart(comparison, drop, scale), class_="number"),
        tag("td", f"{low:+.3f} to {high:+.3f}" if known else "unknown", class_="number"),
        tag("td", f"{comparison.p_value:.2g}", class_="number"),
    )


def _chart(comparison: Comparison, drop: float, scale: float) -> Markup:
    """Return a picture of estimate and interval, between zero and the drop that matters, for those who see it."""

    def x(value: float) -> str:
        return f"{50 + 50 * value / scale:.2f}"

    low, high = _ends(comparison)
    return tag(
        "svg",
        tag("line", class_="zero", x1=x(0), x2=x(0), y1=0, y2=20),
        tag("line", class_="limit", x1=x(-drop), x2=x(-drop), y1=0, y2=20),
        tag("line", class_="interval", x1=x(low), x2=x(high), y1=10, y2=10),
        tag("circle", class_="estimate", cx=x(comparison.estimate), cy=10, r=3.5),
        viewBox="0 0 100 20",
        class_="chart",
        aria_hidden="true",
    )


def _ends(comparison: Comparison) -> tuple[float, float]:
    low, high = comparison.interval
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (comparison.estimate, comparison.estimate)


def changes_section(verdict: Verdict, groups: Mapping[Key, Group]) -> Markup | None:
    """Return what has changed: regressions, improvements, and what was not compared."""
    parts = list(_changes(verdict, groups))
    return tag("section", tag("h2", "Changes"), *parts, id="changes") if parts else None


def _changes(verdict: Verdict, groups: Mapping[Key, Group]) -> Iterator[Markup]:
    worse = [pair for each in verdict.comparisons for pair in each.regressions]
    better = [pair for each in verdict.comparisons for pair in each.improvements]
    for title, pairs in (("Regressions", worse), ("Improvements", better)):
        if pairs:
            yield tag("h3", f"{title} ({len(pairs):,})")
            yield _pairs(pairs, groups)
    left_out = {reason: keys for reason, keys in verdict.left_out.items() if keys}
    if left_out:
        yield tag("h3", f"Not compared ({sum(map(len, left_out.values())):,})")
        yield tag("ul", *(_left_out(reason, keys) for reason, keys in left_out.items()))


def _pairs(pairs: Sequence[Pair], groups: Mapping[Key, Group]) -> Markup:
    items = [
        tag(
            "li",
            task_link(pair, groups),
            " ",
            tag("span", one_line(pair.agent), class_="quiet"),
            " ",
            tag("span", f"{number(pair.before.mean)} → {number(pair.after.mean)}", class_="number"),
            join([" ", tag("span", "beyond chance", class_="note")]) if pair.significant else None,
        )
        for pair in pairs[:MANY_CHANGES]
    ]
    more = len(pairs) - len(items)
    return tag("ul", *items, tag("li", f"and {more:,} more, in the grid", class_="quiet") if more else None)


def task_link(pair: Pair, groups: Mapping[Key, Group]) -> Markup:
    """Return a task's name as a link to its first trial."""
    found = groups.get((pair.task, pair.agent))
    name = one_line(pair.task)
    return tag("a", name, href=f"#{found.entries[0].anchor}") if found else tag("span", name)


def _left_out(reason: str, keys: Sequence[Key]) -> Markup:
    names = ", ".join(f"{task} ({agent})" if agent else task for task, agent in keys[:MANY_LEFT_OUT])
    more = f" and {len(keys) - MANY_LEFT_OUT:,} more" if len(keys) > MANY_LEFT_OUT else ""
    return tag("li", f"{one_line(reason)}: {plural(len(keys), 'task')}. {one_line(names, 2_000)}{more}")

"""The sections about the verdict: the verdict with its reasons, and the changes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pytest_harbor._util.text import capitalized, listed, one_line, plural
from pytest_harbor.gate import Comparison, Key, Pair, Verdict
from pytest_harbor.report import usage_text
from pytest_harbor.report.html.groups import Group
from pytest_harbor.report.html.markup import Markup, data_table, join, number, screen_reader_text, tag
from pytest_harbor.report.verdict_text import worse_title

SIGNS = {"pass": "✓", "regressed": "▼", "inconclusive": "?", "not judged": "!"}
# The table of trials shows all tasks.
MAX_CHANGES = 10
MAX_NAMES = 10


def verdict_section(verdict: Verdict) -> Markup:
    """Return the section with the verdict, its reasons, and the numbers behind it."""
    return tag(
        "section",
        tag(
            "p",
            tag("span", SIGNS[verdict.word], aria_hidden="true", class_="sign"),
            screen_reader_text("Verdict: "),
            verdict.word,
            class_="word",
        ),
        tag("ul", *(tag("li", one_line(reason, 2_000)) for reason in verdict.reasons), class_="reasons"),
        tag("p", "Rule: ", tag("code", str(verdict.spec)), class_="quiet"),
        _comparisons(verdict) if verdict.comparisons else None,
        *(tag("p", line, class_="quiet number") for line in usage_text.changes(verdict)),
        id="verdict",
        class_=f"verdict {verdict.word.replace(' ', '-')}",
        aria_label="Verdict",
    )


def _comparisons(verdict: Verdict) -> Markup:
    scale = max(verdict.spec.drop, *(abs(end) for each in verdict.comparisons for end in _ends(each))) * 1.1 or 1.0
    caption = f"Compared with {verdict.spec.reference}"
    heads = ("agent", "tasks", "mean reward change", "95% interval", "p")
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
            tag("tbody", *(_comparison(each, verdict.spec.drop, scale) for each in verdict.comparisons)),
        ),
        class_="wide",
        tabindex=0,
        role="region",
        aria_label=caption,
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
    """Return a chart of the estimate and its interval, with lines at zero and at the drop that matters."""

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
    """Return the section with lower rewards, improvements and tasks not compared, or None if there are none."""
    parts = list(_changes(verdict, groups))
    return tag("section", tag("h2", "Changes"), *parts, id="changes") if parts else None


def _changes(verdict: Verdict, groups: Mapping[Key, Group]) -> Iterator[Markup]:
    worse = [pair for each in verdict.comparisons for pair in each.regressions]
    better = [pair for each in verdict.comparisons for pair in each.improvements]
    title_if_worse = capitalized(worse_title(verdict))
    for place, title, pairs in (("worse", title_if_worse, worse), ("better", "Improvements", better)):
        if pairs:
            yield tag("h3", f"{title} ({len(pairs):,})", id=place)
            yield _pairs(place, pairs, groups)
            if len(pairs) > MAX_CHANGES:
                more = f"and {len(pairs) - MAX_CHANGES:,} more: choose a kind of tasks in the filter"
                yield tag("p", more, class_="quiet")
    not_compared = {reason: keys for reason, keys in verdict.not_compared.items() if keys}
    if not_compared:
        yield tag("h3", f"Not compared ({sum(map(len, not_compared.values())):,})")
        yield tag("ul", *(_not_compared(reason, keys) for reason, keys in not_compared.items()))


def _pairs(title: str, pairs: Sequence[Pair], groups: Mapping[Key, Group]) -> Markup:
    agents = len({agent for _, agent in groups}) > 1
    rows = [
        tag(
            "tr",
            tag("th", task_link(pair, groups), _why(groups.get((pair.task, pair.agent))), scope="row"),
            tag("td", one_line(pair.agent)) if agents else None,
            tag(
                "td",
                f"{number(pair.before.mean)} → {number(pair.after.mean)}",
                join([" ", tag("span", "significant", class_="note")]) if pair.significant else None,
                class_="number",
            ),
        )
        for pair in pairs[:MAX_CHANGES]
    ]
    return data_table(title, ("task", *(["agent"] if agents else []), "mean reward"), rows)


def _why(group: Group | None) -> Markup | None:
    """Return why the first attempt that did not pass did not."""
    why = next((entry.reason for entry in (group.entries if group else ()) if entry.reason), "")
    return tag("p", why, class_="why") if why else None


def task_link(pair: Pair, groups: Mapping[Key, Group]) -> Markup:
    """Return the name of a task as a link to its first trial that did not pass, or else to its first one."""
    found = groups.get((pair.task, pair.agent))
    name = one_line(pair.task)
    if found is None:
        return tag("span", name)
    entry = next((entry for entry in found.entries if entry.reason), found.entries[0])
    return tag("a", name, href=f"#{entry.anchor}")


def _not_compared(reason: str, keys: Sequence[Key]) -> Markup:
    names = [one_line(f"{task} ({agent})" if agent else task) for task, agent in keys]
    return tag("li", f"{plural(len(keys), 'task')}, {one_line(reason)}: {listed(names, MAX_NAMES)}")

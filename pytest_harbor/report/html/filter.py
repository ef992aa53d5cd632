"""The filter of trials: by words, outcome, agent, and what is special about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_harbor._util.text import one_line
from pytest_harbor.gate.baseline import Key
from pytest_harbor.report.html.grid import MARKS
from pytest_harbor.report.html.groups import Entry, Group
from pytest_harbor.report.html.markup import Markup, join, tag
from pytest_harbor.report.table import count_outcomes

KINDS = {
    "worse": "worse than {reference}",
    "better": "better than {reference}",
    "flaky": "flaky",
    "timeout": "agent timed out",
    "budget": "budget spent",
    "xfail": "expected to fail",
}
MAX_CAUSES = 30


def trial_filter(entries: Sequence[Entry], groups: Mapping[Key, Group]) -> Markup:
    """Return the filter. It is hidden until the script shows it, because it does nothing without the script."""
    results = [entry.result for entry in entries]
    counts = count_outcomes(results)
    causes = _causes(entries)
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", name="outcome", value=outcome, checked=True),
            join(
                [
                    " ",
                    tag("span", MARKS[outcome], aria_hidden="true"),
                    f" {outcome} ",
                    tag("span", f"{count:,}", class_="quiet number"),
                ]
            ),
        )
        for outcome, count in counts.items()
        if count
    ]
    agents = sorted({result.agent for result in results})
    reference = next((group.pair.reference for group in groups.values() if group.pair), "")
    known = {kind for each in groups.values() for entry in each.entries for kind in entry.kinds(each)}
    return tag(
        "form",
        tag(
            "div",
            tag("label", "Search ", for_="search"),
            tag("input", type="search", id="search", autocomplete="off", placeholder="tasks, messages, logs"),
            class_="field",
        ),
        tag("fieldset", tag("legend", "Outcome"), *boxes),
        _select("agent", [(agent, one_line(agent) or "(no agent)") for agent in agents], "all agents")
        if len(agents) > 1
        else None,
        _select(
            "kind",
            [(kind, text.format(reference=one_line(reference))) for kind, text in KINDS.items() if kind in known],
            "all tasks",
        )
        if known
        else None,
        _select("reason", [(cause, f"{cause} ({number:,})") for cause, number in causes], "all reasons")
        if causes
        else None,
        tag(
            "div",
            tag("button", "Open all", type="button", id="open"),
            tag("button", "Close all", type="button", id="close"),
            class_="buttons",
        ),
        tag("p", role="status", id="shown"),
        id="filter",
        role="search",
        aria_label="Filter trials",
        hidden=True,
    )


def _causes(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """Return what several trials failed of, the most frequent first."""
    counts = Counter(entry.cause for entry in entries if entry.cause)
    return [(cause, number) for cause, number in counts.most_common(MAX_CAUSES) if number > 1]


def _select(name: str, choices: Sequence[tuple[str, str]], everything: str) -> Markup:
    options = [tag("option", everything, value=""), *(tag("option", text, value=value) for value, text in choices)]
    return tag(
        "div",
        tag("label", name.capitalize().replace("Kind", "Tasks") + " ", for_=f"by-{name}"),
        tag("select", *options, id=f"by-{name}"),
        class_="field",
    )

"""The page as a whole, rendered in pieces so that only one trial at a time is in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from pytest_harbor._util.files import write_atomically
from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.errors import PHASES
from pytest_harbor.gate.baseline import Key
from pytest_harbor.gate.verdict import Verdict
from pytest_harbor.report import usage_text
from pytest_harbor.report.html.calls import Share
from pytest_harbor.report.html.grid import MARKS, grid, outcome_pill
from pytest_harbor.report.html.groups import Entry, Group, entries_of, group_entries
from pytest_harbor.report.html.markup import Markup, duration, join, tag
from pytest_harbor.report.html.trial_section import trial_section
from pytest_harbor.report.html.verdict_section import changes_section, verdict_section
from pytest_harbor.report.terminal import count_outcomes, summary
from pytest_harbor.trial import TrialResult

# The most bytes of messages and logs on a page; trials get equal shares within limits.
MAX_LOG_BYTES = 8 << 20
LOG_BYTES_PER_TRIAL = (1 << 10, 64 << 10)


def write(path: Path, results: Sequence[TrialResult], *, verdict: Verdict | None = None, title: str = "") -> None:
    """Write the page of a run in one step. A symbolic link stays a link, and its target is replaced.

    Args:
        path: the file; its directory is created if needed.
        results: the trials, in any order.
        verdict: the verdict of the gate, if there is one.
        title: title of the page; empty for a title that names the datasets.

    Raises:
        OSError: the file cannot be written, or the path is not a regular file.

    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a regular file")
    write_atomically(target, render(results, verdict=verdict, title=title))


def render(results: Sequence[TrialResult], *, verdict: Verdict | None = None, title: str = "") -> Iterator[str]:
    """Yield the page of a run in pieces; the same trials and logs give the same page.

    Args:
        results: the trials, in any order.
        verdict: the verdict of the gate, if there is one.
        title: title of the page; empty for a title that names the datasets.

    """
    entries = entries_of(results)
    groups = group_entries(entries, verdict)
    datasets = _names(result.dataset for result in results)
    title = title or (f"Harbor run of {datasets}" if datasets else "Harbor run")
    yield Markup('<!DOCTYPE html>\n<html lang="en">')
    yield _head(title, verdict)
    yield Markup("<body>")
    yield tag("a", "Skip to the trials", href="#trials", class_="skip")
    changes = changes_section(verdict, groups) if verdict else None
    yield _header(title, changes=changes is not None)
    yield Markup("<main>")
    if verdict is not None:
        yield verdict_section(verdict)
    yield _totals(results)
    if changes is not None:
        yield changes
    yield _time(entries)
    yield _filter(results, groups)
    yield Markup('<section id="grid" aria-labelledby="grid-title"><h2 id="grid-title">Tasks</h2>\n')
    yield from grid(groups)
    yield Markup('</section>\n<section id="trials" tabindex="-1"><h2>Trials</h2>\n')
    low, high = LOG_BYTES_PER_TRIAL
    room = min(high, max(low, MAX_LOG_BYTES // max(1, len(entries))))
    share = Share.of(len(entries))
    for entry in entries:
        yield trial_section(entry, groups[(entry.result.task, entry.result.agent)], room, share)
        yield "\n"
    yield tag("p", "No trial matches the filter.", id="no-match", hidden=True)
    yield Markup(f"</section></main><script>{_asset('page.js')}</script></body></html>\n")


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _head(title: str, verdict: Verdict | None) -> Markup:
    style, script = _asset("page.css"), _asset("page.js")
    # Whatever an agent has printed: nothing is loaded, and only our own style and script apply.
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    word = f"{verdict.word}: " if verdict else ""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{word}{one_line(title)}"),
        Markup(f"<style>{style}</style>"),
    )


def _header(title: str, *, changes: bool) -> Markup:
    places = [("changes", "Changes"), ("time", "Time"), ("grid", "Tasks"), ("trials", "Trials")]
    return tag(
        "header",
        tag("h1", one_line(title)),
        tag(
            "nav",
            *(tag("a", text, href=f"#{place}") for place, text in places if changes or place != "changes"),
            aria_label="On this page",
        ),
    )


def _names(names: Iterator[str]) -> str:
    return listed(sorted({one_line(name) for name in names if name}), 5)


def _totals(results: Sequence[TrialResult]) -> Markup:
    attempts = [result for result in results if not result.confirmation]
    counts = count_outcomes(attempts)
    cards = [
        tag("div", tag("dt", outcome_pill(outcome)), tag("dd", f"{count:,}", class_="number"))
        for outcome, count in counts.items()
        if count or outcome != "skipped"
    ]
    _, *rest = summary(attempts, 0)
    confirmations = len(results) - len(attempts)
    if confirmations:
        rest.append(f"{plural(confirmations, 'confirmation')} not included")
    took = _wall_time(results)
    tasks = len({result.task for result in results})
    size = f"{plural(len(attempts), 'trial')} of {plural(tasks, 'task')}{f' in {took}' if took else ''}"
    facts = [
        ("run", _names(result.run for result in results)),
        ("agent", _names(result.agent for result in results)),
        ("model", _names(result.model for result in results)),
        ("environment", _names(result.provider for result in results)),
        ("started", min((one_line(result.started_at) for result in results if result.started_at), default="")),
    ]
    return tag(
        "section",
        tag("h2", "Totals"),
        tag("dl", *cards, class_="totals"),
        tag("p", "; ".join([size, *rest])),
        *(tag("p", line) for line in usage_text.lines(results)),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in facts if text), class_="facts"),
        id="totals",
    )


def _wall_time(results: Sequence[TrialResult]) -> str:
    """Return the time from the start of the first trial to the end of the last one."""
    with contextlib.suppress(ValueError, TypeError):
        starts = [datetime.fromisoformat(result.started_at) for result in results if result.started_at]
        ends = [datetime.fromisoformat(result.finished_at) for result in results if result.finished_at]
        if starts and ends:
            return duration((max(ends) - min(starts)).total_seconds())
    return ""


def _time(entries: Sequence[Entry]) -> Markup:
    rows = []
    total = sum(seconds for entry in entries for seconds in entry.result.phases.values())
    for phase in PHASES:
        timed = [(entry.result.phases[phase], entry) for entry in entries if phase in entry.result.phases]
        if timed:
            rows.append(_phase(phase, timed, total))
    if not rows:
        return tag("section", tag("h2", "Time"), tag("p", "No phase was timed."), id="time")
    heads = ("phase", "total", "share", "mean", "longest")
    return tag(
        "section",
        tag("h2", "Time by phase", id="time-title"),
        tag(
            "div",
            tag(
                "table",
                tag("caption", "Time by phase", class_="sr-only"),
                tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
                tag("tbody", *rows),
            ),
            class_="wide",
            tabindex=0,
            role="region",
            aria_labelledby="time-title",
        ),
        id="time",
    )


def _phase(phase: str, timed: Sequence[tuple[float, Entry]], total: float) -> Markup:
    spent = sum(seconds for seconds, _ in timed)
    longest, entry = max(timed, key=lambda pair: (pair[0], -pair[1].number))
    share = spent / total if total else 0.0
    bar = tag(
        "svg",
        tag("rect", class_="groove", width=100, height=8, rx=4),
        tag("rect", class_="bar", width=f"{100 * share:.2f}", height=8, rx=4),
        viewBox="0 0 100 8",
        class_="share",
        aria_hidden="true",
        preserveAspectRatio="none",
    )
    return tag(
        "tr",
        tag("th", phase, scope="row"),
        tag("td", duration(spent), class_="number"),
        tag("td", bar, f" {share:.0%}", class_="number"),
        tag("td", duration(spent / len(timed)), class_="number"),
        tag(
            "td",
            tag(
                "a", duration(longest), href=f"#{entry.anchor}", aria_label=f"{duration(longest)}, {entry.result.task}"
            ),
            class_="number",
        ),
    )


def _filter(results: Sequence[TrialResult], groups: Mapping[Key, Group]) -> Markup:
    """Return the filter. It is hidden until the script shows it, because it does nothing without the script."""
    counts = count_outcomes(results)
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", name="outcome", value=outcome, checked=True),
            join([" ", tag("span", MARKS[outcome], aria_hidden="true"), f" {outcome}"]),
        )
        for outcome, count in counts.items()
        if count
    ]
    agents = sorted({result.agent for result in results})
    kinds = {
        "worse": "worse than the baseline",
        "better": "better than the baseline",
        "flaky": "flaky",
        "budget": "budget spent",
    }
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
        _select("kind", [(kind, text) for kind, text in kinds.items() if kind in known], "all tasks")
        if known
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


def _select(name: str, choices: Sequence[tuple[str, str]], everything: str) -> Markup:
    options = [tag("option", everything, value=""), *(tag("option", text, value=value) for value, text in choices)]
    return tag(
        "div",
        tag("label", name.capitalize().replace("Kind", "Tasks") + " ", for_=f"by-{name}"),
        tag("select", *options, id=f"by-{name}"),
        class_="field",
    )

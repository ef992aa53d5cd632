"""The page as a whole, rendered in pieces so that only one trial at a time is in memory."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from pytest_harbor._util.files import write_output
from pytest_harbor._util.text import listed, one_line
from pytest_harbor.gate.verdict import Verdict
from pytest_harbor.report.headline import headline
from pytest_harbor.report.history import AgentRun
from pytest_harbor.report.html.agents import agents_section
from pytest_harbor.report.html.details import Rerun
from pytest_harbor.report.html.filter import trial_filter
from pytest_harbor.report.html.grid import grid
from pytest_harbor.report.html.groups import entries_of, group_entries
from pytest_harbor.report.html.history_section import history_section
from pytest_harbor.report.html.markup import Markup, tag
from pytest_harbor.report.html.time_section import time_section
from pytest_harbor.report.html.totals import totals_section
from pytest_harbor.report.html.trials import TrialTable
from pytest_harbor.report.html.verdict_section import changes_section, verdict_section
from pytest_harbor.trial import TrialResult

MAX_NAMES = 4

# Without the script, nothing could open a trial.
_WITHOUT_SCRIPT = ".more div[hidden] { display: block !important; content-visibility: visible; }"


def write(
    path: Path,
    results: Sequence[TrialResult],
    *,
    verdict: Verdict | None = None,
    title: str = "",
    seconds: float | None = None,
    not_run: Sequence[str] | None = None,
    rerun: Rerun | None = None,
    histories: Sequence[Sequence[AgentRun]] = (),
) -> None:
    """Write the page of a run in one step. A symbolic link stays a link, and its target is replaced.

    Args:
        path: the file; its directory is created if needed.
        results: the trials, in any order.
        verdict: the verdict of the gate, if there is one.
        title: title of the page; empty for one that names datasets and agents.
        seconds: duration of the run; None for the time from the start of the first trial to the end of the last one.
        not_run: ids of the tasks without a result if the run stopped early; None if it did not.
        rerun: returns the command that reruns a trial's test; None for no commands.
        histories: earlier runs and this one, for each agent and dataset that has earlier runs.

    Raises:
        OSError: the file cannot be written, or the path is not a regular file.

    """
    # Links start from where a browser finds the page, even if a symbolic link leads there.
    base = path.parent.absolute()
    page = render(
        results,
        verdict=verdict,
        title=title,
        seconds=seconds,
        not_run=not_run,
        base=base,
        rerun=rerun,
        histories=histories,
    )
    write_output(path, page)


def render(
    results: Sequence[TrialResult],
    *,
    verdict: Verdict | None = None,
    title: str = "",
    seconds: float | None = None,
    not_run: Sequence[str] | None = None,
    base: Path | None = None,
    rerun: Rerun | None = None,
    histories: Sequence[Sequence[AgentRun]] = (),
) -> Iterator[str]:
    """Yield the page of a run in pieces; the same trials and logs give the same page.

    Args:
        results: the trials, in any order.
        verdict: the verdict of the gate, if there is one.
        title: title of the page; empty for one that names datasets and agents.
        seconds: duration of the run; None for the time from the start of the first trial to the end of the last one.
        not_run: ids of the tasks without a result if the run stopped early; None if it did not.
        base: the directory of the page, which links to files start from; None for no such links.
        rerun: returns the command that reruns a trial's test; None for no commands.
        histories: earlier runs and this one, for each agent and dataset that has earlier runs.

    """
    entries = entries_of(results)
    groups = group_entries(entries, verdict)
    title = title or _title(results)
    changes = changes_section(verdict, groups) if verdict else None
    agents = agents_section(results)
    history = history_section(histories, base)
    time = time_section(entries)
    # With one attempt of one agent, the grid would repeat the table of trials.
    has_grid = len(groups) < len(entries) or len({agent for _, agent in groups}) > 1
    yield Markup('<!DOCTYPE html>\n<html lang="en">')
    words = verdict.word if verdict else headline(results, stopped=not_run is not None)[0]
    yield _head(f"{words}: {title}")
    yield Markup("<body>")
    yield tag("a", "Skip to the trials", href="#trials", class_="skip")
    places = (
        ("changes", changes),
        ("agents", agents),
        ("trials", True),
        ("tasks", has_grid),
        ("history", history),
        ("time", time),
    )
    yield _header(title, [place for place, exists in places if exists])
    yield Markup("<main>")
    if verdict is not None:
        yield verdict_section(verdict)
    yield totals_section(results, seconds, not_run, has_verdict=verdict is not None)
    for section in (changes, agents):
        if section is not None:
            yield section
    yield Markup('<section id="trials" tabindex="-1" aria-labelledby="trials-title"><h2 id="trials-title">Trials</h2>')
    yield trial_filter(entries, groups)
    yield from TrialTable(entries, groups, base, rerun).render()
    yield tag("p", "No trial matches the filter.", id="no-match", hidden=True)
    yield Markup("</section>")
    if has_grid:
        yield Markup('<section id="tasks" aria-labelledby="tasks-title"><h2 id="tasks-title">Tasks</h2>')
        yield from grid(groups)
        yield Markup("</section>")
    for section in (history, time):
        if section is not None:
            yield section
    yield Markup(f"</main><script>{_asset('page.js')}</script></body></html>\n")


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _head(title: str) -> Markup:
    style, script = _asset("page.css"), _asset("page.js")
    # Whatever an agent has printed: nothing is loaded, and only our own style and script apply.
    policy = (
        f"default-src 'none'; style-src {_digest(style)} {_digest(_WITHOUT_SCRIPT)}; "
        f"script-src {_digest(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", one_line(title)),
        Markup(f"<style>{style}</style><noscript><style>{_WITHOUT_SCRIPT}</style></noscript>"),
    )


def _title(results: Sequence[TrialResult]) -> str:
    """Return the names of the datasets and agents: "tb2 with claude, codex"."""
    datasets, agents = _names(result.dataset for result in results), _names(result.agent for result in results)
    return " with ".join(filter(None, (datasets or "Harbor run", agents)))


def _names(names: Iterable[str]) -> str:
    return listed(sorted({one_line(name, 80) for name in names if name}), MAX_NAMES)


def _header(title: str, places: Sequence[str]) -> Markup:
    return tag(
        "header",
        tag("h1", one_line(title)),
        tag(
            "nav",
            *(tag("a", place.capitalize(), href=f"#{place}") for place in places),
            aria_label="On this page",
        ),
    )

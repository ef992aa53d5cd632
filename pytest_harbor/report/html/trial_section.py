"""The section about one trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_harbor._util.logs import read_tail
from pytest_harbor._util.text import one_line, plural, shorten
from pytest_harbor.report.failure import agent_end
from pytest_harbor.report.html.calls import Share, calls_table
from pytest_harbor.report.html.grid import outcome_pill
from pytest_harbor.report.html.groups import Entry, Group
from pytest_harbor.report.html.markup import Child, Markup, duration, join, number, tag
from pytest_harbor.report.usage_text import money
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.ctrf import InnerTests
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

EXCEPTION = "exception.txt"
MAX_ITEMS = 20
_BROAD = ("metrics", "files", "node id")


def trial_section(entry: Entry, group: Group, room: int, share: Share) -> Markup:
    """Return the section of a trial.

    Args:
        entry: the trial.
        group: all trials of its task and agent.
        room: the most bytes of messages and logs to show.
        share: the trial's share of the page for model calls.

    """
    result = entry.result
    tests, used = _tests(result.tests, room // 3) if result.tests else (None, 0)
    title = f"{entry.anchor}-title"
    seconds = sum(result.phases.values())
    reward = "" if result.reward is None else f"reward {number(result.reward)}"
    summary = tag(
        "summary",
        outcome_pill(result.outcome),
        tag(
            "h3",
            one_line(result.task),
            tag("span", f" {one_line(result.agent)}", f" {entry.label}", class_="quiet"),
            join([" ", tag("span", "budget spent", class_="note")]) if result.budget else None,
            id=title,
        ),
        tag("span", reward, class_="number reward"),
        tag("span", duration(seconds) if seconds else "", class_="number quiet"),
    )
    return tag(
        "article",
        tag(
            "details",
            summary,
            tag("p", shorten(result.reason, 2_000), class_="reason") if result.reason else None,
            _facts(result, group),
            _phases(result),
            tests,
            _texts("Warnings", result.warnings),
            _texts(
                "Earlier attempts", [f"[{retry.phase}] {retry.message} ({retry.directory})" for retry in result.retries]
            ),
            calls_table(result, share),
            *_logs(result, room - used),
        ),
        id=entry.anchor,
        class_="trial",
        aria_labelledby=title,
        data_outcome=result.outcome,
        data_agent=result.agent,
        data_kind=" ".join(entry.kinds(group)) or None,
    )


def _facts(result: TrialResult, group: Group) -> Markup:
    image = result.image
    setup = (
        f"(with the agent's setup, {image['setup']}, on top of {image.get('below', '')})" if image.get("setup") else ""
    )
    facts: list[tuple[str, Child]] = [
        ("reward", join([_exact(result.reward), f", needs {_exact(result.threshold)}"])),
        ("baseline", _history(group)),
        ("agent", one_line(agent_end(result)).removeprefix("agent ")),
        ("model", one_line(result.model)),
        ("verifier", _verifier_end(result)),
        ("budget", one_line(result.budget)),
        *_usage(result),
        ("metrics", one_line(", ".join(f"{name} {value:g}" for name, value in result.metrics.items()), 2_000)),
        ("image", one_line(" ".join(filter(None, (image.get("ref"), image.get("source"), setup))))),
        ("provider", one_line(result.provider)),
        ("started", one_line(result.started_at)),
        ("files", one_line(result.directory, 1_000)),
        ("node id", one_line(result.node_id, 1_000)),
    ]
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value), class_="broad" if name in _BROAD else None)
            for name, value in facts
            if value
        ),
        class_="facts",
    )


def _usage(result: TrialResult) -> Iterator[tuple[str, Child]]:
    used = result.usage
    if used is None:
        return
    sign = "~" if used.estimated else ""
    retries = f", {used.retries:,} retried" if used.retries else ""
    replayed = f", {used.replayed:,} replayed" if used.replayed else ""
    yield "model calls", f"{used.requests:,} in {duration(used.seconds)}{retries}{replayed}"
    yield "input tokens", f"{sign}{used.input_tokens:,} ({used.cached_tokens:,} cached)"
    yield "output tokens", f"{sign}{used.output_tokens:,} ({used.reasoning_tokens:,} reasoning)"
    yield "cost", money(used.cost, estimated=bool(sign))
    by_model = sorted(used.models.items(), key=lambda pair: (-pair[1], pair[0]))
    yield "models", one_line(", ".join(f"{name} {count:,}" for name, count in by_model[:MAX_ITEMS]))


def _exact(value: float | None) -> str:
    return "none" if value is None else f"{value!r}".removesuffix(".0")


def _history(group: Group) -> str | None:
    if group.pair is None:
        return None
    rewards = group.pair.before.rewards
    shown = ", ".join(number(reward) for reward in rewards[:MAX_ITEMS])
    more = ", …" if len(rewards) > MAX_ITEMS else ""
    return f"{number(group.pair.before.mean)} (mean of {shown}{more})" if len(rewards) > 1 else shown


def _verifier_end(result: TrialResult) -> str:
    if result.verifier_timed_out:
        return "test.sh timed out"
    return "" if result.verifier_exit is None else f"test.sh exited with {result.verifier_exit}"


def _phases(result: TrialResult) -> Markup | None:
    if not result.phases:
        return None
    return tag(
        "dl",
        *(
            tag("div", tag("dt", one_line(phase)), tag("dd", duration(seconds)))
            for phase, seconds in result.phases.items()
        ),
        class_="phases number",
    )


def _tests(tests: InnerTests, room: int) -> tuple[Markup, int]:
    """Return the failed tests, and how much of the room they took."""
    total = tests.passed + tests.failed + tests.skipped + tests.other
    items: list[Markup] = []
    used = 0
    for failure in tests.failures:
        if used >= room:
            break
        message = shorten(failure.message, max(200, room - used))
        used += len(failure.name) + len(message)
        items.append(tag("li", tag("code", one_line(failure.name)), tag("pre", message) if message else None))
    more = tests.failed - len(items)
    if items and more > 0:
        items.append(tag("li", f"and {more:,} more", class_="quiet"))
    heading = tag("h4", f"{tests.failed:,} of {plural(total, 'test')} failed")
    return join([heading, tag("ul", *items, class_="failures") if items else None]), used


def _texts(title: str, texts: list[str]) -> Markup | None:
    if not texts:
        return None
    items = [tag("li", one_line(text, 500)) for text in texts[:MAX_ITEMS]]
    if len(texts) > MAX_ITEMS:
        items.append(tag("li", f"and {len(texts) - MAX_ITEMS:,} more", class_="quiet"))
    return join([tag("h4", title), tag("ul", *items)])


def _logs(result: TrialResult, room: int) -> Iterator[Markup]:
    if not result.directory:
        return
    names = [("Test output", TEST_LOG), ("Agent output", AGENT_LOG)]
    if result.outcome == "error":
        names.append(("Exception", EXCEPTION))
    for place, (title, name) in enumerate(names):
        log = read_tail(Path(result.directory), name, room // (len(names) - place))
        if log is None:
            continue
        room -= len(log.text)
        lines = log.text.count("\n") + 1
        cut = "" if log.complete else f", last {plural(lines, 'line')} of {log.size:,} bytes"
        yield tag("h4", title, tag("span", f" {name}{cut}", class_="quiet"))
        yield tag("pre", log.text)

"""All that is known of one trial: what its row in the table opens to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_harbor._util.logs import read_last_bytes, read_tail
from pytest_harbor._util.text import one_line, plural, shorten
from pytest_harbor.report.failure import agent_end
from pytest_harbor.report.html.calls import Share, calls_table
from pytest_harbor.report.html.failing_tests import failing_tests
from pytest_harbor.report.html.files import links
from pytest_harbor.report.html.groups import Entry, Group
from pytest_harbor.report.html.instruction import instruction
from pytest_harbor.report.html.markup import Child, Markup, duration, join, moment, number, tag
from pytest_harbor.report.reason import exact
from pytest_harbor.report.usage_text import money
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

EXCEPTION = "exception.txt"
TRANSCRIPT = "host/transcript.jsonl"
MAX_TRANSCRIPT_BYTES = 4 << 20
MAX_ITEMS = 20
_BROAD = ("phases", "metrics", "image", "files", "node id")

Rerun = Callable[[TrialResult], str]
"""Returns the command that reruns a trial's test; empty if there is none."""


def details(
    entry: Entry, group: Group, room: int, share: Share, *, base: Path | None, rerun: Rerun | None
) -> Iterator[Markup | None]:
    """Yield the parts, the most telling first.

    Args:
        entry: the trial.
        group: all trials of its task and agent.
        room: the most bytes of messages and logs to show.
        share: the trial's share of the page for model calls.
        base: the directory of the page; None for no links to files.
        rerun: returns the command that reruns a trial's test.

    """
    result = entry.result
    tests, used = failing_tests(result.tests, room // 3) if result.tests else (None, 0)
    yield tag("p", shorten(result.reason, 2_000), class_="reason") if result.reason else None
    yield tests
    yield _texts("Warnings", result.warnings)
    yield _texts(
        "Earlier attempts", [f"[{retry.phase}] {retry.message} ({retry.directory})" for retry in result.retries]
    )
    yield _command(rerun(result)) if rerun else None
    yield instruction(result.task_path, room // 4)
    yield from _logs(result, room - used)
    yield calls_table(result, share)
    yield _facts(result, group, base)


def _command(command: str) -> Markup | None:
    """Return the command with a button to copy it, which the script shows."""
    if not command:
        return None
    line = tag(
        "div",
        tag("code", command, tabindex=0, role="group", aria_label="Command that reruns this"),
        tag(
            "button", "Copy", type="button", class_="copy", aria_label="Copy the command that reruns this", hidden=True
        ),
        class_="command",
    )
    return join([tag("h3", "Rerun"), line])


def _facts(result: TrialResult, group: Group, base: Path | None) -> Markup:
    image = result.image
    setup = (
        f"(with the agent's setup, {image['setup']}, on top of {image.get('below', '')})" if image.get("setup") else ""
    )
    facts: list[tuple[str, Child]] = [
        ("reward", f"{exact(result.reward)}, needs {exact(result.threshold)}"),
        (group.pair.versus if group.pair and group.pair.versus else "baseline", _history(group)),
        ("agent", one_line(agent_end(result)).removeprefix("agent ")),
        ("model", one_line(result.model)),
        ("verifier", _verifier_end(result)),
        ("budget", one_line(result.budget)),
        ("turns", _turns(result)),
        *_usage(result),
        ("provider", one_line(result.provider)),
        ("started", moment(result.started_at)),
        ("phases", _phases(result)),
        ("metrics", one_line(", ".join(f"{name} {value:g}" for name, value in result.metrics.items()), 2_000)),
        ("image", one_line(" ".join(filter(None, (image.get("ref"), image.get("source"), setup))))),
        ("node id", one_line(result.node_id, 1_000)),
        ("files", _files(result, base)),
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


def _turns(result: TrialResult) -> str:
    """Return how often the model of the agent `openai` answered, from its transcript."""
    if not result.directory:
        return ""
    try:
        data, size = read_last_bytes(Path(result.directory), TRANSCRIPT, MAX_TRANSCRIPT_BYTES)
    except (OSError, ValueError):
        return ""
    # Inside a message, the quotes would be escaped.
    turns = data.count(b'"role": "assistant"')
    return f"{turns:,}" if turns and len(data) == size else ""


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


def _phases(result: TrialResult) -> str:
    return ", ".join(f"{one_line(phase)} {duration(seconds)}" for phase, seconds in result.phases.items())


def _files(result: TrialResult, base: Path | None) -> Markup | None:
    if not result.directory:
        return None
    items = [tag("li", link) for link in links(result, base)]
    return join([one_line(result.directory, 1_000), tag("ul", *items, class_="links") if items else None])


def _texts(title: str, texts: list[str]) -> Markup | None:
    if not texts:
        return None
    items = [tag("li", one_line(text, 500)) for text in texts[:MAX_ITEMS]]
    if len(texts) > MAX_ITEMS:
        items.append(tag("li", f"and {len(texts) - MAX_ITEMS:,} more", class_="quiet"))
    return join([tag("h3", title), tag("ul", *items)])


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
        yield tag("h3", title, tag("span", f" {name}{cut}", class_="quiet"))
        yield tag("pre", log.text)

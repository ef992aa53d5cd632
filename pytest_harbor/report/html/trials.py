"""The table of trials: what did not pass first, each with its reason; a row opens to all that is known of its trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pytest_harbor._util.text import one_line
from pytest_harbor.gate.baseline import Key
from pytest_harbor.report.html.calls import Share
from pytest_harbor.report.html.details import Rerun, details
from pytest_harbor.report.html.grid import before, outcome_pill
from pytest_harbor.report.html.groups import Entry, Group, rank
from pytest_harbor.report.html.markup import Markup, duration, number, tag
from pytest_harbor.report.usage_text import money

# The most bytes of messages and logs on a page; trials get equal shares within limits.
MAX_LOG_BYTES = 8 << 20
LOG_BYTES_PER_TRIAL = (1 << 10, 64 << 10)


class TrialTable:
    """The table, with columns for what these trials have.

    Args:
        entries: the trials.
        groups: the trials by task and agent.
        base: the directory of the page, which links start from; None for no links.
        rerun: returns the command that reruns a trial's test.

    """

    def __init__(
        self, entries: Sequence[Entry], groups: Mapping[Key, Group], base: Path | None, rerun: Rerun | None
    ) -> None:
        self._entries = entries
        self._groups = groups
        self._base = base
        self._rerun = rerun
        low, high = LOG_BYTES_PER_TRIAL
        self._room = min(high, max(low, MAX_LOG_BYTES // max(1, len(entries))))
        self._share = Share.of(len(entries))
        self._agents = len({entry.result.agent for entry in entries}) > 1
        self._usage = any(entry.result.usage is not None for entry in entries)
        self._attempts = any(entry.label != "attempt 1" for entry in entries)

    def render(self) -> Iterator[Markup]:
        """Yield the table in pieces, one per trial."""
        heads = ["outcome", "task", *(["agent"] if self._agents else []), "reward"]
        heads += ["calls", "cost"] if self._usage else []
        heads.append("time")
        yield Markup('<table class="trials sortable" aria-labelledby="trials-title">')
        yield tag("thead", tag("tr", *(tag("th", head, scope="col", class_=f"c-{head}") for head in heads)))
        for entry in self._entries:
            yield self._trial(entry, len(heads))
            yield Markup("\n")
        yield Markup("</table>")

    def _trial(self, entry: Entry, columns: int) -> Markup:
        result = entry.result
        group = self._groups[(result.task, result.agent)]
        # Of a trial that passed, the ends of the logs are enough.
        room = self._room // 4 if result.outcome == "passed" else self._room
        inside = details(entry, group, room, self._share, base=self._base, rerun=self._rerun)
        content = tag("div", *inside, class_="inside")
        return tag(
            "tbody",
            tag("tr", *self._cells(entry, group), class_="row"),
            tag(
                "tr",
                tag("td", tag("div", content, id=_more(entry), hidden="until-found"), colspan=columns),
                class_="more",
            ),
            id=entry.anchor,
            class_="trial",
            data_outcome=result.outcome,
            data_agent=result.agent,
            data_cause=entry.cause or None,
            data_kind=" ".join(entry.kinds(group)) or None,
        )

    def _cells(self, entry: Entry, group: Group) -> Iterator[Markup]:
        result = entry.result
        yield tag("td", outcome_pill(result.outcome), class_="c-outcome", data_value=rank(result))
        yield tag(
            "th",
            tag(
                "button",
                one_line(result.task),
                type="button",
                class_="toggle",
                aria_expanded="false",
                aria_controls=_more(entry),
            ),
            *self._notes(entry, group),
            tag("p", entry.reason, class_="why") if entry.reason else None,
            tag("p", entry.message, class_="what") if entry.message else None,
            scope="row",
            class_="c-task",
            data_value=f"{result.task} {entry.label}",
        )
        if self._agents:
            yield tag("td", one_line(result.agent), class_="c-agent")
        reward = result.reward
        yield tag(
            "td",
            "-" if reward is None else number(reward),
            class_="c-reward number",
            data_value="" if reward is None else reward,
        )
        if self._usage:
            usage = result.usage
            calls, cost = (usage.requests, usage.cost) if usage else ("", None)
            yield tag("td", f"{calls:,}" if usage else "", class_="c-calls number", data_value=calls)
            text = money(cost, estimated=bool(usage.estimated)) if usage else ""
            yield tag("td", text, class_="c-cost number", data_value="" if cost is None else cost)
        seconds = entry.seconds
        yield tag("td", duration(seconds) if seconds else "", class_="c-time number", data_value=f"{seconds:.3f}")

    def _notes(self, entry: Entry, group: Group) -> Iterator[Markup]:
        result = entry.result
        if group.change:
            yield Markup(" ")
            yield before(group) or Markup()
        notes = {entry.label: self._attempts, "flaky": group.flaky and bool(entry.reason)}
        notes["expected to fail"] = result.xfail
        warnings = {
            "agent timed out": result.agent_timed_out and "timed out" not in entry.reason,
            "budget spent": bool(result.budget),
        }
        for note in (note for note, applies in (notes | warnings).items() if applies):
            yield Markup(" ")
            yield tag("span", note, class_="note warning" if note in warnings else "note")


def _more(entry: Entry) -> str:
    return f"{entry.anchor}-more"

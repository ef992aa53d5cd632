"""Trials grouped by task and agent, with their comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pytest_harbor._util.text import one_line, shorten
from pytest_harbor.gate import Pair, Verdict
from pytest_harbor.gate.baseline import GRADED, Key
from pytest_harbor.report.headline import is_expected_failure
from pytest_harbor.report.reason import reason
from pytest_harbor.trial import TrialResult


@dataclass(frozen=True)
class Entry:
    """One trial and its number on the page."""

    number: int
    result: TrialResult

    @property
    def anchor(self) -> str:
        """The id of the trial's section."""
        return f"trial-{self.number}"

    @property
    def label(self) -> str:
        """The trial's attempt, rerun or confirmation, such as "attempt 2"."""
        result = self.result
        if result.confirmation:
            return f"confirmation {result.confirmation}"
        return f"attempt {result.attempt}{f', rerun {result.rerun}' if result.rerun else ''}"

    @cached_property
    def reason(self) -> str:
        """Why the trial did not pass; empty if it did."""
        return reason(self.result) if self.result.outcome != "passed" else ""

    @cached_property
    def message(self) -> str:
        """The first line of what the first failing tests say; empty if they say nothing, or the trial passed."""
        tests = self.result.tests if self.reason else None
        lines = (line for failure in (tests.failures if tests else ()) for line in failure.message.splitlines())
        return one_line(next((line for line in lines if line.strip()), ""))

    @property
    def cause(self) -> str:
        """What trials that failed alike share, in a few words."""
        return shorten(self.message or self.reason, 100)

    @property
    def seconds(self) -> float:
        """Duration of the trial: the sum of its phases."""
        return sum(self.result.phases.values())

    def kinds(self, group: Group) -> list[str]:
        """Return what the filter can select the trial by, besides outcome and agent."""
        kinds = {
            group.change: bool(group.change),
            "flaky": group.flaky,
            "timeout": self.result.agent_timed_out,
            "budget": bool(self.result.budget),
            "xfail": self.result.xfail,
        }
        return [kind for kind, applies in kinds.items() if applies]


@dataclass(frozen=True)
class Group:
    """The attempts of one agent at one task.

    Attributes:
        pair: the task before and after; None if the gate could not compare it.

    """

    key: Key
    entries: tuple[Entry, ...]
    pair: Pair | None = None

    @property
    def reward(self) -> float | None:
        """The mean reward of the attempts, None if there is none. Confirmations do not count."""
        rewards = [result.reward for result in self._attempts if result.reward is not None]
        return sum(rewards) / len(rewards) if rewards else None

    @property
    def flaky(self) -> bool:
        """Whether some attempts passed and others did not."""
        graded = [result.outcome for result in self._attempts if result.outcome in GRADED]
        return 0 < graded.count("passed") < len(graded)

    @property
    def _attempts(self) -> list[TrialResult]:
        return [entry.result for entry in self.entries if not entry.result.confirmation]

    @property
    def change(self) -> str:
        """`worse` or `better` than what it is compared with; empty if it is neither or unknown."""
        if self.pair is None or not self.pair.difference:
            return ""
        return "worse" if self.pair.difference < 0 else "better"


# What did not pass comes first.
ORDER = ("failed", "unverified", "error", "passed", "skipped")


def rank(result: TrialResult) -> float:
    """Return the place of a trial among the others by how much it matters, the lowest first."""
    return ORDER.index("passed") - 0.5 if is_expected_failure(result) else ORDER.index(result.outcome)


def entries_of(results: Iterable[TrialResult]) -> list[Entry]:
    """Return the trials in the order of the page, which does not depend on the order in which they ended."""
    ordered = sorted(
        results,
        key=lambda r: (
            rank(r),
            r.task,
            r.agent,
            r.confirmation,
            r.attempt,
            r.rerun,
            r.node_id,
            r.run,
            r.directory,
        ),
    )
    return [Entry(number, result) for number, result in enumerate(ordered, 1)]


def group_entries(entries: Sequence[Entry], verdict: Verdict | None) -> dict[Key, Group]:
    """Group the trials by task and agent."""
    pairs = {(pair.task, pair.agent): pair for each in (verdict.comparisons if verdict else ()) for pair in each.pairs}
    found: dict[Key, list[Entry]] = {}
    for entry in entries:
        found.setdefault((entry.result.task, entry.result.agent), []).append(entry)
    # By attempt: on the page, the trials that did not pass come first.
    by_attempt = {
        key: sorted(each, key=lambda e: (e.result.confirmation, e.result.attempt, e.result.rerun))
        for key, each in found.items()
    }
    return {key: Group(key, tuple(each), pairs.get(key)) for key, each in by_attempt.items()}

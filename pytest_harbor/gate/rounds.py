"""The trials of a run in rounds that its verdict is about, and how many trials that saved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_harbor._util.text import plural
from pytest_harbor.gate.sequential import Rounds
from pytest_harbor.gate.verdict import Verdict
from pytest_harbor.trial import TrialResult


def in_rounds(results: Iterable[TrialResult], rounds: Rounds | None) -> list[TrialResult]:
    """Return the results of complete rounds, without those of a round that had begun before the run was decided.

    Args:
        results: the results of a run.
        rounds: its rounds; None if its number of attempts was fixed, so that all of them count.

    """
    return [result for result in results if rounds is None or result.attempt <= rounds.done]


def with_rounds(
    verdict: Verdict, rounds: Rounds, results: Iterable[TrialResult], planned: int, *, decided: bool
) -> Verdict:
    """Return a verdict that also says how many rounds it took.

    Args:
        verdict: the verdict.
        rounds: the rounds that it is about.
        results: all results of the run.
        planned: the number of trials in all rounds.
        decided: whether the run ended because the verdict was certain.

    """
    trials = len({(result.run, result.node_id) for result in results})
    if decided:
        when = f"decided after {rounds.done} of {plural(rounds.most, 'round')}"
    elif rounds.done == rounds.most:
        when = f"not decided before the last of {plural(rounds.most, 'round')}"
    else:
        when = f"judged by {rounds.done} of {plural(rounds.most, 'round')}, as the others are not complete"
    return replace(verdict, reasons=(*verdict.reasons, f"{when}: {trials:,} of {plural(planned, 'trial')}"))

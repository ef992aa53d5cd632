"""A run in a few words."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_harbor._util.text import plural
from pytest_harbor.report.table import count_outcomes
from pytest_harbor.trial import TrialResult


def headline(results: Sequence[TrialResult], *, stopped: bool = False) -> tuple[str, str]:
    """Return the run in a few words, and the outcome that stands for it.

    Args:
        results: the trials.
        stopped: whether the run stopped early, which is never a success.

    """
    words, outcome = _words(results)
    if not stopped:
        return words, outcome
    return f"{words.removeprefix('All ')}, stopped early", "unverified" if outcome == "passed" else outcome


def _words(results: Sequence[TrialResult]) -> tuple[str, str]:
    attempts = [result for result in results if not result.confirmation]
    counts = count_outcomes(attempts)
    ran = len(attempts) - counts["skipped"]
    if not ran:
        return (f"{plural(len(attempts), 'task')} skipped" if attempts else "No trial ran"), "skipped"
    # An attempt or an agent more makes a task several trials.
    noun = "trial" if len({result.task for result in attempts}) < len(attempts) else "task"
    expected = sum(is_expected_failure(result) for result in attempts)
    if failed := counts["failed"] + counts["unverified"] - expected:
        share = f"{failed:,} of {plural(ran, noun)}" if failed < ran else _all(ran, noun)
        return f"{share} failed", "failed" if counts["failed"] else "unverified"
    if errors := counts["error"]:
        return f"{plural(errors, 'error')} in {plural(ran, noun)}", "error"
    if expected:
        return f"{plural(counts['passed'], noun)} passed, {expected:,} failed as expected", "passed"
    return f"{_all(ran, noun)} passed", "passed"


def is_expected_failure(result: TrialResult) -> bool:
    """Return True if a trial did not pass, as an xfail mark expects."""
    return result.xfail and result.outcome in ("failed", "unverified")


def _all(number: int, noun: str) -> str:
    return f"All {plural(number, noun)}" if number > 1 else plural(number, noun)

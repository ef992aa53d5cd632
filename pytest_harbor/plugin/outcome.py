"""From a trial's outcome to the exception that fails its test."""

from __future__ import annotations

import pytest

from pytest_harbor.errors import InfrastructureError
from pytest_harbor.report.failure import headline
from pytest_harbor.trial import TrialResult


class TrialFailed(AssertionError):
    """A trial's reward does not pass: a failed assertion to everything that reports tests.

    Attributes:
        result: the trial's result.

    """

    def __init__(self, result: TrialResult) -> None:
        super().__init__(headline(result))
        self.result = result


class NoReward(Exception):
    """A trial was graded without a usable reward, and --harbor-missing-reward=error makes that an error.

    Attributes:
        result: the trial's result.

    """

    def __init__(self, result: TrialResult) -> None:
        super().__init__(headline(result))
        self.result = result


def check(result: TrialResult, *, record_only: bool = False) -> None:
    """Raise the exception that a trial's outcome calls for, if any.

    Args:
        result: the trial's result.
        record_only: whether rewards are recorded without failing a test.

    Raises:
        TrialFailed: the trial failed or is unverified, and rewards are not only recorded.
        NoReward: the trial is unverified, and that is an error.
        InfrastructureError: the trial ended with an error.
        pytest.skip.Exception: the trial was skipped.

    """
    if result.outcome == "unverified" and result.reward is None:
        raise NoReward(result)
    if result.outcome == "skipped":
        pytest.skip(result.reason)
    if result.outcome == "error":
        raise InfrastructureError(result.reason)
    if result.outcome != "passed" and not record_only:
        raise TrialFailed(result)

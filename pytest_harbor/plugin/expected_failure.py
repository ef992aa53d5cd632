"""Tests with an xfail mark: pytest decides what the mark means, and gates know which trials it concerns."""

from __future__ import annotations

import pytest
from _pytest.skipping import xfailed_key

from pytest_harbor.plugin.collection import HarborItem
from pytest_harbor.plugin.trials import TRIAL


def is_expected_to_fail(item: pytest.Item) -> bool:
    """Return True if an xfail mark applies to a test that is running."""
    return not getattr(item.config.option, "runxfail", True) and item.stash.get(xfailed_key, None) is not None


def note_expectation(item: pytest.Item) -> None:
    """Record in a task's trial, before it runs, that it is expected to fail."""
    trial = item.stash.get(TRIAL, None)
    if trial is not None and isinstance(item, HarborItem):
        trial.result.xfail = is_expected_to_fail(item)

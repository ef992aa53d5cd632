"""Errors that end a phase."""

import time

import pytest

from pytest_harbor._util.unpatched import remember
from pytest_harbor.errors import EngineUnavailable, UnmetRequirement
from pytest_harbor.trial.failures import error_phase


@pytest.fixture
def no_sleep(monkeypatch):
    def forbidden(seconds):
        raise RuntimeError("no time")

    remember()
    monkeypatch.setattr(time, "sleep", forbidden)


@pytest.mark.usefixtures("no_sleep")
def test_what_a_fixture_replaces_is_named():
    message = r"RuntimeError: no time; while this test runs, \w+ replaces time.sleep"
    with pytest.raises(UnmetRequirement, match=message), error_phase("build"):
        time.sleep(1)


@pytest.mark.usefixtures("no_sleep")
def test_engine_that_does_not_answer():
    with pytest.raises(EngineUnavailable, match=r"replaces time.sleep: .*; start Docker"), error_phase("build"):
        raise EngineUnavailable("no engine answers", "start Docker")


def test_bug_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a bug"), error_phase("build"):
        raise RuntimeError("a bug")

"""The Runner, with a fake provider plugged in."""

from __future__ import annotations

import json

import pytest
from fake_provider import FakeProvider

from pytest_harbor import InfrastructureError, Task, TrialHooks, TrialSettings, run_trial
from pytest_harbor.agent import NopAgent
from pytest_harbor.results import Run
from pytest_harbor.runner import Runner


class ClosableProvider(FakeProvider):
    closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def task(write_task_files, tmp_path):
    return Task.load(write_task_files(tmp_path / "tb2" / "hello", ""))


@pytest.fixture
def open_runner(tmp_path):
    def open_it(rewards):
        return Runner(Run(tmp_path / "results", "a-run"), FakeProvider(rewards))

    return open_it


def test_trial_is_graded_and_recorded(open_runner, task):
    runner = open_runner({"hello": 0.5})
    trial = runner.trial(task, TrialSettings(threshold=0.4), key="x", agent=NopAgent("mine"), attempt=2)
    result = trial.run()
    trial.stop()
    assert (result.outcome, result.reward, result.metrics) == ("passed", 0.5, {"rows": 7.0})
    assert (result.agent, result.attempt, result.provider, result.run) == ("mine", 2, "fake", "a-run")
    (recorded,) = runner.run.results()
    assert recorded.reward == 0.5
    note = json.loads((trial.directory / "trial.json").read_text())
    assert note["state"] == "finished"


def test_lost_environment_is_retried_and_then_an_error(open_runner, task):
    runner = open_runner({"hello": None})
    trial = runner.trial(task, key="x", agent=NopAgent())
    with pytest.raises(InfrastructureError, match="the container is gone"):
        trial.run()
    assert trial.directory.name.endswith(".retry1")
    (recorded,) = runner.run.results()
    assert (recorded.outcome, recorded.reward, recorded.phase) == ("error", None, "verify")
    assert [retry.message for retry in recorded.retries] == ["the container is gone"]
    assert "EnvironmentLost" in (trial.directory / "exception.txt").read_text()


def test_confirmation_and_attempt_have_their_own_directories(open_runner, task):
    runner = open_runner({"hello": 1.0})
    attempt = runner.trial(task, key="x", agent=NopAgent())
    confirmation = runner.trial(task, key="x 1", agent=NopAgent(), confirmation=1)
    assert attempt.directory != confirmation.directory
    assert [trial.run().confirmation for trial in (attempt, confirmation)] == [0, 1]


def test_hooks_are_called(open_runner, task):
    class Halve(TrialHooks):
        def reward(self, task, environment, verification):
            return verification.reward.value / 2

    trial = open_runner({"hello": 1.0}).trial(task, key="x", agent=NopAgent(), hooks=Halve())
    result = trial.run()
    assert (result.outcome, result.reward, result.metrics["verifier_reward"]) == ("failed", 0.5, 1.0)


def test_run_trial_leaves_a_given_provider_open(task, tmp_path):
    provider = ClosableProvider({"hello": 1.0})
    assert run_trial(task, "nop", provider=provider, results=tmp_path / "results").outcome == "passed"
    assert not provider.closed

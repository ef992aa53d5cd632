"""Tests of one's own on the plugin's fixtures: what has to hold for a trial beyond its reward.

Run them with `pytest examples/custom_agent --harbor-agent=oracle`.
"""

import pytest


@pytest.mark.harbor(dataset="../tasks", task="hello-world")
def test_solved_and_quick(harbor_trial):
    """The callable of conftest.py solves the task, whichever agent the command line names."""
    assert harbor_trial.outcome == "passed"
    assert harbor_trial.reward == 1
    assert harbor_trial.phases["agent"] < 60


@pytest.mark.harbor(dataset="../tasks", task="clean-contacts")
def test_metrics_fit_the_reward(harbor_trial):
    """Keys of reward.json other than the reward are metrics; this holds for any agent."""
    metrics = harbor_trial.metrics
    rows = metrics["rows_total"] + metrics["rows_superfluous"]
    assert harbor_trial.reward == pytest.approx(metrics["rows_ok"] / rows)

"""Your own tests with the plugin's fixtures: requirements on a trial besides its reward.

Run them with `pytest examples/custom_agent --harbor-agent=oracle`.
"""

import pytest


@pytest.mark.harbor(dataset="../tasks", task="hello-world")
def test_solved_and_quick(harbor_trial):
    """The callable in conftest.py solves the task, whatever agent the command line selects."""
    assert harbor_trial.outcome == "passed"
    assert harbor_trial.reward == 1
    assert harbor_trial.phases["agent"] < 60


@pytest.mark.harbor(dataset="../tasks", task="clean-contacts")
def test_metrics_fit_the_reward(harbor_trial):
    """The other keys of reward.json are metrics; this holds for any agent."""
    metrics = harbor_trial.metrics
    rows = metrics["rows_total"] + metrics["rows_superfluous"]
    assert harbor_trial.reward == pytest.approx(metrics["rows_ok"] / rows)

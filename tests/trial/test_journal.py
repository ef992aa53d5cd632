"""What a trial records of itself while it runs."""

from __future__ import annotations

from pytest_harbor.report.monitor import TrialMonitor
from pytest_harbor.results import Run
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.hooks import TrialHooks
from pytest_harbor.trial.journal import Journal, TrialPlace


def test_live_progress_names_the_part_of_a_phase(tmp_path):
    run = Run(tmp_path, "run")
    directory = run.directory / "a-1"
    result = TrialResult("run", "tb2/a", "tb2", "/tb2/a", "bot", 1, directory=str(directory))
    journal = Journal(None, TrialPlace("run", directory), result, TrialHooks(), run)
    monitor = TrialMonitor(run.directory)
    seen = []
    with journal.phase("build"):
        seen += [trial.phase for trial in monitor.running()]
    with journal.phase("build", "agent setup"):
        seen += [trial.phase for trial in monitor.running()]
    assert seen == ["build", "agent setup"]
    assert set(result.phases) == {"build"}

"""Baselines that rest on several runs of one agent."""

from __future__ import annotations

import pytest

from pytest_harbor.gate import Baseline, BaselineError, Sample, SampleRun
from pytest_harbor.gate.pooling import MAX_ATTEMPTS, add_runs
from pytest_harbor.gate.saving import save_baseline
from pytest_harbor.trial import TrialResult


def sample(day: int, *rewards: float, **shared) -> Sample:
    """Return the sample of a run on a day of a month."""
    passed = sum(reward >= 1 for reward in rewards)
    run = SampleRun(f"r{day:02}", f"2026-11-{day:02}T10:00:00+00:00", len(rewards), passed)
    return Sample(rewards, passed, **{"digest": "d", "provider": "docker", **shared}, runs=(run,))


def baseline(**samples: Sample) -> Baseline:
    return Baseline({(f"ds/{name}", "x"): found for name, found in samples.items()}, {"ids": ["r"]})


def runs(found: Baseline, name: str = "a") -> list[tuple[str, int]]:
    return [(run.id, run.attempts) for run in found.samples[f"ds/{name}", "x"].runs]


def test_attempts_add_up():
    pooled = add_runs(baseline(a=sample(1, 1.0, 0.0), c=sample(1, 1.0)), baseline(a=sample(2, 0.5), b=sample(2, 1.0)))
    both = pooled.baseline.samples["ds/a", "x"]
    assert (both.rewards, both.passed) == ((1.0, 0.0, 0.5), 1)
    assert (pooled.attempts, pooled.notes) == (2, ())
    assert [runs(pooled.baseline, name) for name in "abc"] == [[("r01", 2), ("r02", 1)], [("r02", 1)], [("r01", 1)]]


def test_runs_are_in_the_order_of_their_dates():
    pooled = add_runs(baseline(a=sample(5, 0.5, image="new")), baseline(a=sample(2, 0.2, image="old")))
    found = pooled.baseline.samples["ds/a", "x"]
    assert (found.rewards, found.image) == ((0.2, 0.5), "new")


def test_run_is_added_once():
    first, second = baseline(a=sample(1, 1.0), b=sample(1, 1.0)), baseline(a=sample(2, 0.0))
    both = add_runs(first, second).baseline
    for again in (first, second):
        pooled = add_runs(both, again)
        assert pooled.baseline.samples == both.samples
        (run,) = again.samples["ds/a", "x"].runs
        assert (pooled.attempts, pooled.notes) == (0, (f"already in it, and not added again: 1 run ({run.id})",))


def test_oldest_runs_are_dropped_as_a_whole():
    found = baseline(a=sample(1, *[0.0] * 9))
    for day in (2, 3):
        found = add_runs(found, baseline(a=sample(day, *[1.0] * 9))).baseline
    pooled = add_runs(found, baseline(a=sample(4, *[0.5] * 9)))
    assert runs(pooled.baseline) == [("r02", 9), ("r03", 9), ("r04", 9)]
    assert pooled.notes == ("dropped: 9 attempts of the oldest runs; 30 per task are kept",)
    assert add_runs(found, baseline(a=sample(4, 0.5, 0.5, 0.5))).notes == ()


def test_latest_run_is_kept_however_large():
    pooled = add_runs(baseline(a=sample(1, 0.0)), baseline(a=sample(2, *[1.0] * (MAX_ATTEMPTS + 1))))
    assert runs(pooled.baseline) == [("r02", 31)]


def test_run_that_is_too_old_is_not_added():
    pooled = add_runs(baseline(a=sample(2, *[1.0] * 30)), baseline(a=sample(1, 0.0)))
    assert (runs(pooled.baseline), pooled.attempts) == ([("r02", 30)], 0)
    assert pooled.notes == ("dropped: 1 attempt of the oldest runs; 30 per task are kept",)


def test_attempts_at_a_task_that_has_changed_are_replaced():
    pooled = add_runs(
        baseline(a=sample(1, 1.0, 1.0), b=sample(1, 1.0)), baseline(a=sample(2, 0.0, digest="e"), b=sample(2, 0.0))
    )
    assert [runs(pooled.baseline, name) for name in "ab"] == [[("r02", 1)], [("r01", 1), ("r02", 1)]]
    assert pooled.notes == ("replaced, because the task has changed: ds/a with x (2 attempts)",)


def test_attempts_of_unknown_runs_are_replaced():
    pooled = add_runs(baseline(a=Sample((1.0,), 1, digest="d", provider="docker")), baseline(a=sample(2, 0.0)))
    assert runs(pooled.baseline) == [("r02", 1)]
    assert pooled.notes == ("replaced, because it does not say which runs they are from: ds/a with x (1 attempt)",)


def test_passes_are_counted_by_the_new_threshold():
    pooled = add_runs(baseline(a=sample(1, 0.6, 1.0)), baseline(a=sample(2, 0.5, threshold=0.5)))
    found = pooled.baseline.samples["ds/a", "x"]
    assert (found.threshold, found.passed, [run.passed for run in found.runs]) == (0.5, 2, [2, 0])


@pytest.mark.parametrize("name", ["provider", "model"])
def test_attempts_of_another_provider_or_model_are_refused(name):
    old = baseline(a=sample(1, 1.0, **{name: "one"}), b=sample(1, 1.0, **{name: "one"}))
    new = baseline(a=sample(2, 1.0, **{name: "one"}), b=sample(2, 1.0, **{name: "two"}))
    with pytest.raises(BaselineError, match=rf"^its {name} is one, and that of the run is two \(ds/b with x\)$"):
        add_runs(old, new)


# The file.


def trials(run: str, *rewards: float | None, **fields) -> list[TrialResult]:
    given = {"dataset": "ds", "task_path": "", "agent": "x", "provider": "docker", "task_digest": "d", **fields}
    return [
        TrialResult(
            run=run,
            task="ds/a",
            attempt=attempt,
            outcome="error" if reward is None else "passed" if reward >= 1 else "failed",
            reward=reward,
            **given,
        )
        for attempt, reward in enumerate(rewards, 1)
    ]


def add(file, results, **options) -> list[str]:
    return save_baseline(file, results, update=Baseline.read(file) if file.exists() else None, add=True, **options)


def test_file_grows_by_a_line_per_run(tmp_path):
    file = tmp_path / "b.json"
    assert add(file, trials("r1", 1.0, 1.0)) == [f"baseline of 1 task saved to {file}", ADDED.format(file, 2, 2)]
    before = file.read_text().splitlines()
    assert add(file, trials("r2", 0.0))[1:] == [f"added to {file}: 1 attempt; it has 3 per task"]
    after = file.read_text().splitlines()
    assert after[2] != before[2], "the latest run"
    assert after[:2] + after[3:6] + after[8:] == before[:2] + before[3:6] + before[7:]
    assert (before[6], after[6:8]) == (
        '    {"id": "r1", "passed": 2, "rewards": [1.0, 1.0]}',
        ['    {"id": "r1", "passed": 2, "rewards": [1.0, 1.0]},', '    {"id": "r2", "passed": 0, "rewards": [0.0]}'],
    )


ADDED = "added to {}: {} attempts; it has {} per task"


def test_file_stays_as_it_is_if_nothing_is_added(tmp_path):
    file = tmp_path / "b.json"
    add(file, trials("r1", 1.0, 1.0))
    add(file, trials("r2", 1.0, 1.0))
    before = file.read_bytes()
    assert add(file, trials("r1", 1.0, 1.0)) == [
        ADDED.format(file, 0, 4),
        "already in it, and not added again: 1 run (r1)",
    ]
    assert file.read_bytes() == before


def test_incomplete_run_of_a_task_is_not_added(tmp_path):
    file = tmp_path / "b.json"
    add(file, trials("r1", 1.0, 1.0))
    lines = add(file, [*trials("r2", *[1.0] * 9, None), *trials("r3", 0.0)])
    assert [run.id for run in Baseline.read(file).samples["ds/a", "x"].runs] == ["r1", "r3"]
    assert lines[2:] == [
        "not saved, because trials are missing (1 task); run them again to complete the baseline:",
        "  ds/a with x: 1 of 10 trials missing, infrastructure error: omitted",
    ]


@pytest.mark.parametrize("prefix, fix", [("--", "--save-baseline"), ("--harbor-", "--harbor-update-baseline")])
def test_refusal_says_what_to_do(tmp_path, prefix, fix):
    file = tmp_path / "b.json"
    add(file, trials("r1", 1.0))
    before = file.read_bytes()
    with pytest.raises(BaselineError) as caught:
        add(file, trials("r2", 1.0, model="m"), prefix=prefix)
    assert str(caught.value) == (
        f"{file} was not written: its model is unknown, and that of the run is m (ds/a with x); add runs of the same, "
        f"or start over with {fix}"
    )
    assert file.read_bytes() == before

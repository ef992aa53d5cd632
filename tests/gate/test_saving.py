"""Saving a baseline: complete tasks are written, the others are reported."""

from __future__ import annotations

import pytest

from pytest_harbor.gate import Baseline, BaselineError, Limit, Sample
from pytest_harbor.gate.saving import save_baseline
from pytest_harbor.trial import TrialResult


def trials(run: str = "r", /, **rewards: list[float | None]) -> list[TrialResult]:
    """Return the results of a run; None stands for an infrastructure error."""
    return [
        TrialResult(
            run=run,
            task=f"ds/{name}",
            dataset="ds",
            task_path="",
            agent="x",
            attempt=attempt,
            outcome="error" if reward is None else "passed" if reward >= 1 else "failed",
            reward=reward,
            phase="build" if reward is None else "",
            reason="the engine is gone" if reward is None else "",
        )
        for name, each in rewards.items()
        for attempt, reward in enumerate(each, 1)
    ]


def saved(file, results, **options) -> tuple[list[str], dict[str, tuple[float, ...]]]:
    """Save a baseline; return the lines of the message and the rewards by task in the file."""
    lines = save_baseline(file, results, **options)
    return lines, {task: sample.rewards for (task, _), sample in Baseline.read(file).samples.items()}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "new" / "b.json"


def test_new_baseline(file):
    assert saved(file, trials(a=[1.0])) == ([f"baseline of 1 task saved to {file}"], {"ds/a": (1.0,)})


def test_updated_baseline_keeps_other_tasks(file):
    old = Baseline({("ds/b", "x"): Sample((0.0,), 0)})
    lines, rewards = saved(file, trials(a=[1.0]), update=old)
    assert lines == [f"baseline of 2 tasks saved to {file}"]
    assert rewards == {"ds/a": (1.0,), "ds/b": (0.0,)}


LOST = "ds/a with x: 1 of 3 trials missing, infrastructure error in build (the engine is gone)"
NOT_SAVED = "not saved, because trials are missing (1 task); run them again to complete the baseline:"


def test_incomplete_task_is_omitted_from_a_new_baseline(file):
    lines, rewards = saved(file, trials(a=[1.0, None, 1.0], b=[1.0] * 9))
    assert lines == [f"baseline of 1 task saved to {file}", NOT_SAVED, f"  {LOST}: omitted"]
    assert rewards == {"ds/b": (1.0,) * 9}


def test_incomplete_task_stays_as_it_was_in_an_updated_baseline(file):
    old = Baseline({("ds/a", "x"): Sample((0.0,), 0), ("ds/c", "x"): Sample((0.0,), 0)})
    lines, rewards = saved(file, trials(a=[1.0, None, 1.0], b=[1.0] * 9), update=old)
    assert lines == [f"baseline of 3 tasks saved to {file}", NOT_SAVED, f"  {LOST}: left as it was"]
    assert rewards == {"ds/a": (0.0,), "ds/b": (1.0,) * 9, "ds/c": (0.0,)}


def test_incomplete_task_stays_as_it_was_in_a_replaced_baseline(file):
    saved(file, trials(a=[0.0], b=[0.0], c=[0.0]))
    lines, rewards = saved(file, trials(a=[1.0, None, 1.0], b=[1.0] * 9))
    assert lines == [f"baseline of 2 tasks saved to {file}", NOT_SAVED, f"  {LOST}: left as it was"]
    assert rewards == {"ds/a": (0.0,), "ds/b": (1.0,) * 9}


def test_unreadable_baseline_is_replaced(file):
    file.parent.mkdir()
    file.write_text("<<<<<<< ours")
    lines, rewards = saved(file, trials(a=[1.0, None, 1.0], b=[1.0] * 9))
    assert lines[-1].endswith("omitted")
    assert set(rewards) == {"ds/b"}


def test_many_incomplete_tasks_are_counted(file):
    many = {f"t{number:02}": [None] for number in range(15)}
    lines, _ = saved(file, trials(**many, good=[1.0] * 200))
    assert lines[1].startswith("not saved, because trials are missing (15 tasks)")
    assert (len(lines), lines[-1]) == (13, "  and 5 more")


def test_only_the_incomplete_run_of_a_task_is_omitted(file):
    results = [*trials("r1", a=[1.0, None, 1.0]), *trials("r2", a=[0.0, 0.0], b=[1.0] * 9)]
    lines, rewards = saved(file, results)
    assert lines[1:] == [NOT_SAVED, f"  {LOST}: omitted"]
    assert rewards == {"ds/a": (0.0, 0.0), "ds/b": (1.0,) * 9}


def test_too_many_errors_are_refused(file):
    results = trials(a=[1.0] * 8, b=[None])
    refusal = (
        r"b\.json was not written: 1 of 9 trials ended with an infrastructure error, more than the limit of 10%; "
        "run again, or add --harbor-force-baseline$"
    )
    with pytest.raises(BaselineError, match=refusal):
        save_baseline(file, results, prefix="--harbor-")
    assert not file.exists()
    assert saved(file, results, limit=Limit(1, share=False))[1] == {"ds/a": (1.0,) * 8}
    with pytest.raises(BaselineError, match="more than the limit of 0;"):
        save_baseline(file, trials(a=[1.0] * 99, b=[None]), limit=Limit(0, share=False))


def test_gaps_are_refused(file):
    with pytest.raises(BaselineError, match=r"was not written: shard 2/2 is missing; run again, or add --force-base"):
        save_baseline(file, trials(a=[1.0]), gaps=["shard 2/2 is missing"])


def test_forced_baseline_has_all_tasks(file):
    lines, rewards = saved(file, trials(a=[1.0, None, 1.0]), gaps=["shard 2/2 is missing"], forced=True)
    assert lines == [f"baseline of 1 task saved to {file}"]
    assert rewards == {"ds/a": (1.0, 1.0)}
    assert Baseline.read(file).samples["ds/a", "x"].errors == 1


def test_no_complete_task_is_refused(file):
    results = trials(a=[*[1.0] * 11, None])
    with pytest.raises(BaselineError, match=r"no task has all its trials \(ds/a with x: 1 of 12 trials missing, infra"):
        save_baseline(file, results, update=Baseline({("ds/b", "x"): Sample((1.0,), 1)}))
    assert not file.exists()


def test_empty_run_is_refused(file):
    with pytest.raises(BaselineError, match=r"was not written: no trial ran$"):
        save_baseline(file, [], forced=True)


def test_unwritable_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BaselineError, match="was not written: "):
        save_baseline(tmp_path / "file" / "b.json", trials(a=[1.0]))

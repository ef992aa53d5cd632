"""Merging the runs of several shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_harbor.results import Run, RunError, RunRecord, merge
from pytest_harbor.trial import TrialResult, Usage


def result(run: str, task: str, attempt: int = 1, **fields) -> TrialResult:
    given = {"dataset": "tb2", "task_path": "", "agent": "bot", "outcome": "passed", "reward": 1.0}
    return TrialResult(run=run, task=task, attempt=attempt, **{**given, **fields})


@pytest.fixture
def make(tmp_path):
    """Write a run and return its directory."""

    def make(name: str, tasks: str, selection: str = "", *, shard="", left_out="", options=None, record=True) -> Path:
        run = Run(tmp_path, name)
        for task in tasks:
            run.append(result(name, task))
        if record:
            found = RunRecord(
                name, tuple(selection or tasks), tuple(tasks), tuple(left_out), shard, options or {"attempts": 1}
            )
            found.write(run.directory)
        return run.directory

    return make


def test_complete_shards(make):
    runs = [make("1", "ab", "abcde", shard="1/3"), make("2", "cd", "abcde", shard="2/3")]
    runs.append(make("3", "e", "abcde", shard="3/3"))
    merged = merge(runs)
    assert sorted(result.task for result in merged.results) == list("abcde")
    assert (merged.gaps, merged.notes, merged.corrupt) == ([], [], [])
    assert merged.runs == runs


def test_run_by_directory_or_file(make):
    run = make("1", "ab")
    assert merge([run]).results == merge([run / "results.jsonl"]).results


def test_shard_without_trials_is_a_run(make):
    runs = [make("1", "ab", "ab", shard="1/2"), make("2", "", "ab", shard="2/2")]
    assert not (runs[1] / "results.jsonl").exists()
    merged = merge(runs)
    assert (len(merged.results), merged.gaps, merged.notes) == (2, [], [])


def test_gap_names_tasks_and_shards(make):
    runs = [make("1", "ab", "abcdefghij", shard="1/4"), make("3", "c", "abcdefghij", shard="3/4")]
    (gap,) = merge(runs).gaps
    assert gap == "7 of 10 tasks have no result: d, e, f, g, h and 2 more; no run of shards 2/4, 4/4"


def test_killed_run_has_gaps(make):
    (gap,) = merge([make("1", "ab", "abc")]).gaps
    assert gap == "1 of 3 tasks have no result: c"


def test_shards_of_different_counts(make):
    (gap,) = merge([make("1", "a", "abc", shard="1/3"), make("2", "b", "abc", shard="2/2")]).gaps
    assert gap == "1 of 3 tasks have no result: c; the shards do not belong together: 1/3, 2/2"


def test_deselected_task_is_not_a_gap(make):
    merged = merge([make("1", "a", "abc", left_out="b", shard="1/2"), make("2", "c", "abc", shard="2/2")])
    assert merged.gaps == []


def test_skipped_and_error_are_not_gaps(make, tmp_path):
    run = make("1", "", "ab")
    Run(tmp_path, "1").append(result("1", "a", outcome="skipped", reward=None))
    Run(tmp_path, "1").append(result("1", "b", outcome="error", reward=None))
    assert merge([run]).gaps == []


def test_usage_and_budgets_survive(make, tmp_path):
    usage = Usage(requests=3, input_tokens=10, cost=None, models={"m": 3}, unpriced=["m"])
    runs = [make("1", "", "ab"), make("2", "b", "ab")]
    Run(tmp_path, "1").append(result("1", "a", usage=usage, budget="--harbor-max-turns=3 is spent"))
    first, second = merge(runs).results
    assert (first.usage, first.budget) == (usage, "--harbor-max-turns=3 is spent")
    assert (second.usage, second.budget) == (None, "")


def test_overlap_is_an_error(make):
    runs = [make("1", "abcdefg"), make("2", "bcdefgh")]
    with pytest.raises(RunError) as caught:
        merge(runs)
    assert str(caught.value).startswith(f"{runs[0]} and {runs[1]} overlap: both have b with bot, attempt 1, c with bot")
    assert "and 1 more; give runs of different tasks or agents" in str(caught.value)


@pytest.mark.parametrize(
    "outcomes,counts", [("ep", "p"), ("pe", "p"), ("sf", "f"), ("eep", "p"), ("ee", "e")], ids=" ".join
)
def test_trial_that_was_not_graded_may_run_again(outcomes, counts, make, tmp_path):
    words = {"p": "passed", "f": "failed", "e": "error", "s": "skipped"}
    runs = [make(str(number), "", "a") for number in range(len(outcomes))]
    for number, outcome in enumerate(outcomes):
        Run(tmp_path, str(number)).append(result(str(number), "a", outcome=words[outcome]))
    merged = merge(runs)
    assert [each.outcome for each in merged.results] == [words[counts]]
    assert merged.notes[-1].endswith(" and repeated in another: the other counts")


def test_agents_and_attempts_and_confirmations_do_not_overlap(make, tmp_path):
    runs = [make("1", "a"), make("2", "", "a")]
    for what in ({"agent": "other"}, {"attempt": 2}, {"confirmation": 1}):
        Run(tmp_path, "2").append(result("2", "a", **what))
    assert len(merge(runs).results) == 4


def test_two_tests_of_a_task_in_one_run_do_not_overlap(make, tmp_path):
    run = make("1", "a")
    Run(tmp_path, "1").append(result("1", "a", node_id="test_mine.py::test_it"))
    assert len(merge([run]).results) == 2


def test_copied_line_counts_once(make):
    run = make("1", "ab")
    file = run / "results.jsonl"
    file.write_text(file.read_text() * 2)
    merged = merge([run])
    assert len(merged.results) == 2
    assert merged.notes == [f"{file} has 2 trials twice; each counts once"]


def test_runs_concatenated_into_one_file_overlap(make):
    runs = [make("1", "ab"), make("2", "b")]
    file = runs[0] / "results.jsonl"
    file.write_text(file.read_text() + (runs[1] / "results.jsonl").read_text())
    with pytest.raises(RunError, match=r"several runs in .*1 have b with bot, attempt 1; give runs"):
        merge(runs[:1])


def test_run_given_twice_counts_once(make):
    run = make("1", "a")
    merged = merge([run, run / "results.jsonl"])
    assert len(merged.results) == 1
    assert merged.notes == [f"{run / 'results.jsonl'} is given twice but counts once"]


def test_corrupt_line_costs_one_trial(make):
    run = make("1", "ab", "abc")
    with (run / "results.jsonl").open("a") as file:
        file.write('{"schema_version": 1, "task": "c"\n')
    merged = merge([run])
    assert len(merged.results) == 2
    assert merged.corrupt[0].startswith(f"{run / 'results.jsonl'}, line 3: ")
    assert merged.gaps == []
    assert merged.notes == ["1 of 3 tasks have no result: c"]


def test_more_gaps_than_corrupt_lines_are_gaps(make):
    run = make("1", "a", "abc")
    with (run / "results.jsonl").open("a") as file:
        file.write("{\n")
    assert merge([run]).gaps == ["2 of 3 tasks have no result: b, c"]


def test_different_options_are_noted(make):
    runs = [
        make("1", "a", "ab", options={"attempts": 1, "model": "x"}),
        make("2", "b", "ab", options={"attempts": 3, "model": "x"}),
    ]
    assert merge(runs).notes == ["the runs differ in --harbor-attempts: 1, 3"]


def test_different_selections_are_noted(make):
    merged = merge([make("1", "a", "ab"), make("2", "bc", "abc")])
    assert merged.notes == ["the runs have different tasks: not all runs have c"]
    assert merged.gaps == []


def test_missing_run_json_is_noted(make):
    run = make("1", "a", record=False)
    assert merge([run]).notes == [f"{run} has no run.json: it is unknown whether results are missing"]
    (run / "run.json").write_text("{")
    merged = merge([run])
    assert len(merged.results) == 1
    assert merged.notes[0].startswith("it is unknown whether results are missing: ")


@pytest.mark.parametrize("shard", ["x/y", "1/999999999999", "1", "/"])
def test_invalid_shard_in_run_json(make, shard):
    (gap,) = merge([make("1", "a", "ab", shard=shard)]).gaps
    assert gap == "1 of 2 tasks have no result: b"


def test_path_that_is_not_a_run(make, tmp_path):
    for path in (tmp_path / "absent", tmp_path / "absent" / "results.jsonl"):
        with pytest.raises(RunError, match=r"is not a run: it has no results\.jsonl; give the directory of a run"):
            merge([path])
    make("1", "a")
    make("2", "b")
    with pytest.raises(RunError, match=r"is not a run: it contains 2 runs; give .*/\*/"):
        merge([tmp_path])


def test_empty_run(tmp_path):
    (tmp_path / "results.jsonl").write_text("")
    assert merge([tmp_path]).results == []


# Runs of the same tasks.


def write(tmp_path, name: str, *results: TrialResult, directory: str = "") -> Path:
    run = Run(tmp_path, directory or name)
    for each in results:
        run.append(each)
    RunRecord(name, ("a",), ("a",)).write(run.directory)
    return run.directory


def test_pooled_runs_keep_all_attempts(tmp_path):
    runs = [write(tmp_path, name, result(name, "a", 1), result(name, "a", 2)) for name in ("1", "2", "3")]
    with pytest.raises(RunError, match=r"such as the shards of one run, or --pool to add up the attempts of both$"):
        merge(runs)
    assert len(merge(runs, pool=True).results) == 6


def test_copy_of_a_run_counts_once(tmp_path):
    trials = [result("1", "a", 1), result("1", "a", 2)]
    runs = [write(tmp_path, "1", *trials, directory=name) for name in ("x", "y")]
    for pool in (False, True):
        merged = merge(runs, pool=pool)
        assert len(merged.results) == 2
        assert merged.notes == [
            f"{runs[1]}/results.jsonl has copies of 2 trials of another directory; each counts once"
        ]


def test_changed_copy_of_a_run_is_an_error(tmp_path):
    runs = [write(tmp_path, "1", result("1", "a", reward=reward), directory=str(reward)) for reward in (1.0, 2.0)]
    for pool in (False, True):
        with pytest.raises(
            RunError, match=r"overlap: both have a with bot, attempt 1; .*; both are copies of the run 1"
        ):
            merge(runs, pool=pool)


@pytest.mark.parametrize(
    "field, what",
    [
        ("task_digest", "the task's content"),
        ("provider", "the provider"),
        ("model", "the model"),
        ("threshold", "the thr"),
    ],
)
@pytest.mark.parametrize("attempt", [1, 2])
def test_attempts_under_other_conditions_are_an_error(tmp_path, field, what, attempt):
    value = 0.5 if field == "threshold" else "other"
    runs = [write(tmp_path, "1", result("1", "a")), write(tmp_path, "2", result("2", "a", attempt, **{field: value}))]
    with pytest.raises(
        RunError, match=rf"runs 1 and 2 have different attempts at a with bot: {what}.* is not the same;"
    ):
        merge(runs, pool=True)


def test_pooled_run_does_not_repeat_what_another_lost(tmp_path):
    """But a run of nothing else than lost trials does."""
    lost = {"outcome": "error", "reward": None}
    first = write(tmp_path, "1", result("1", "a", 1), result("1", "a", 2, **lost))
    second = write(tmp_path, "2", result("2", "a", 1), result("2", "a", 2))
    rerun = write(tmp_path, "3", result("3", "a", 2))
    assert len(merge([first, second], pool=True).results) == 4
    assert [(r.run, r.attempt) for r in merge([first, rerun], pool=True).results] == [("1", 1), ("3", 2)]

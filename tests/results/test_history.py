"""Reading finished runs: broken and unfinished ones are refused with the reason."""

from __future__ import annotations

import pytest
from stored_runs import run_id, store, trials

from pytest_harbor.results import RESULTS, RUN_JSON, RunError, earlier_runs, find_runs, read_run

BIG = 1 << 30


def test_runs_of_a_directory_and_single_ones_each_once(tmp_path):
    first, second = (store(tmp_path, day, trials({"tb2/a": [1.0]})) for day in (1, 2))
    other = store(tmp_path / "elsewhere", 3, trials({"tb2/a": [1.0]}))
    (tmp_path / "notes").mkdir()
    (tmp_path / ".gitignore").write_text("*")
    found = find_runs([tmp_path, second, other / RESULTS, tmp_path / "." / first.name])
    assert found == [first / RESULTS, second / RESULTS, other / RESULTS]


def test_paths_without_runs_are_an_error(tmp_path):
    with pytest.raises(RunError, match=r"nowhere: it does not exist; give the directory of a run, or one with runs"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(RunError, match="it has no runs"):
        find_runs([tmp_path])


def test_run_is_read_with_its_shard(tmp_path):
    run = read_run(store(tmp_path, 5, trials({"tb2/a": [1.0, 0.0]}), shard="1/2") / RESULTS)
    assert (run.id, run.shard, len(run.results)) == (run_id(5), "1/2", 2)
    assert run.started_at == "2026-11-05T08:00:00.000+00:00"


def test_run_without_run_json(tmp_path):
    directory = store(tmp_path, 5, trials({"tb2/a": [1.0]}))
    (directory / RUN_JSON).unlink()
    assert read_run(directory / RESULTS).id == run_id(5)
    (directory / RUN_JSON).write_text("{")
    assert read_run(directory / RESULTS).id == run_id(5)


def test_broken_runs_are_refused(tmp_path):
    directory = store(tmp_path, 1, trials({"tb2/a": [1.0]}))
    (directory / RESULTS).write_text("{\n")
    with pytest.raises(RunError, match="no line of it can be read"):
        read_run(directory / RESULTS)
    (directory / RESULTS).write_text("")
    with pytest.raises(RunError, match="no trial ran"):
        read_run(directory / RESULTS)
    (directory / RESULTS).unlink()
    with pytest.raises(RunError, match=r"it has no results\.jsonl"):
        read_run(directory / RESULTS)
    (directory / RESULTS).mkdir()
    with pytest.raises(RunError, match="cannot be read: Is a directory"):
        read_run(directory / RESULTS)


def test_unfinished_run_is_refused(tmp_path):
    directory = store(tmp_path, 1, trials({"tb2/a": [1.0]}), planned=["tb2/b", "tb2/c"])
    with pytest.raises(RunError, match=r"it did not finish: 2 tasks without a result \(tb2/b, tb2/c\)"):
        read_run(directory / RESULTS)


def test_corrupt_line_costs_only_its_trial(tmp_path):
    directory = store(tmp_path, 1, trials({"tb2/a": [1.0, 1.0]}))
    with (directory / RESULTS).open("a") as file:
        file.write("{\n")
    run = read_run(directory / RESULTS)
    assert len(run.results) == 2
    assert "line 3" in run.corrupt[0]


def test_earlier_runs_are_those_before_the_latest_first(tmp_path):
    runs = {day: store(tmp_path, day, trials({"tb2/a": [1.0]})) for day in (1, 2, 3, 4)}
    store(tmp_path, 5, trials({"tb2/a": [1.0]}))
    (runs[2] / RESULTS).unlink()
    (tmp_path / "zzz").mkdir()
    assert [run.id for run in earlier_runs(runs[4], BIG)] == [run_id(3), run_id(1)]
    assert list(earlier_runs(tmp_path / "nowhere" / run_id(4), BIG)) == []


def test_earlier_runs_are_limited_by_their_size(tmp_path):
    runs = [store(tmp_path, day, trials({"tb2/a": [1.0]})) for day in range(1, 10)]
    size = (runs[0] / RESULTS).stat().st_size
    assert len(list(earlier_runs(runs[-1], 3 * size))) == 3
    assert list(earlier_runs(runs[-1], size - 1)) == []

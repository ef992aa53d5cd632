"""Splitting tasks into shards."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.task.shards import Shard, split_tasks

TASKS = st.sets(st.text(min_size=1, max_size=5), max_size=40)
COUNTS = st.integers(1, 9)
SECONDS = st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 1e6), max_size=20)


def ids(number: int) -> list[str]:
    return [f"tb2/task-{n}" for n in range(number)]


@given(TASKS, COUNTS, SECONDS)
def test_each_task_is_in_exactly_one_shard(tasks, count, seconds):
    shards = split_tasks(tasks, count, seconds)
    assert len(shards) == count
    assert sorted(task for shard in shards for task in shard) == sorted(tasks)


@given(st.lists(st.text(min_size=1, max_size=5), unique=True), COUNTS, SECONDS, st.randoms())
def test_order_and_repetition_do_not_matter(tasks, count, seconds, random):
    shuffled = [*tasks, *tasks]
    random.shuffle(shuffled)
    assert split_tasks(shuffled, count, dict(reversed(seconds.items()))) == split_tasks(tasks, count, seconds)


@given(TASKS, COUNTS)
def test_sizes_differ_by_at_most_one_without_durations(tasks, count):
    sizes = [len(shard) for shard in split_tasks(tasks, count, {})]
    assert max(sizes) - min(sizes) <= 1


@given(TASKS, st.text(min_size=1, max_size=5), COUNTS)
def test_an_added_task_moves_few_others_without_durations(tasks, added, count):
    before, after = split_tasks(tasks - {added}, count, {}), split_tasks(tasks | {added}, count, {})
    moved = [task for number in range(count) for task in before[number] - after[number]]
    assert len(moved) < count


@given(TASKS, COUNTS, st.data())
def test_loads_differ_by_at_most_one_task_with_durations(tasks, count, data):
    seconds = {task: data.draw(st.floats(0.1, 1000)) for task in sorted(tasks)}
    loads = [sum(seconds[task] for task in shard) for shard in split_tasks(tasks, count, seconds)]
    assert max(loads) - min(loads) <= max(seconds.values(), default=0) + 1e-6


def test_longest_tasks_are_placed_first():
    seconds = {"a": 7.0, "b": 6.0, "c": 5.0, "d": 4.0, "e": 3.0}
    expected = ([{"a", "d"}, {"b", "c", "e"}], [{"a", "d", "e"}, {"b", "c"}])
    assert split_tasks(seconds, 2, seconds) in expected


def test_unknown_duration_counts_as_the_mean():
    # The mean of 10 and 2 is 6, so the two other tasks together take less than the long one.
    shards = split_tasks(["long", "short", "new"], 2, {"long": 10.0, "short": 2.0, "gone": 1000.0})
    assert shards[0] == {"long"}
    assert shards[1] == {"short", "new"}


def test_more_shards_than_tasks():
    assert sorted(len(shard) for shard in split_tasks(["a", "b"], 5, {})) == [0, 0, 0, 1, 1]
    assert sorted(len(shard) for shard in split_tasks(["a", "b"], 5, {"a": 1.0})) == [0, 0, 0, 1, 1]


def test_neighboring_names_are_scattered():
    shards = split_tasks(ids(100), 4, {})
    assert all({n % 10 for n in range(100) if f"tb2/task-{n}" in shard} for shard in shards)
    assert shards[0] != set(ids(25))


def test_hash_seed_does_not_matter():
    call = f"split_tasks({ids(30)!r}, 4, {{}})"
    code = f"from pytest_harbor.task.shards import split_tasks; print([sorted(s) for s in {call}])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{[sorted(shard) for shard in split_tasks(ids(30), 4, {})]}\n"}


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", " 1/2", "1/2 ", "-1/2", "1/2/3", "²/3"])
def test_invalid_shard(text):
    with pytest.raises(ValueError, match="use NUMBER/COUNT, such as 2/8"):
        Shard.parse(text)


def test_parse_and_str_round_trip():
    assert str(Shard.parse("2/8")) == "2/8"
    assert Shard.parse("2/8") == Shard(2, 8)


@given(st.text(max_size=9), COUNTS)
def test_any_single_task_is_in_exactly_one_shard(task, count):
    assert sum(Shard(number, count).includes(task) for number in range(1, count + 1)) == 1

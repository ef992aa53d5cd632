"""Dividing tasks into shards."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.task.shards import Shard, divide

TASKS = st.sets(st.text(min_size=1, max_size=5), max_size=40)
COUNTS = st.integers(1, 9)
SECONDS = st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 1e6), max_size=20)


def ids(number: int) -> list[str]:
    return [f"tb2/task-{n}" for n in range(number)]


@given(TASKS, COUNTS, SECONDS)
def test_each_task_is_in_exactly_one_shard(tasks, count, seconds):
    shards = divide(tasks, count, seconds)
    assert len(shards) == count
    assert sorted(task for shard in shards for task in shard) == sorted(tasks)


@given(st.lists(st.text(min_size=1, max_size=5), unique=True), COUNTS, SECONDS, st.randoms())
def test_neither_order_nor_repetition_matters(tasks, count, seconds, random):
    mixed = [*tasks, *tasks]
    random.shuffle(mixed)
    assert divide(mixed, count, dict(reversed(seconds.items()))) == divide(tasks, count, seconds)


@given(TASKS, COUNTS)
def test_without_durations_the_numbers_differ_by_one_at_most(tasks, count):
    sizes = [len(shard) for shard in divide(tasks, count, {})]
    assert max(sizes) - min(sizes) <= 1


@given(TASKS, st.text(min_size=1, max_size=5), COUNTS)
def test_without_durations_a_further_task_moves_few_others(tasks, further, count):
    before, after = divide(tasks - {further}, count, {}), divide(tasks | {further}, count, {})
    moved = [task for number in range(count) for task in before[number] - after[number]]
    assert len(moved) < count


@given(TASKS, COUNTS, st.data())
def test_with_durations_no_shard_has_more_than_one_task_too_many(tasks, count, data):
    seconds = {task: data.draw(st.floats(0.1, 1000)) for task in sorted(tasks)}
    loads = [sum(seconds[task] for task in shard) for shard in divide(tasks, count, seconds)]
    assert max(loads) - min(loads) <= max(seconds.values(), default=0) + 1e-6


def test_the_longest_first():
    seconds = {"a": 7.0, "b": 6.0, "c": 5.0, "d": 4.0, "e": 3.0}
    assert divide(seconds, 2, seconds) == [{"a", "d"}, {"b", "c", "e"}] or divide(seconds, 2, seconds) == [
        {"a", "d", "e"},
        {"b", "c"},
    ]


def test_an_unknown_duration_counts_as_the_mean():
    # One long task, and the mean of 10 and 2 is 6: alone with the long one, six others would be too many.
    shards = divide(["long", "short", "new"], 2, {"long": 10.0, "short": 2.0, "gone": 1000.0})
    assert shards[0] == {"long"}
    assert shards[1] == {"short", "new"}


def test_more_shards_than_tasks():
    assert sorted(len(shard) for shard in divide(["a", "b"], 5, {})) == [0, 0, 0, 1, 1]
    assert sorted(len(shard) for shard in divide(["a", "b"], 5, {"a": 1.0})) == [0, 0, 0, 1, 1]


def test_similar_neighbours_are_scattered():
    shards = divide(ids(100), 4, {})
    assert all({n % 10 for n in range(100) if f"tb2/task-{n}" in shard} for shard in shards)
    assert shards[0] != set(ids(25))


def test_the_same_in_another_process_whatever_its_hash_seed():
    code = f"from pytest_harbor.task.shards import divide; print([sorted(s) for s in divide({ids(30)!r}, 4, {{}})])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{[sorted(shard) for shard in divide(ids(30), 4, {})]}\n"}


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", " 1/2", "1/2 ", "-1/2", "1/2/3", "²/3"])
def test_what_is_no_shard(text):
    with pytest.raises(ValueError, match="use NUMBER/COUNT, such as 2/8"):
        Shard.parse(text)


def test_a_shard_reads_as_it_is_written():
    assert str(Shard.parse("2/8")) == "2/8"
    assert Shard.parse("2/8") == Shard(2, 8)


@given(st.text(max_size=9), COUNTS)
def test_a_task_of_no_selection_is_of_exactly_one_shard(task, count):
    assert sum(Shard(number, count).has(task) for number in range(1, count + 1)) == 1

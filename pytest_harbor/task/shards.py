"""Shards of tasks: each task is in exactly one, and every machine with the same input gets the same shards."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

SYNTAX = "NUMBER/COUNT, such as 2/8 for the second of eight shards"


@dataclass(frozen=True)
class Shard:
    """One of several parts of a selection; numbers start at 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse text such as `2/8`.

        Raises:
            ValueError: the text is not a shard; the message says what is valid.

        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"use {SYNTAX}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def select(self, tasks: Iterable[str], seconds: Mapping[str, float]) -> set[str]:
        """Return the tasks of this shard.

        Args:
            tasks: the ids of all tasks.
            seconds: the duration of an attempt, for the tasks for which it is known.

        """
        return split_tasks(tasks, self.count, seconds)[self.number - 1]

    def includes(self, task: str) -> bool:
        """Return True if a task that is not part of a known selection belongs to this shard."""
        return int(_name_digest(task), 16) % self.count == self.number - 1


def split_tasks(tasks: Iterable[str], count: int, seconds: Mapping[str, float]) -> list[set[str]]:
    """Split tasks into shards of about equal duration, by adding the longest remaining task to the shortest shard.

    A task of unknown duration counts as the mean. If no duration is known, the shards have equal numbers of tasks, and
    adding or removing a task moves at most one other task from each shard to the next.

    Args:
        tasks: the ids of all tasks.
        count: the number of shards.
        seconds: the duration of an attempt, for the tasks for which it is known.

    """
    # Tasks with similar names tend to be similar; sorting by digest scatters them.
    ids = sorted(set(tasks), key=lambda task: (_name_digest(task), task))
    known = [seconds[task] for task in ids if seconds.get(task, 0) > 0]
    if not known:
        bounds = [len(ids) * number // count for number in range(count + 1)]
        return [set(ids[low:high]) for low, high in itertools.pairwise(bounds)]
    mean = fmean(known)
    costs = {task: seconds[task] if seconds.get(task, 0) > 0 else mean for task in ids}
    shards: list[set[str]] = [set() for _ in range(count)]
    loads = [0.0] * count
    for task in sorted(ids, key=lambda task: -costs[task]):
        shortest = min(range(count), key=lambda number: (loads[number], number))
        shards[shortest].add(task)
        loads[shortest] += costs[task]
    return shards


def _name_digest(task: str) -> str:
    return hashlib.sha256(task.encode("utf-8", "surrogateescape")).hexdigest()

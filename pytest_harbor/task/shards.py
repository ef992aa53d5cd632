"""Divide tasks into shards: each task in exactly one, the same on every machine that is given the same."""

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
    """One of several parts of a selection, counted from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`.

        Raises:
            ValueError: it is no shard; the message says what is.

        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"use {SYNTAX}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def select(self, tasks: Iterable[str], seconds: Mapping[str, float]) -> set[str]:
        """Return which tasks are of this shard.

        Args:
            tasks: ids of all tasks.
            seconds: how long an attempt took, of those where that is known.

        """
        return split_tasks(tasks, self.count, seconds)[self.number - 1]

    def includes(self, task: str) -> bool:
        """Tell whether a task that belongs to no whole is of this shard."""
        return int(_scatter(task), 16) % self.count == self.number - 1


def split_tasks(tasks: Iterable[str], count: int, seconds: Mapping[str, float]) -> list[set[str]]:
    """Divide tasks into shards that take about equally long: the longest first, each to the shard with least to do.

    A task of unknown duration counts as the mean. Where none is known, the shards have equally many tasks, and one task
    more or less moves at most one other from each shard to the next.

    Args:
        tasks: ids of all tasks.
        count: how many shards.
        seconds: how long an attempt took, of those where that is known.

    """
    # Neighbours by name tend to be alike; a digest scatters them.
    ids = sorted(set(tasks), key=lambda task: (_scatter(task), task))
    known = [seconds[task] for task in ids if seconds.get(task, 0) > 0]
    if not known:
        bounds = [len(ids) * number // count for number in range(count + 1)]
        return [set(ids[low:high]) for low, high in itertools.pairwise(bounds)]
    usual = fmean(known)
    costs = {task: seconds[task] if seconds.get(task, 0) > 0 else usual for task in ids}
    shards: list[set[str]] = [set() for _ in range(count)]
    loads = [0.0] * count
    for task in sorted(ids, key=lambda task: -costs[task]):
        least = min(range(count), key=lambda number: (loads[number], number))
        shards[least].add(task)
        loads[least] += costs[task]
    return shards


def _scatter(task: str) -> str:
    return hashlib.sha256(task.encode("utf-8", "surrogateescape")).hexdigest()

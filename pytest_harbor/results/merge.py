"""Put the runs of several shards together, and tell what is there twice or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_harbor.results.run import RESULTS, read_results
from pytest_harbor.results.run_json import RECORD, RunRecord
from pytest_harbor.task.shards import Shard
from pytest_harbor.trial import TrialResult

_SHOWN = 5


class RunError(ValueError):
    """Runs that cannot be read or put together; the message says why and what to do."""


@dataclass
class Merged:
    """Several runs as one.

    Attributes:
        runs: their directories.
        results: of all of them.
        corrupt: which lines could not be read, and why.
        gaps: why results are missing that the runs were meant to have; empty where none are.
        notes: what else a reader should know.

    """

    runs: list[Path] = field(default_factory=list)
    results: list[TrialResult] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(paths: Sequence[Path]) -> Merged:
    """Read runs.

    Args:
        paths: directories of runs, or their results.jsonl.

    Raises:
        RunError: one is no run, or two have the same trial.

    """
    merged = Merged()
    owners: dict[tuple[str, str, int, int], Path] = {}
    twice: dict[tuple[Path, Path], list[str]] = {}
    records: list[RunRecord] = []
    for file in _files(paths, merged.notes):
        merged.runs.append(file.parent)
        records += _record(file, merged.notes)
        for result in _results(file, merged.corrupt):
            key = (result.task, result.agent, result.attempt, result.confirmation)
            other = owners.setdefault(key, file.parent)
            if other != file.parent:
                twice.setdefault((other, file.parent), []).append(
                    f"{result.task} with {result.agent or 'no agent'}, attempt {result.attempt}"
                )
            merged.results.append(result)
    if twice:
        (first, second), trials = next(iter(twice.items()))
        raise RunError(
            f"{first} and {second} overlap: both have {_few(trials)}; give runs of different tasks or agents, such as "
            "the shards of one run"
        )
    _compare(records, merged)
    return merged


def _files(paths: Sequence[Path], notes: list[str]) -> list[Path]:
    """Return the results.jsonl of each run, which a run without trials does not have."""
    files: dict[Path, Path] = {}
    for path in paths:
        file = path if path.is_file() else path / RESULTS
        if not file.is_file() and not (file.parent / RECORD).is_file():
            below = {file.parent for name in (RESULTS, RECORD) for file in path.glob(f"*/{name}")}
            runs = f"{len(below)} run{'' if len(below) == 1 else 's'}"
            fix = f"it holds {runs}, give {path}/*/" if below else "give the directory of a run"
            raise RunError(f"{path} is no run, it has no {RESULTS}; {fix}")
        if file.resolve() in files:
            notes.append(f"{path} is given twice and counts once")
        files.setdefault(file.resolve(), file)
    return list(files.values())


def _results(file: Path, corrupt: list[str]) -> list[TrialResult]:
    found = []
    try:
        for result, problem in read_results(file) if file.is_file() else ():
            if result is None:
                corrupt.append(problem)
            else:
                found.append(result)
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    return found


def _record(file: Path, notes: list[str]) -> list[RunRecord]:
    try:
        return [RunRecord.read(file.parent)]
    except FileNotFoundError:
        notes.append(f"{file.parent} has no {RECORD}: whether results are missing cannot be told")
    except (OSError, ValueError) as error:
        notes.append(f"whether results are missing cannot be told: {error}")
    return []


def _compare(records: Sequence[RunRecord], merged: Merged) -> None:
    """Find out what no run has, and in what the runs differ."""
    selection = {task for record in records for task in record.selection}
    if any(set(record.selection) != selection for record in records):
        common = selection.intersection(*(record.selection for record in records))
        merged.notes.append(
            f"the runs were given different tasks: {_few(sorted(selection - common))} not to all of them"
        )
    for name in sorted({name for record in records for name in record.options}):
        values = dict.fromkeys(str(record.options.get(name, "unknown")) for record in records)
        if len(values) > 1:
            merged.notes.append(f"the runs differ in --harbor-{name.replace('_', '-')}: {', '.join(values)}")
    left_out = {task for record in records for task in record.left_out}
    missing = sorted(selection - left_out - {result.task for result in merged.results})
    if not missing:
        return
    told = f"{len(missing)} of {len(selection)} tasks have no result: {_few(missing)}{_absent(records)}"
    # A line that cannot be read costs its own trial and no more.
    (merged.notes if len(missing) <= len(merged.corrupt) else merged.gaps).append(told)


def _absent(records: Sequence[RunRecord]) -> str:
    """Return which shards no run is of."""
    shards = {record.shard for record in records if record.shard}
    try:
        counts = {Shard.parse(shard).count for shard in shards}
    except ValueError:
        return ""
    if len(counts) != 1:
        return f"; the shards are of different divisions: {', '.join(sorted(shards))}" if shards else ""
    count = counts.pop()
    absent = [str(shard) for n in range(count) if str(shard := Shard(n + 1, count)) not in shards]
    return f"; no run is of shard {_few(absent)}" if absent else ""


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"

"""Merging the runs of several shards: find overlaps, gaps, and options that differ."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from pytest_harbor._util.text import listed, plural
from pytest_harbor.results.rounds import RoundLog
from pytest_harbor.results.run import RESULTS, read_results
from pytest_harbor.results.run_json import RUN_JSON, RunRecord
from pytest_harbor.task.shards import Shard
from pytest_harbor.trial import TrialResult

# The most names in a message.
_MAX_NAMES = 5

# What attempts of one task must have in common.
_CONDITIONS = {
    "task_digest": "the task's content",
    "provider": "the provider",
    "model": "the model",
    "threshold": "the threshold",
}

# Task, agent, attempt and confirmation.
_Trial = tuple[str, str, int, int]
# A file may have the results of several runs.
_Run = tuple[Path, str]


class RunError(ValueError):
    """Runs that cannot be read or merged; the message says why and how to fix it."""


@dataclass
class Merged:
    """Several runs merged into one.

    Attributes:
        runs: directories of the runs.
        results: results of all runs.
        corrupt: the lines that could not be read, and why.
        gaps: why expected results are missing; empty if none are.
        notes: other facts that a reader should know.
        rounds: of each run in rounds of attempts, the log of its rounds.
        planned: number of trials that the runs would have at most; 0 if it is not known.

    """

    runs: list[Path] = field(default_factory=list)
    results: list[TrialResult] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rounds: list[RoundLog] = field(default_factory=list)
    planned: int = 0


def merge(paths: Sequence[Path], *, pool: bool = False) -> Merged:
    """Read and merge runs.

    Args:
        paths: directories of runs, or their results.jsonl.
        pool: whether different runs may have graded the same trial; their attempts then add up.

    Raises:
        RunError: a path is not a run, two runs have graded the same trial, or the same task under other conditions.

    """
    merged = Merged()
    found: dict[_Trial, dict[_Run, list[TrialResult]]] = {}
    records: list[RunRecord] = []
    seen: dict[str, TrialResult] = {}
    for file in _files(paths, merged.notes):
        merged.runs.append(file.parent)
        records += _record(file, merged.notes)
        merged.rounds += _rounds(file.parent)
        read = _results(file, merged.corrupt)
        texts = [repr(result) for result in read]
        results = [result for result, text in zip(read, texts, strict=True) if seen.setdefault(text, result) is result]
        distinct = len(set(texts))
        if distinct < len(read):
            merged.notes.append(f"{file} has {plural(len(read) - distinct, 'trial')} twice; each counts once")
        if len(results) < distinct:
            copied = plural(distinct - len(results), "trial")
            merged.notes.append(f"{file} has copies of {copied} of another directory; each counts once")
        for result in results:
            trial = (result.task, result.agent, result.attempt, result.confirmation)
            found.setdefault(trial, {}).setdefault((file.parent, result.run), []).append(result)
        merged.results += results
    overlaps = _overlaps(found)
    _check_overlaps(overlaps, pool=pool)
    _check_conditions(merged.results)
    repeated = _repeated(found, overlaps)
    if repeated:
        merged.notes.append(
            f"{plural(len(repeated), 'trial')} not graded in one run (infrastructure error, skipped) and repeated in "
            "another: the other counts"
        )
        merged.results = [result for result in merged.results if id(result) not in repeated]
    _compare(records, merged)
    return merged


def _overlaps(found: dict[_Trial, dict[_Run, list[TrialResult]]]) -> dict[tuple[_Run, _Run], list[str]]:
    """Return the trials that two runs have graded, by those runs."""
    overlaps: dict[tuple[_Run, _Run], list[str]] = {}
    for (task, agent, attempt, _), runs in found.items():
        graded = [run for run, results in runs.items() if not _is_ungraded(results)]
        for pair in combinations(graded, 2):
            overlaps.setdefault(pair, []).append(f"{task} with {agent or 'no agent'}, attempt {attempt}")
    return overlaps


def _is_ungraded(results: Iterable[TrialResult]) -> bool:
    """Return True if another run may repeat a trial: this one did not grade it, or its budget cut it short."""
    return all(result.outcome in ("error", "skipped") or result.cut_by_run for result in results)


def _check_overlaps(overlaps: dict[tuple[_Run, _Run], list[str]], *, pool: bool) -> None:
    for ((first, one), (second, other)), trials in overlaps.items():
        if pool and one != other:
            continue
        both = f"{first} and {second} overlap: both have" if first != second else f"several runs in {first} have"
        fix = "give runs of different tasks or agents, such as the shards of one run"
        fix += ", or --pool to add up the attempts of both" if one != other else f"; both are copies of the run {one}"
        raise RunError(f"{both} {listed(trials, _MAX_NAMES)}; {fix}")


def _check_conditions(results: Iterable[TrialResult]) -> None:
    """Refuse attempts at one task that cannot be put together: they would be of different tasks or agents."""
    first: dict[tuple[str, str], TrialResult] = {}
    for result in results:
        if _is_ungraded([result]):
            continue
        other = first.setdefault((result.task, result.agent), result)
        for name, what in _CONDITIONS.items():
            if getattr(result, name) != getattr(other, name) and result.run != other.run:
                raise RunError(
                    f"runs {other.run} and {result.run} have different attempts at {result.task} with {result.agent}: "
                    f"{what} is not the same; judge them one by one"
                )


def _repeated(found: dict[_Trial, dict[_Run, list[TrialResult]]], overlaps: Collection[tuple[_Run, _Run]]) -> set[int]:
    """Remove what one run did not grade and another repeated; return the ids of these results.

    Runs that have graded the same trials do not repeat each other.
    """
    removed: set[int] = set()
    for runs in found.values():
        for run in [run for run, results in runs.items() if _is_ungraded(results)]:
            # If no run graded it, the last one counts.
            if any((run, other) not in overlaps and (other, run) not in overlaps for other in runs if other != run):
                removed.update(map(id, runs.pop(run)))
    return removed


def _files(paths: Sequence[Path], notes: list[str]) -> list[Path]:
    """Return the path of each run's results.jsonl; the file does not exist in a run without trials."""
    files: dict[Path, Path] = {}
    for path in paths:
        file = path if path.is_file() else path / RESULTS
        if not file.is_file() and not (file.parent / RUN_JSON).is_file():
            runs = {file.parent for name in (RESULTS, RUN_JSON) for file in path.glob(f"*/{name}")}
            fact = f"it contains {plural(len(runs), 'run')}" if runs else f"it has no {RESULTS}"
            fix = f"give {path}/*/" if runs else "give the directory of a run"
            raise RunError(f"{path} is not a run: {fact}; {fix}")
        if file.resolve() in files:
            notes.append(f"{path} is given twice but counts once")
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
        notes.append(f"{file.parent} has no {RUN_JSON}: it is unknown whether results are missing")
    except (OSError, ValueError) as error:
        notes.append(f"it is unknown whether results are missing: {error}")
    return []


def _rounds(directory: Path) -> list[RoundLog]:
    log = RoundLog(directory)
    log.refresh()
    return [log] if log.most else []


def _compare(records: Sequence[RunRecord], merged: Merged) -> None:
    """Note the missing results and the differences between the runs."""
    selection = {task for record in records for task in record.selection}
    if any(set(record.selection) != selection for record in records):
        common = selection.intersection(*(record.selection for record in records))
        merged.notes.append(
            f"the runs have different tasks: not all runs have {listed(sorted(selection - common), _MAX_NAMES)}"
        )
    for name in sorted({name for record in records for name in record.options}):
        values = dict.fromkeys(str(record.options.get(name, "unknown")) for record in records)
        if len(values) > 1:
            merged.notes.append(f"the runs differ in --harbor-{name.replace('_', '-')}: {', '.join(values)}")
    for attempts in sorted({str(record.options.get("attempts")) for record in records if record.shard}):
        if ".." in attempts:
            most = attempts.rpartition("..")[2]
            merged.notes.append(
                f"a shard makes only the least attempts of --harbor-attempts={attempts}; if these do not decide, run "
                f"all shards with more, such as --harbor-attempts={most}"
            )
    merged.planned = sum(sum(record.planned.values()) for record in records)
    left_out = {task for record in records for task in record.left_out}
    missing = sorted(selection - left_out - {result.task for result in merged.results})
    if not missing:
        return
    names = listed(missing, _MAX_NAMES)
    message = f"{len(missing)} of {len(selection)} tasks have no result: {names}{_missing_shards(records)}"
    # A corrupt line explains one missing result.
    (merged.notes if len(missing) <= len(merged.corrupt) else merged.gaps).append(message)


def _missing_shards(records: Sequence[RunRecord]) -> str:
    """Return the shards that have no run, as the end of a message."""
    shards = {record.shard for record in records if record.shard}
    try:
        counts = {Shard.parse(shard).count for shard in shards}
    except ValueError:
        return ""
    if len(counts) != 1:
        return f"; the shards do not belong together: {', '.join(sorted(shards))}" if shards else ""
    count = counts.pop()
    missing = [str(shard) for n in range(count) if str(shard := Shard(n + 1, count)) not in shards]
    return f"; no run of {'shards' if len(missing) > 1 else 'shard'} {listed(missing, _MAX_NAMES)}" if missing else ""

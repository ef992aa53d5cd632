"""Finished runs on disk, for what changes from run to run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_harbor._util.run_id import is_run_id
from pytest_harbor._util.text import listed, plural
from pytest_harbor.results.merge import RunError
from pytest_harbor.results.run import RESULTS, read_results
from pytest_harbor.results.run_json import RUN_JSON, RunRecord
from pytest_harbor.trial import TrialResult

_MAX_NAMES = 3


@dataclass(frozen=True)
class StoredRun:
    """A finished run.

    Attributes:
        id: its id.
        file: its results.jsonl.
        shard: number and count, such as `2/8`; empty if the run was not sharded.
        results: the trials.
        corrupt: why lines of the file could not be read.

    """

    id: str
    file: Path
    shard: str
    results: Sequence[TrialResult]
    corrupt: Sequence[str] = ()

    @property
    def started_at(self) -> str:
        """When its first trial started: ISO 8601, UTC; empty if that is unknown."""
        return min((result.started_at for result in self.results if result.started_at), default="")


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the results.jsonl of each run, each once; of a broken run, the file does not exist.

    Args:
        paths: directories of runs, their results.jsonl, or directories with runs in them.

    Raises:
        RunError: a path is neither.

    """
    files: dict[Path, Path] = {}
    for path in paths:
        found = [path] if path.is_file() else [path / RESULTS] if _is_run(path) else []
        if not found and path.is_dir():
            found = [each / RESULTS for each in sorted(path.iterdir()) if _is_run(each) or is_run_id(each.name)]
        if not found:
            fact = "it has no runs" if path.is_dir() else "it does not exist"
            raise RunError(f"{path}: {fact}; give the directory of a run, or one with runs in it (harbor-results)")
        for file in found:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def read_run(file: Path) -> StoredRun:
    """Read a finished run.

    Args:
        file: its results.jsonl.

    Raises:
        RunError: it is broken or has not finished; the message says why.

    """
    directory = file.parent
    try:
        lines = list(read_results(file))
    except FileNotFoundError as error:
        raise RunError(f"{directory}: it has no {RESULTS}") from error
    except OSError as error:
        raise RunError(f"{directory}: {RESULTS} cannot be read: {error.strerror}") from error
    results = [result for result, _ in lines if result is not None]
    corrupt = [problem for result, problem in lines if result is None]
    if not results:
        raise RunError(f"{directory}: {'no line of it can be read' if corrupt else 'no trial ran'}")
    record = _record(directory)
    missing = sorted(_expected(record) - {result.task for result in results}) if record else []
    if missing:
        names = listed(missing, _MAX_NAMES)
        raise RunError(f"{directory}: it did not finish: {plural(len(missing), 'task')} without a result ({names})")
    ids = {result.run for result in results}
    name = record.run if record else next(iter(ids)) if len(ids) == 1 else ""
    return StoredRun(name or directory.name, file, record.shard if record else "", results, corrupt)


def earlier_runs(directory: Path, most_bytes: int) -> Iterator[StoredRun]:
    """Yield the finished runs next to a run that began before it, the latest first.

    Args:
        directory: the directory of the run.
        most_bytes: where to stop, by the sizes of the files that were read.

    """
    try:
        with os.scandir(directory.parent) as entries:
            names = sorted((each.name for each in entries if is_run_id(each.name)), reverse=True)
    except OSError:
        return
    for name in names:
        if name >= directory.name:
            continue
        file = directory.parent / name / RESULTS
        try:
            most_bytes -= file.stat().st_size
            if most_bytes < 0:
                return
            yield read_run(file)
        except (OSError, RunError):
            continue


def _is_run(path: Path) -> bool:
    return (path / RESULTS).is_file() or (path / RUN_JSON).is_file()


def _record(directory: Path) -> RunRecord | None:
    try:
        return RunRecord.read(directory)
    except (OSError, ValueError):
        return None


def _expected(record: RunRecord) -> set[str]:
    """Return the tasks of which a finished run has results."""
    return set(record.planned) or set(record.tasks) - set(record.left_out)

"""The directory of a run: results.jsonl, and a directory per trial."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_harbor._util.files import write_atomically
from pytest_harbor._util.process import is_alive, machine_id, process_token
from pytest_harbor._util.text import encodable_name, printable_name
from pytest_harbor.trial import State, TrialResult

RESULTS = "results.jsonl"

# The most bytes of a task's name in the name of a directory; file systems allow 255 for the whole name.
_NAME_BYTES = 200


class Run:
    """The directory of one run. All workers of a run write to the same results.jsonl.

    Args:
        root: the directory of all runs (`--harbor-results`).
        run_id: id of this run.

    """

    def __init__(self, root: Path, run_id: str) -> None:
        self.id = run_id
        self.root = root
        self.directory = root / run_id
        self.results_file = self.directory / RESULTS

    def create_root(self) -> None:
        """Create the directory of all runs. The directory of this run is created with its first trial.

        Raises:
            OSError: it cannot be created.

        """
        self.root.mkdir(parents=True, exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Commit baselines, not results.\n*\n", encoding="utf-8")

    def trial_directory(self, task_name: str, key: str) -> Path:
        """Return the directory of a trial, named as in Harbor: the task's name and seven characters.

        The name is also the trial's id, so it differs from run to run.

        Args:
            task_name: the task's directory name.
            key: a text that is unique to the trial in its run.

        """
        encoded = os.fsencode(task_name)[:_NAME_BYTES]
        name = encodable_name(printable_name(encoded.decode("utf-8", "ignore")))
        return self.directory / f"{name}__{_digest(f'{self.id} {key}')}"

    def note(self, result: TrialResult, state: State, phase: str = "") -> None:
        """Write the trial's own trial.json: its result so far, state and phase, and the process that runs it.

        A trial that is `running` in a dead process was lost; see lost().

        Raises:
            OSError: the file cannot be written.

        """
        directory = Path(result.directory)
        process = {"owner": process_token(), "machine": machine_id()}
        data = {"state": state, "now": phase, **process, **result.to_json()}
        write_atomically(directory / "trial.json", json.dumps(data, indent=1))

    def append(self, result: TrialResult) -> None:
        """Append a result to results.jsonl. When this returns, the result is on disk.

        Raises:
            OSError: the file cannot be written.

        """
        line = json.dumps(result.to_json(), ensure_ascii=True, allow_nan=False).encode() + b"\n"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock(), self.results_file.open("a+b", buffering=0) as file:
            # Do not append to a line that a full disk or a killed process left incomplete.
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)

    def results(self) -> list[TrialResult]:
        """Return the results written so far, without unreadable lines."""
        if not self.results_file.exists():
            return []
        return [result for result, _ in read_results(self.results_file) if result is not None]

    def lost(self) -> list[TrialResult]:
        """Return the trials of this machine whose process died before they had a result."""
        written = {result.directory for result in self.results()}
        return [result for token, result in self._running() if not is_alive(token) and result.directory not in written]

    def busy_processes(self) -> list[int]:
        """Return the ids of the other processes on this machine that are running a trial of this run."""
        return sorted({int(token.partition(".")[0]) for token, _ in self._running() if is_alive(token)} - {os.getpid()})

    def _running(self) -> Iterator[tuple[str, TrialResult]]:
        """Yield the process token and result of each trial on this machine that has not finished."""
        for file in sorted(self.directory.glob("*/trial.json")):
            try:
                data = json.loads(file.read_text(encoding="utf-8"))
                result = TrialResult.from_json(data)
            except (OSError, ValueError):
                continue
            if data.get("state") == "running" and data.get("machine") == machine_id():
                yield str(data.get("owner")), result

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with FileLock(self.directory / f".{RESULTS}.lock").acquire(poll_interval=0.01):
            yield


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:7]


def read_results(file: Path) -> Iterator[tuple[TrialResult | None, str]]:
    """Read a results.jsonl line by line.

    Yields:
        A result and an empty text, or None and the error. A corrupt line costs only its own trial.

    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                data: Any = json.loads(line)
                if not isinstance(data, dict):
                    raise ValueError("the line is not a JSON object")
                yield TrialResult.from_json(data), ""
            except (ValueError, RecursionError) as error:
                yield None, f"{file}, line {number}: {error}"

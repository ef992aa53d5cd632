"""How far a run is, from the files in its directory, which all of its processes write."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pytest_harbor._util.process import is_alive, machine_id
from pytest_harbor._util.text import attempt_label, one_line
from pytest_harbor.results import RESULTS, RunRecord


@dataclass(frozen=True, order=True)
class RunningTrial:
    """A trial that is running; they sort by the time their phase began.

    Attributes:
        since: when the phase began, in seconds since the epoch.
        task: id of the task.
        name: the task, with agent and attempt where needed.
        phase: name of the phase.
        earlier: seconds of the phases before.

    """

    since: float
    task: str
    name: str
    phase: str
    earlier: float = 0.0


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        running: the running trials, the one longest in its phase first.
        done: number of trials that have a result.
        not_passed: how many of them failed, are unverified or ended with an error.
        total: number of trials; 0 if it is not known.
        seconds_left: how long the run will take, None if nothing is known of its tasks.

    """

    running: tuple[RunningTrial, ...] = ()
    done: int = 0
    not_passed: int = 0
    total: int = 0
    seconds_left: float | None = None


class TrialMonitor:
    """Follows a run by its files; what has ended is read only once.

    Args:
        directory: directory of the run.
        name_agents: whether the run has several agents.
        seconds: how long a trial of each task took before.
        processes: how many trials run at the same time.
        rounds: returns the round under way and how many rounds of attempts were planned, if not all of them may run.

    """

    def __init__(
        self,
        directory: Path,
        *,
        name_agents: bool = False,
        seconds: Mapping[str, float] | None = None,
        processes: int = 1,
        rounds: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self._directory = directory
        self._name_agents = name_agents
        self._seconds = seconds or {}
        self._processes = processes
        self._rounds = rounds
        self._finished: set[str] = set()
        self._offset = 0
        self._done: Counter[str] = Counter()
        self._not_passed = 0
        self._planned: dict[str, int] = {}

    def state(self, now: float) -> RunState:
        """Return the state of the run.

        Args:
            now: the time, in seconds since the epoch.

        """
        self._read_results()
        if not self._planned:
            self._read_plan()
        running = self.running()
        planned = self._planned
        if self._rounds is not None:
            now_on, most = self._rounds()
            planned = {task: number * now_on // most for task, number in planned.items()}
        total = max(sum(planned.values()), self._done.total()) if planned else 0
        left = self._left(planned, running, now)
        return RunState(tuple(running), self._done.total(), self._not_passed, total, left)

    def running(self) -> list[RunningTrial]:
        """Return the running trials, the one longest in its phase first."""
        try:
            names = sorted(set(os.listdir(self._directory)) - self._finished)  # noqa: PTH208 - names are enough
        except OSError:
            return []
        return sorted(trial for name in names if (trial := self._read(name)))

    def _read(self, name: str) -> RunningTrial | None:
        file = self._directory / name / "trial.json"
        try:
            since = file.stat().st_mtime
            data: Any = json.loads(file.read_text(encoding="utf-8"))
            if data["state"] != "running":
                self._finished.add(name)
            elif data["machine"] == machine_id() and is_alive(data["owner"]):
                task, agent, phase = (str(data[key]) for key in ("task", "agent", "now"))
                label = attempt_label(agent if self._name_agents else "", int(data["attempt"]))
                title = one_line(f"{task}[{label}]" if label else task)
                return RunningTrial(since, task, title, phase or "preparing", sum(data["phases"].values()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # Not written yet, or not a trial's directory.
            pass
        return None

    def _read_results(self) -> None:
        try:
            with (self._directory / RESULTS).open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                result = json.loads(line)
                if not result["confirmation"]:
                    self._done[str(result["task"])] += 1
                    self._not_passed += result["outcome"] not in ("passed", "skipped")
            except (ValueError, TypeError, KeyError):
                continue

    def _read_plan(self) -> None:
        # It may not be written yet.
        with contextlib.suppress(OSError, ValueError):
            self._planned = RunRecord.read(self._directory).planned

    def _left(self, planned: Mapping[str, int], running: list[RunningTrial], now: float) -> float | None:
        """Return the seconds until the end, if each trial takes as long as it did before."""
        known = [self._seconds[task] for task in planned if task in self._seconds]
        if not known:
            return None
        usual = fmean(known)
        under_way = [
            max(0.0, self._seconds.get(trial.task, usual) - trial.earlier - (now - trial.since)) for trial in running
        ]
        started = Counter(trial.task for trial in running) + self._done
        waiting = sum(
            max(0, number - started[task]) * self._seconds.get(task, usual) for task, number in planned.items()
        )
        return max([(waiting + sum(under_way)) / self._processes, *under_way])

"""Finished runs on disk, for tests of what changes from run to run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_harbor.results import Run, RunRecord
from pytest_harbor.trial import TrialResult, Usage


def trials(rewards: Mapping[str, Sequence[float | None]], **fields) -> list[TrialResult]:
    """Return trials with rewards by task; None is an infrastructure error."""
    cost = fields.pop("cost", None)
    return [
        TrialResult(
            **{
                "run": "",
                "task": task,
                "dataset": task.partition("/")[0],
                "task_path": "",
                "agent": "bot",
                "attempt": attempt,
                "outcome": "error" if reward is None else "passed" if reward >= 1 else "failed",
                "reward": reward,
                "provider": "docker",
                "task_digest": "d",
                "phases": {"build": 1.0, "agent": 2.0},
                "usage": None if cost is None else Usage(requests=1, cost=cost),
                "node_id": f"{task}[{attempt}]",
                **fields,
            }
        )
        for task, each in rewards.items()
        for attempt, reward in enumerate(each, 1)
    ]


def run_id(day: int) -> str:
    """Return the id of a run on a day of November 2026."""
    return f"2026-11-{day:02}T08-00-00Z-{day:04x}"


def store(
    root: Path, day: int, results: Sequence[TrialResult], *, planned: Sequence[str] = (), shard: str = ""
) -> Path:
    """Write a run on a day of November 2026 and return its directory; more tasks may have been planned than ran."""
    run = Run(root, run_id(day))
    for result in results:
        result.run = run.id
        result.started_at = f"2026-11-{day:02}T08:00:00.000+00:00"
    run.directory.mkdir(parents=True)
    run.results_file.write_text("".join(f"{json.dumps(result.to_json())}\n" for result in results))
    tasks = tuple(sorted({*planned, *(result.task for result in results)}))
    RunRecord(run.id, tasks, tasks, (), shard, planned=dict.fromkeys(tasks, 1)).write(run.directory)
    return run.directory

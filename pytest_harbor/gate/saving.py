"""Saving a baseline: tasks with all their trials are written, and what is missing is reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.gate.baseline import Baseline, BaselineError, Key, Sample
from pytest_harbor.gate.pooling import add_runs
from pytest_harbor.gate.samples import baseline_of, counts
from pytest_harbor.gate.verdict import Limit
from pytest_harbor.trial import TrialResult

# The most tasks that a message names.
_MAX_NAMES = 10


def save_baseline(
    file: Path,
    results: Iterable[TrialResult],
    *,
    update: Baseline | None = None,
    add: bool = False,
    gaps: Sequence[str] = (),
    limit: Limit | None = None,
    forced: bool = False,
    prefix: str = "--",
) -> list[str]:
    """Write a baseline of a run and return the lines of a message that says so.

    Tasks with infrastructure errors are incomplete. They stay as they are in an earlier baseline, and are omitted from
    a new one.

    Args:
        file: the file to write; its directory is created if needed.
        results: results of the run.
        update: an earlier baseline to update; None for a new one. Tasks that did not run keep their samples.
        add: whether to add to its attempts instead of replacing them.
        gaps: why results are missing.
        limit: the most infrastructure errors; None for the default.
        forced: whether to write all tasks, despite infrastructure errors and gaps.
        prefix: how the names of options begin, for messages.

    Raises:
        BaselineError: no task has all its trials, the results have gaps or too many infrastructure errors, attempts
            cannot be added, or the file cannot be written.

    """
    results = list(results)
    baseline = baseline_of(results)
    if not baseline.samples:
        raise BaselineError(f"{file} was not written: no trial ran")
    problems = [*gaps, *_too_many_errors(baseline, limit or Limit())]
    if problems and not forced:
        raise BaselineError(f"{file} was not written: {'; '.join(problems)}; run again, or add {prefix}force-baseline")
    complete, incomplete = (baseline, []) if forced else _divided(baseline)
    if not complete.samples:
        missing = [_missing(*each, results) for each in incomplete]
        raise BaselineError(
            f"{file} was not written: no task has all its trials ({listed(missing, _MAX_NAMES)}); run again, or add "
            f"{prefix}force-baseline"
        )
    if update is None:
        earlier = _earlier(file).samples
        update = Baseline({key: earlier[key] for key, _ in incomplete if key in earlier})
    if add:
        written, lines = _with_added(file, update, complete, prefix)
    else:
        written, lines = update.updated(complete), []
    tasks = plural(len({task for task, _ in written.samples}), "task")
    if not add or written.samples != update.samples:
        try:
            written.write(file)
        except OSError as error:
            raise BaselineError(f"{file} was not written: {error}") from error
        lines = [f"baseline of {tasks} saved to {file}", *lines]
    return [
        *lines,
        *_without_reward({key: written.samples[key] for key in complete.samples}),
        *_incomplete_lines(incomplete, results, complete, written),
    ]


def _without_reward(saved: Mapping[Key, Sample]) -> list[str]:
    """Return a warning for each agent that earned nothing in any task: a gate could never find that it got worse."""
    agents = {agent for (_, agent), sample in saved.items() if sample.rewards}
    earning = {agent for (_, agent), sample in saved.items() if any(reward > 0 for reward in sample.rewards)}
    return [
        f"WARNING: no trial of agent {one_line(agent)} has a reward above 0, so no gate can find that it got worse; "
        "check that it works before you commit this baseline"
        for agent in sorted(agents - earning)
    ]


def _with_added(file: Path, old: Baseline, new: Baseline, prefix: str) -> tuple[Baseline, list[str]]:
    """Return a baseline with the attempts of another added, and the lines of a message about them."""
    try:
        pooled = add_runs(old, new)
    except BaselineError as error:
        fix = "--harbor-update-baseline" if prefix == "--harbor-" else "--save-baseline"
        raise BaselineError(
            f"{file} was not written: {error}; add runs of the same, or start over with {fix}"
        ) from None
    attempts = [len(sample.rewards) for sample in pooled.baseline.samples.values()]
    size = f"{min(attempts)} to {max(attempts)}" if min(attempts) < max(attempts) else f"{max(attempts)}"
    added = plural(pooled.attempts, "attempt")
    return pooled.baseline, [f"added to {file}: {added}; it has {size} per task", *pooled.notes]


def _too_many_errors(baseline: Baseline, limit: Limit) -> list[str]:
    errors = sum(sample.errors for sample in baseline.samples.values())
    total = errors + sum(len(sample.rewards) for sample in baseline.samples.values())
    if not limit.is_exceeded(errors, total):
        return []
    return [f"{errors} of {plural(total, 'trial')} ended with an infrastructure error, more than the limit of {limit}"]


def _divided(baseline: Baseline) -> tuple[Baseline, list[tuple[Key, Sample]]]:
    """Return the baseline of complete tasks, and the incomplete samples, one per run."""
    parts = [(key, part) for key, sample in sorted(baseline.samples.items()) for part in sample.parts]
    complete: dict[Key, list[Sample]] = {}
    for key, part in parts:
        if not part.errors:
            complete.setdefault(key, []).append(part)
    samples = {key: Sample.pooled(found) for key, found in complete.items()}
    return replace(baseline, samples=samples), [(key, part) for key, part in parts if part.errors]


def _earlier(file: Path) -> Baseline:
    """Return the baseline that a new one replaces; an empty one if there is none, or none that can be read."""
    try:
        return Baseline.read(file)
    except BaselineError:
        return Baseline({})


def _incomplete_lines(
    incomplete: Sequence[tuple[Key, Sample]], results: Sequence[TrialResult], complete: Baseline, written: Baseline
) -> list[str]:
    """Return what became of incomplete tasks."""
    if not incomplete:
        return []
    lines = []
    for key, part in incomplete[:_MAX_NAMES]:
        fate = "omitted" if key in complete.samples or key not in written.samples else "left as it was"
        lines.append(f"  {_missing(key, part, results)}: {fate}")
    if rest := len(incomplete) - len(lines):
        lines.append(f"  and {rest:,} more")
    tasks = plural(len({task for (task, _), _ in incomplete}), "task")
    return [f"not saved, because trials are missing ({tasks}); run them again to complete the baseline:", *lines]


def _missing(key: Key, part: Sample, results: Iterable[TrialResult]) -> str:
    """Return how many trials of a task are missing, and why."""
    (run,) = part.runs
    lost = next(
        result
        for result in results
        if (result.task, result.agent, result.run) == (*key, run.id) and counts(result) and result.reward is None
    )
    phase = f" in {lost.phase}" if lost.phase else ""
    what = f"infrastructure error{phase}" if lost.outcome == "error" else "no reward"
    total = plural(len(part.rewards) + part.errors, "trial")
    missing = f"{one_line(key[0])} with {one_line(key[1])}: {part.errors} of {total} missing, {what}"
    return f"{missing} ({one_line(lost.reason, 150)})" if lost.reason else missing

"""Adding a run's attempts to a baseline, so that it rests on several runs of one agent."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.gate.baseline import Baseline, BaselineError, Key, Sample

MAX_ATTEMPTS = 30
"""The most attempts per task in a pooled baseline; whole runs are dropped, the oldest first, but never the latest."""

# The most tasks or runs that a message names.
_MAX_NAMES = 5


@dataclass(frozen=True)
class Pooled:
    """A baseline with the attempts of other runs added.

    Attributes:
        attempts: number of attempts that were added.
        notes: what a user should know about them.

    """

    baseline: Baseline
    attempts: int
    notes: tuple[str, ...]


def add_runs(old: Baseline, new: Baseline) -> Pooled:
    """Add the attempts of a new baseline's runs to those of an old one.

    A run is added once. Attempts at a task that has changed since are replaced, as they are of no use anymore. Passes
    are counted by the new threshold.

    Raises:
        BaselineError: providers or models differ.

    """
    check_same(old, new)
    samples = dict(old.samples)
    replaced: dict[str, list[str]] = {}
    dropped, known, attempts = 0, set(), 0
    for key, sample in new.samples.items():
        before = old.samples.get(key)
        if before is not None and (before.digest != sample.digest or not before.runs):
            why = "the task has changed" if before.runs else "it does not say which runs they are from"
            replaced.setdefault(why, []).append(f"{_name(key)} ({plural(len(before.rewards), 'attempt')})")
            before = None
        parts = before.graded_by(sample.threshold).parts if before is not None else ()
        earlier = {run.id for part in parts for run in part.runs}
        added = [part for part in sample.parts if part.runs[0].id not in earlier]
        known |= {run.id for run in sample.runs if run.id in earlier}
        if not added:
            continue
        everything = sorted((*parts, *added), key=lambda part: (part.runs[0].date, part.runs[0].id))
        kept = _latest(everything)
        dropped += sum(len(part.rewards) for part in everything[: -len(kept)])
        attempts += sum(len(part.rewards) for part in kept if part.runs[0].id not in earlier)
        samples[key] = Sample.pooled(kept)
    notes = [
        f"already in it, and not added again: {plural(len(known), 'run')} ({listed(sorted(known), _MAX_NAMES)})"
        if known
        else "",
        *(f"replaced, because {why}: {listed(names, _MAX_NAMES)}" for why, names in replaced.items()),
        f"dropped: {plural(dropped, 'attempt')} of the oldest runs; {MAX_ATTEMPTS} per task are kept"
        if dropped
        else "",
    ]
    return Pooled(Baseline(samples, new.run), attempts, tuple(note for note in notes if note))


def _latest(parts: list[Sample]) -> list[Sample]:
    """Return the latest runs of a task whose attempts do not exceed the limit, at least one."""
    total = 0
    for place, part in enumerate(reversed(parts)):
        total += len(part.rewards)
        if place and total > MAX_ATTEMPTS:
            return parts[-place:]
    return parts


def check_same(old: Baseline, new: Baseline) -> None:
    """Check that attempts can be added: those of another provider or model do not belong to the same agent.

    Raises:
        BaselineError: they differ.

    """
    for name in ("provider", "model"):
        pairs = [(key, old.samples[key], new.samples[key]) for key in sorted(new.samples) if key in old.samples]
        others = [pair for pair in pairs if getattr(pair[1], name) != getattr(pair[2], name)]
        if others:
            before, after = (getattr(sample, name) or "unknown" for sample in others[0][1:])
            names = listed([_name(pair[0]) for pair in others], _MAX_NAMES)
            raise BaselineError(f"its {name} is {before}, and that of the run is {after} ({names})")


def _name(key: Key) -> str:
    return f"{one_line(key[0])} with {one_line(key[1])}"

"""The baseline: earlier rewards in a file that is committed and reviewed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from pytest_harbor._util.files import write_output
from pytest_harbor._util.json_text import DuplicateKey, has_conflicts, unique_keys

VERSION = 1

# An infrastructure error is not graded: it says nothing about the agent.
GRADED = ("passed", "failed", "unverified")


# The numbers of attempts in a sample, the means over them, and what describes all of them.
COUNTS = ("passed", "unverified", "expected", "errors")
MEANS = ("seconds", "agent_seconds", "usage")
SHARED = ("digest", "settings", "image", "provider", "model", "threshold", "category", "difficulty")


class BaselineError(ValueError):
    """A baseline that cannot be read or written; the message says why and how to fix it."""


@dataclass(frozen=True)
class SampleRun:
    """One run's part of a sample.

    Attributes:
        id: id of the run.
        date: when the run started, in ISO 8601, UTC; empty if that is not known.
        attempts: number of the rewards in the sample that come from this run.
        passed, unverified, expected, errors, seconds, agent_seconds, usage: as in Sample.

    """

    id: str
    date: str = ""
    attempts: int = 0
    passed: int = 0
    unverified: int = 0
    expected: int = 0
    errors: int = 0
    seconds: float = 0.0
    agent_seconds: float = 0.0
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """The results of one agent's attempts at one task, in one run or in several.

    Attributes:
        rewards: the rewards of the graded attempts, in order, those of the oldest run first.
        passed: number of graded attempts that passed.
        unverified: number of graded attempts that left no usable reward and count as 0.
        expected: number of graded attempts that did not pass, as an xfail mark expects.
        errors: number of attempts that ended with an infrastructure error; they have no reward.
        digest: digest of the task's files.
        settings: digest of the agent and its settings; empty if it is not known.
        image: id of the image.
        provider: name of the environments' provider.
        model: name of the model.
        threshold: the lowest reward that passed.
        category, difficulty: of the task; empty if it has none.
        seconds: mean duration of an attempt, used to divide a dataset into shards of equal length.
        agent_seconds: mean duration of the agent's phase; 0 if that is not known.
        usage: mean model usage per trial: `calls`, `input_tokens`, `cached_tokens`, `output_tokens`,
            `reasoning_tokens`, `estimated` (calls with estimated token counts), `replayed` (calls answered from
            cassettes), `cost` in US dollars. Empty unless the
            usage of every trial is known; without `cost` unless every cost is known.
        runs: which rewards come from which run, in their order. Empty if that is not known.

    """

    rewards: tuple[float, ...]
    passed: int
    unverified: int = 0
    expected: int = 0
    errors: int = 0
    digest: str = ""
    settings: str = ""
    image: str = ""
    provider: str = ""
    model: str = ""
    threshold: float = 1.0
    category: str = ""
    difficulty: str = ""
    seconds: float = 0.0
    agent_seconds: float = 0.0
    usage: Mapping[str, float] = field(default_factory=dict)
    runs: tuple[SampleRun, ...] = ()

    @classmethod
    def pooled(cls, parts: Sequence[Sample]) -> Sample:
        """Return the attempts of several samples of one task as one; what describes the task is the last one's."""
        if len(parts) == 1:
            return parts[0]
        weights = [len(part.rewards) or part.errors for part in parts]
        agent_seconds = [part.agent_seconds for part in parts]
        names = [name for name in parts[0].usage if all(name in part.usage for part in parts)]
        return replace(
            parts[-1],
            rewards=tuple(reward for part in parts for reward in part.rewards),
            **{name: sum(getattr(part, name) for part in parts) for name in COUNTS},
            seconds=round(_mean([part.seconds for part in parts], weights), 1),
            agent_seconds=significant(_mean(agent_seconds, weights)) if all(agent_seconds) else 0.0,
            usage={
                name: round(_mean([part.usage[name] for part in parts], weights), 6 if name == "cost" else 1)
                for name in names
            },
            runs=tuple(run for part in parts for run in part.runs),
        )

    @property
    def parts(self) -> tuple[Sample, ...]:
        """The sample of each run."""
        if len(self.runs) < 2:
            return (self,)
        ends = accumulate(run.attempts for run in self.runs)
        return tuple(self._part(run, end) for run, end in zip(self.runs, ends, strict=True))

    def _part(self, run: SampleRun, end: int) -> Sample:
        values: dict[str, Any] = {name: getattr(run, name) for name in (*COUNTS, *MEANS)}
        return replace(self, rewards=self.rewards[end - run.attempts : end], **values, runs=(run,))

    def graded_by(self, threshold: float) -> Sample:
        """Return the sample with its passes counted by another threshold."""
        if threshold == self.threshold:
            return self
        if len(self.runs) > 1:
            return Sample.pooled([part.graded_by(threshold) for part in self.parts])
        passed = sum(reward >= threshold for reward in self.rewards) - (self.unverified if threshold <= 0 else 0)
        runs = tuple(replace(run, passed=passed) for run in self.runs)
        return replace(self, passed=passed, threshold=threshold, runs=runs)

    @property
    def mean(self) -> float:
        """The mean reward, NaN if there is none."""
        return sum(self.rewards) / len(self.rewards) if self.rewards else math.nan


Key = tuple[str, str]
"""A task's id and an agent's name."""


@dataclass(frozen=True)
class Baseline:
    """Samples by task and agent, and the run they come from."""

    samples: Mapping[Key, Sample]
    run: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a baseline.

        Raises:
            BaselineError: the file is missing, empty, in conflict, of a later version, or not valid.

        """
        fix = "save it again with --harbor-save-baseline"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BaselineError(f"{path} does not exist; create it with --harbor-save-baseline={path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BaselineError(f"{path} cannot be read: {error}") from error
        if not text.strip():
            raise BaselineError(f"{path} is empty; {fix}")
        take_a_side = "take one side (git checkout --ours or --theirs), or"
        if has_conflicts(text):
            raise BaselineError(f"{path} has merge conflicts; {take_a_side} {fix}")
        try:
            data = unique_keys(text)
        except DuplicateKey as error:
            raise BaselineError(f"{path} {error}, perhaps after a merge; {take_a_side} {fix}") from None
        except (ValueError, RecursionError) as error:
            raise BaselineError(f"{path} is not JSON ({error}); {fix}") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if type(version) is not int or version < 1:
            raise BaselineError(f"{path} is not a baseline: it has no schema_version; {fix}")
        if version > VERSION:
            raise BaselineError(
                f"{path} has version {version}, but this pytest-harbor reads up to {VERSION}; upgrade pytest-harbor"
            )
        try:
            found = cls(dict(_samples(data["tasks"])), dict(data.get("run", {})))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BaselineError(f"{path} is not a valid baseline: {error}; {fix}") from error
        if not found.samples:
            raise BaselineError(f"{path} has no results of any task; {fix}")
        return found

    @property
    def agents(self) -> list[str]:
        """The names of the agents, sorted."""
        return sorted({agent for _, agent in self.samples})

    def write(self, path: Path) -> None:
        """Write the baseline, sorted and with a line per run, so that diffs stay small.

        Raises:
            OSError: the file cannot be written.

        """
        tasks: dict[str, dict[str, Sample]] = {}
        for (task, agent), sample in sorted(self.samples.items()):
            tasks.setdefault(task, {})[agent] = sample
        lines = ["{", f' "schema_version": {VERSION},', f' "run": {_compact(dict(self.run))},', ' "tasks": {']
        for number, (task, agents) in enumerate(tasks.items(), 1):
            lines.append(f"  {json.dumps(task)}: {{")
            for place, (agent, sample) in enumerate(agents.items(), 1):
                comma = "," if place < len(agents) else ""
                *lines_of_runs, last = [f"    {_compact(run)}," for run in _runs_as_json(sample)]
                shared = "".join(f"{json.dumps(name)}: {_compact(value)}, " for name, value in _shared(sample))
                lines.append(f'   {json.dumps(agent)}: {{{shared}"runs": [')
                lines += [*lines_of_runs, last.removesuffix(","), f"   ]}}{comma}"]
            lines.append("  }," if number < len(tasks) else "  }")
        lines += [" }", "}", ""]
        write_output(path, "\n".join(lines))

    def updated(self, other: Baseline) -> Baseline:
        """Return a copy in which the samples of another baseline replace or join its own."""
        return replace(self, samples={**self.samples, **other.samples}, run=other.run)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    total = sum(weights)
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total if total else 0.0


def significant(value: float) -> float:
    """Round to four significant digits, as an agent's phase may take milliseconds."""
    return float(f"{value:.4g}")


def _shared(sample: Sample) -> list[tuple[str, Any]]:
    """Return what describes all attempts of a sample, without defaults."""
    default = Sample((), 0)
    values = ((name, getattr(sample, name)) for name in SHARED)
    return [(name, value) for name, value in values if value != getattr(default, name)]


def _runs_as_json(sample: Sample) -> list[dict[str, Any]]:
    """Return the runs of a sample with their rewards, without defaults."""
    default = asdict(SampleRun(""))
    found = []
    for part in sample.parts:
        (run,) = part.runs or (SampleRun(""),)
        values = {name: getattr(part, name) for name in (*COUNTS, *MEANS)}
        values |= {"id": run.id, "date": run.date}
        given = {name: value for name, value in values.items() if value != default[name]}
        found.append({**given, "passed": part.passed, "rewards": part.rewards})
    return found


def _samples(tasks: Any) -> Iterable[tuple[Key, Sample]]:
    for task, agents in tasks.items():
        for agent, data in agents.items():
            where = f"{task} {agent}"
            _refuse_unknown(data, {*SHARED, "runs"}, where)
            shared: dict[str, Any] = {name: str(data.get(name, "")) for name in SHARED if name != "threshold"}
            shared["threshold"] = _finite(data.get("threshold", 1.0), f"{where}: threshold")
            parts = [_part(run, shared, where) for run in data["runs"]]
            if not parts:
                raise ValueError(f"{where}: no run")
            if len(parts) > 1 and len({run.id for part in parts for run in part.runs}) < len(parts):
                raise ValueError(f"{where}: two runs without an id, or with the same id")
            yield (task, agent), Sample.pooled(parts)


def _part(data: Any, shared: Mapping[str, Any], where: str) -> Sample:
    """Return the sample of one run."""
    _refuse_unknown(data, {*SampleRun.__dataclass_fields__, "rewards"} - {"attempts"}, where)
    rewards = tuple(_finite(reward, where) for reward in data["rewards"])
    values: dict[str, Any] = {name: _count(data.get(name, 0), f"{where}: {name}") for name in COUNTS}
    if max(values["passed"], values["unverified"], values["expected"]) > len(rewards):
        raise ValueError(f"{where}: more attempts are passed, unverified or expected than there are rewards")
    for name in ("seconds", "agent_seconds"):
        values[name] = _finite(data.get(name, 0.0), f"{where}: {name}")
    usage = data.get("usage", {}).items()
    values["usage"] = {str(name): _finite(value, f"{where}: usage") for name, value in usage}
    run = SampleRun(str(data.get("id", "")), str(data.get("date", "")), len(rewards), **values)
    return Sample(rewards, **shared, **values, runs=(run,) if run.id else ())


def _refuse_unknown(data: Any, known: set[str], where: str) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}")


def _finite(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: {value!r} is not a finite number")
    return float(value)


def _count(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{where}: {value!r} is not a count")
    return value

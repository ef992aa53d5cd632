"""Rewards to compare with, in a file that is committed and reviewed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

VERSION = 1

# How often `error` counts as one: an infrastructure error says nothing about an agent.
GRADED = ("passed", "failed", "unverified")


class BaselineError(ValueError):
    """A baseline that cannot be read or written; the message says why and how to fix it."""


@dataclass(frozen=True)
class Sample:
    """What one agent's attempts at one task came to.

    Attributes:
        rewards: one a graded attempt, in their order.
        passed: how many of them passed.
        unverified: how many of them left no usable reward and count as 0.
        errors: how many attempts an infrastructure error ended; they have no reward.
        digest: digest of the task's files.
        image: id of the image.
        provider: what ran the environments.
        model: name of the model.
        seconds: mean seconds of an attempt, for dividing a dataset into shards of equal length.
        usage: means a trial of what the agent used of models: `calls`, `input_tokens`, `cached_tokens`,
            `output_tokens`, `reasoning_tokens`, `estimated` (calls whose tokens are estimated), `cost` in US dollars.
            Empty unless it is known of each trial, and without a cost that is not.

    """

    rewards: tuple[float, ...]
    passed: int
    unverified: int = 0
    errors: int = 0
    digest: str = ""
    image: str = ""
    provider: str = ""
    model: str = ""
    seconds: float = 0.0
    usage: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The mean reward; NaN without one."""
        return sum(self.rewards) / len(self.rewards) if self.rewards else math.nan


Key = tuple[str, str]
"""A task's id and an agent's name."""


@dataclass(frozen=True)
class Baseline:
    """Samples by task and agent, and which run they come from."""

    samples: Mapping[Key, Sample]
    run: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read a baseline.

        Raises:
            BaselineError: it is missing, empty, in conflict, of a later version, or holds what it must not.

        """
        again = "save it anew with --harbor-save-baseline"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise BaselineError(f"{path} does not exist; make it with --harbor-save-baseline={path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BaselineError(f"{path} cannot be read: {error}") from error
        if not text.strip():
            raise BaselineError(f"{path} is empty; {again}")
        if any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines()):
            raise BaselineError(
                f"{path} has merge conflicts; take one side (git checkout --ours or --theirs), or {again}"
            )
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BaselineError(f"{path} is no JSON ({error}); {again}") from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if type(version) is not int or version < 1:
            raise BaselineError(f"{path} is no baseline: it has no schema_version; {again}")
        if version > VERSION:
            raise BaselineError(
                f"{path} is of version {version}, and this pytest-harbor reads up to {VERSION}; upgrade it"
            )
        try:
            return cls(dict(_samples(data["tasks"])), dict(data.get("run", {})))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BaselineError(f"{path} was changed by hand into what cannot be used: {error}; {again}") from error

    def write(self, path: Path) -> None:
        """Write it sorted, with a line an agent, so that a change is a small difference.

        Raises:
            OSError: it cannot be written.

        """
        tasks: dict[str, dict[str, Sample]] = {}
        for (task, agent), sample in sorted(self.samples.items()):
            tasks.setdefault(task, {})[agent] = sample
        lines = ["{", f' "schema_version": {VERSION},', f' "run": {_compact(dict(self.run))},', ' "tasks": {']
        for number, (task, agents) in enumerate(tasks.items(), 1):
            lines.append(f"  {json.dumps(task)}: {{")
            for place, (agent, sample) in enumerate(agents.items(), 1):
                comma = "," if place < len(agents) else ""
                lines.append(f"   {json.dumps(agent)}: {_compact(_plain(sample))}{comma}")
            lines.append("  }," if number < len(tasks) else "  }")
        lines += [" }", "}", ""]
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.tmp")
        scratch.write_text("\n".join(lines), encoding="utf-8")
        scratch.replace(path)

    def updated(self, other: Baseline) -> Baseline:
        """Return this one with what another has in place of its own; the rest stays."""
        return replace(self, samples={**self.samples, **other.samples}, run=other.run)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _plain(sample: Sample) -> dict[str, Any]:
    """Return a sample without what says nothing."""
    return {name: value for name, value in asdict(sample).items() if value not in ("", 0, 0.0, {}) or name == "passed"}


def _samples(tasks: Any) -> Iterable[tuple[Key, Sample]]:
    for task, agents in tasks.items():
        for agent, data in agents.items():
            where = f"{task} {agent}"
            unknown = sorted(set(data) - set(Sample.__dataclass_fields__))
            if unknown:
                raise ValueError(f"{where}: unknown key {unknown[0]!r}")
            rewards = tuple(_finite(reward, where) for reward in data["rewards"])
            known: dict[str, Any] = {
                **{name: _count(data.get(name, 0), f"{where}: {name}") for name in ("passed", "unverified", "errors")},
                **{name: str(data.get(name, "")) for name in ("digest", "image", "provider", "model")},
                "seconds": _finite(data.get("seconds", 0.0), f"{where}: seconds"),
                "usage": {
                    str(name): _finite(value, f"{where}: usage") for name, value in data.get("usage", {}).items()
                },
            }
            sample = Sample(rewards, **known)
            if sample.passed > len(rewards) or sample.unverified > len(rewards):
                raise ValueError(f"{where}: more attempts passed or are unverified than there are rewards")
            yield (task, agent), sample


def _finite(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: {value!r} is no finite number")
    return float(value)


def _count(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{where}: {value!r} is no count")
    return value

"""The result of a trial: a line of results.jsonl, and all that reports and gates work with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.usage import Usage

Outcome = Literal["passed", "failed", "unverified", "error", "skipped"]

ERROR_OUTCOMES: tuple[Outcome, ...] = ("error", "failed", "unverified")
"""What the hook pytest_harbor_error_class may return."""

SCHEMA_VERSION = 1

RUN_BUDGET = "--harbor-session-budget"
"""How `budget`, or the reason of a skipped trial, starts if the run has spent its budget."""


@dataclass
class Retry:
    """A run of the trial that ended with an infrastructure error and was retried.

    Attributes:
        phase: the phase it ended in.
        message: the error.
        directory: the directory of its files.
        usage: its model usage, which the result's `usage` does not include; None if it was not metered.

    """

    phase: str
    message: str
    directory: str
    usage: Usage | None = None

    @classmethod
    def from_json(cls, data: Any) -> Retry:
        """Read the output of `dataclasses.asdict`.

        Raises:
            TypeError: it is not a retry.
            ValueError: its usage is not valid.

        """
        usage = data.get("usage") if isinstance(data, dict) else None
        return cls(**{**data, "usage": None if usage is None else Usage.from_json(usage)})


@dataclass
class TrialResult:
    """The result of one trial; docs/results.md describes the same fields as JSON.

    Attributes:
        run: id of the run.
        task: id of the task, `<dataset>/<task directory name>`.
        category, difficulty: of the task, from [metadata] of task.toml; empty if it has none.
        agent: name of the agent.
        attempt: number of the attempt, from 1.
        outcome: `passed`, `failed`, `unverified` (graded without a usable reward), `error` (an infrastructure error,
            which says nothing about the agent) or `skipped`.
        reward: the verifier's number; 0.0 if unverified, unless that is an error; None if there is none.
        threshold: the lowest reward that passes.
        metrics: other numbers of reward.json.
        phases: seconds by phase. `stop` comes after the report, so lines of results.jsonl do not have it.
        phase: the phase that decided an outcome other than `passed`; empty if none did.
        reason: why the outcome is skipped, unverified or error, in one message; empty otherwise.
        agent_exit: the agent's exit code; None if it has none.
        agent_timed_out: whether the agent timed out.
        verifier_exit: exit code of test.sh, which does not affect the outcome.
        tests: the single tests, from the verifier's ctrf.json or else from what pytest or unittest printed.
        usage: the agent's model usage; None if the proxy was off, or the agent calls no models.
        budget: the budget of the trial that was spent; empty for none. The trial was graded as it stood.
        warnings: what a reader should know, without effect on the outcome.
        image: name, id and source of the image; with an agent's setup in it, also whether the setup was `built` or
            `cached` (`setup`), and the name of the image `below` it.
        provider: the provider of the environment.
        settings: digest of the agent and its settings, and of the cassette of a replay; empty if hooks or fixtures take
            part, or if it is not known.
        unchanged: whether the trial was skipped because nothing has changed since the baseline, whose rewards count.
        confirmation: number of the confirmation of a task that newly failed, from 1; 0 for an attempt.
        rerun: number of the rerun of its test by a plugin such as pytest-rerunfailures, from 1; 0 for the first run.
        xfail: whether the test of the trial has an xfail mark that applies.
        retries: earlier runs of the trial that ended with an infrastructure error.
        directory: the trial's directory, absolute.
        started_at: start in ISO 8601, UTC.
        finished_at: end in ISO 8601, UTC.

    """

    run: str
    task: str
    dataset: str
    task_path: str
    agent: str
    attempt: int
    outcome: Outcome = "error"
    reward: float | None = None
    threshold: float = 1.0
    metrics: dict[str, float] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    phase: str = ""
    model: str = ""
    agent_exit: int | None = None
    agent_timed_out: bool = False
    agent_note: str = ""
    verifier_exit: int | None = None
    verifier_timed_out: bool = False
    tests: InnerTests | None = None
    usage: Usage | None = None
    budget: str = ""
    warnings: list[str] = field(default_factory=list)
    image: dict[str, str] = field(default_factory=dict)
    provider: str = ""
    task_digest: str = ""
    category: str = ""
    difficulty: str = ""
    settings: str = ""
    unchanged: bool = False
    confirmation: int = 0
    rerun: int = 0
    xfail: bool = False
    retries: list[Retry] = field(default_factory=list)
    directory: str = ""
    node_id: str = ""
    started_at: str = ""
    finished_at: str = ""

    @property
    def cut_by_run(self) -> bool:
        """Whether the run's budget cut off the trial's model calls, or kept it from starting.

        The outcome then says nothing about the agent.
        """
        return self.budget.startswith(RUN_BUDGET) or self.reason.startswith(RUN_BUDGET)

    @property
    def out_of_budget(self) -> bool:
        """Whether the trial did not run because the run's budget was spent before."""
        return self.outcome == "skipped" and self.cut_by_run

    @property
    def path(self) -> Path:
        """The trial's directory."""
        return Path(self.directory)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values, as in a line of results.jsonl."""
        return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrialResult:
        """Read the output of to_json(); unknown keys are ignored.

        Raises:
            ValueError: it is not a result, or has a later schema version.

        """
        version = data.get("schema_version")
        if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
            raise ValueError(f"schema version {version!r} is not one of 1 to {SCHEMA_VERSION}")
        names, _ = _fields()
        known = {key: value for key, value in data.items() if key in names}
        try:
            known["retries"] = [Retry.from_json(retry) for retry in known.get("retries", [])]
            if known.get("tests") is not None:
                tests = dict(known["tests"])
                tests["failures"] = [InnerTest(**failure) for failure in tests["failures"]]
                known["tests"] = InnerTests(**tests)
            if known.get("usage") is not None:
                known["usage"] = Usage.from_json(known["usage"])
            result = cls(**known)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a trial result: {error}") from error
        result._check()
        return result

    def _check(self) -> None:
        """Check the types of all fields, which reports and gates rely on.

        Raises:
            ValueError: a field has the wrong type, or a value that does not exist.

        """
        _, texts = _fields()
        wrong = [name for name in texts if not isinstance(getattr(self, name), str)]
        wrong += [name for name in ("attempt", "confirmation", "rerun") if type(getattr(self, name)) is not int]
        wrong += [] if self.outcome in get_args(Outcome) else ["outcome"]
        wrong += [] if self.reward is None or _is_number(self.reward) else ["reward"]
        wrong += [] if _is_number(self.threshold) else ["threshold"]
        wrong += [name for name in ("metrics", "phases") if not _all(getattr(self, name), _is_number)]
        wrong += [] if _all(self.image, lambda value: isinstance(value, str)) else ["image"]
        if not isinstance(self.warnings, list) or not all(isinstance(warning, str) for warning in self.warnings):
            wrong.append("warnings")
        if wrong:
            raise ValueError(f"not a trial result: {wrong[0]} is {getattr(self, wrong[0])!r:.100}")


@cache
def _fields() -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of all fields of a result, and of those that hold a text."""
    fields = dataclasses.fields(TrialResult)
    return frozenset(entry.name for entry in fields), tuple(sorted(e.name for e in fields if e.type == "str"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _all(values: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(values, dict) and all(isinstance(name, str) and fits(value) for name, value in values.items())

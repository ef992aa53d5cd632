"""What a trial leaves: everything a report, a gate or a reader of results.jsonl wants to know."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.usage import Usage

Outcome = Literal["passed", "failed", "unverified", "error", "skipped"]

ERROR_OUTCOMES: tuple[Outcome, ...] = ("error", "failed", "unverified")
"""What the hook pytest_harbor_error_class may return."""

SCHEMA_VERSION = 1

RUN_BUDGET = "--harbor-session-budget"
"""What `budget`, or the reason of a trial that was skipped, begins with when the whole run has spent its budget."""


@dataclass
class Retry:
    """A try of a trial that an infrastructure error ended.

    Attributes:
        phase: the phase it ended in.
        message: the error.
        directory: where its files are.
        usage: what it used of models, which `usage` of the result does not count; None where that is not known.

    """

    phase: str
    message: str
    directory: str
    usage: Usage | None = None

    @classmethod
    def from_json(cls, data: Any) -> Retry:
        """Read what `dataclasses.asdict` made.

        Raises:
            TypeError: it is none.
            ValueError: its usage is none.

        """
        usage = data.get("usage") if isinstance(data, dict) else None
        return cls(**{**data, "usage": None if usage is None else Usage.from_json(usage)})


@dataclass
class TrialResult:
    """One trial; docs/results.md says the same of the JSON that this becomes.

    Attributes:
        run: id of the run.
        task: id of the task, `<dataset>/<task directory name>`.
        agent: name of the agent.
        attempt: number of the attempt, from 1.
        outcome: `passed`, `failed`, `unverified` (graded without a usable reward), `error` (infrastructure; says
            nothing about the agent) or `skipped`.
        reward: the verifier's number; 0.0 when unverified, unless that is an error; None when there is none.
        threshold: the lowest reward that passes.
        metrics: other numbers of reward.json.
        phases: seconds by phase that ran. `stop` follows the report: a line of results.jsonl has none.
        phase: the phase that an outcome other than `passed` comes from; empty where it comes from none.
        reason: why it was skipped, unverified or an error, in one message; empty otherwise.
        agent_exit: the agent's exit code; None when it has none.
        agent_timed_out: whether its time ran out.
        verifier_exit: exit code of test.sh, which decides nothing.
        tests: the single tests, where the verifier left a ctrf.json.
        usage: what the agent used of models; None where the proxy was off, or the agent has no use for it.
        budget: which budget of the trial was spent; empty for none. The trial was graded as it stood.
        warnings: what a reader should know and what decides nothing.
        image: name, id and source of the image; with an agent's set-up in it, also whether that was `built` or `cached`
            (`setup`), and the name of the image `below` it.
        provider: what ran the environment.
        confirmation: number of a further trial of a task that newly failed, from 1; 0 for an attempt.
        retries: earlier tries that ended with an infrastructure error.
        directory: the trial's directory, absolute.
        started_at: start in ISO 8601, UTC.
        finished_at: end likewise.

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
    confirmation: int = 0
    retries: list[Retry] = field(default_factory=list)
    directory: str = ""
    node_id: str = ""
    started_at: str = ""
    finished_at: str = ""

    @property
    def cut_by_run(self) -> bool:
        """Whether the budget of the whole run ended its calls of models, or kept it from beginning.

        What it came to says nothing about its agent then.
        """
        return self.budget.startswith(RUN_BUDGET) or self.reason.startswith(RUN_BUDGET)

    @property
    def path(self) -> Path:
        """The trial's directory."""
        return Path(self.directory)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: what a line of results.jsonl holds."""
        return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrialResult:
        """Read what to_json wrote; keys that are not known are left out.

        Raises:
            ValueError: it is no result, or one of a later version.

        """
        version = data.get("schema_version")
        if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
            raise ValueError(f"schema version {version!r} is not one of 1 to {SCHEMA_VERSION}")
        names = {entry.name for entry in dataclasses.fields(cls)}
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
            raise ValueError(f"no trial result: {error}") from error
        result._check()
        return result

    def _check(self) -> None:
        """Refuse what was not written by to_json: reports and gates rely on these types.

        Raises:
            ValueError: a field is of another type, or has a value that there is not.

        """
        texts = {entry.name for entry in dataclasses.fields(self) if entry.type == "str"}
        wrong = sorted(name for name in texts if not isinstance(getattr(self, name), str))
        wrong += [name for name in ("attempt", "confirmation") if type(getattr(self, name)) is not int]
        wrong += [] if self.outcome in get_args(Outcome) else ["outcome"]
        wrong += [] if self.reward is None or _is_number(self.reward) else ["reward"]
        wrong += [] if _is_number(self.threshold) else ["threshold"]
        wrong += [name for name in ("metrics", "phases") if not _all(getattr(self, name), _is_number)]
        wrong += [] if _all(self.image, lambda value: isinstance(value, str)) else ["image"]
        if not isinstance(self.warnings, list) or not all(isinstance(warning, str) for warning in self.warnings):
            wrong.append("warnings")
        if wrong:
            raise ValueError(f"no trial result: {wrong[0]} is {getattr(self, wrong[0])!r:.100}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _all(values: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(values, dict) and all(isinstance(name, str) and fits(value) for name, value in values.items())

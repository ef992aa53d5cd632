"""The journal of a trial: its result, kept up to date in memory and on disk while the phases run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pytest_harbor._util.unpatched import monotonic, replaced_fix, utc_now
from pytest_harbor.errors import InfrastructureError, Phase
from pytest_harbor.image.task_digest import task_digest
from pytest_harbor.task import Task, TaskError
from pytest_harbor.trial.failures import describe, error_phase, write_exception
from pytest_harbor.trial.hooks import TrialHooks
from pytest_harbor.trial.result import ERROR_OUTCOMES, Retry, TrialResult

State = Literal["running", "retried", "finished"]


@dataclass(frozen=True)
class TrialPlace:
    """Where a trial belongs.

    Attributes:
        run: id of the run.
        directory: the directory for the trial's files.
        attempt: number of the attempt, from 1.
        confirmation: number of the confirmation of a task that newly failed, from 1; 0 for an attempt.
        rerun: number of the rerun of the same test, from 1; 0 for its first run.
        node_id: node id of the trial's test; empty without pytest.

    """

    run: str
    directory: Path
    attempt: int = 1
    confirmation: int = 0
    rerun: int = 0
    node_id: str = ""


class Recorder(Protocol):
    """Writes the state and the result of trials to disk."""

    def note(self, result: TrialResult, state: State, phase: str = "") -> None:
        """Record the trial's state, and which phase it is in."""

    def append(self, result: TrialResult) -> None:
        """Record the result; it is on disk when this returns."""


class Journal:
    """Everything that is recorded of one trial.

    Args:
        task: the task.
        place: where the trial belongs.
        result: the result, as far as it is known at the start.
        hooks: hooks to call.
        recorder: writes to disk; None writes nothing.

    Attributes:
        directory: the directory of the current attempt to run the trial; a retry gets a new one.
        closed: whether the result is final.
        recorder: writes to disk; None writes nothing.

    """

    def __init__(
        self, task: Task, place: TrialPlace, result: TrialResult, hooks: TrialHooks, recorder: Recorder | None
    ) -> None:
        self.result = result
        self.directory = place.directory
        self.closed = False
        self._task = task
        self._place = place
        self._hooks = hooks
        self.recorder = recorder
        self._phase = ""

    def note(self, state: State) -> None:
        """Record the trial's state.

        Raises:
            OSError: it cannot be written.

        """
        if self.recorder:
            self.recorder.note(self.result, state, self._phase if state == "running" else "")

    def warn(self, *texts: str) -> None:
        """Add warnings to the result, each once."""
        self.result.warnings += [text for text in texts if text not in self.result.warnings]

    @contextlib.contextmanager
    def phase(self, phase: Phase, part: str = "") -> Iterator[None]:
        """Time a phase, and label the errors that leave it.

        Args:
            phase: the phase.
            part: what live progress calls this part of it, if not by the name of the phase.

        Raises:
            InfrastructureError: one left the block, or the host failed.

        """
        began = monotonic()
        self._phase = part or phase
        try:
            with error_phase(phase):
                if not self.closed and phase != "stop":
                    self.note("running")
                yield
        finally:
            spent = monotonic() - began
            self.result.phases[phase] = round(self.result.phases.get(phase, 0.0) + spent, 4)

    @contextlib.contextmanager
    def errors_as_warnings(self, where: str = "") -> Iterator[None]:
        """Turn an error into a warning, when it is too late for it to change the result."""
        try:
            yield
        except Exception as error:
            self.warn(f"{where}{type(error).__name__}: {error}")

    def start_retry(self, error: InfrastructureError) -> None:
        """Keep what the failed run of the trial left, and continue in a new directory next to it."""
        result = self.result
        result.retries.append(Retry(str(error.phase or ""), str(error), str(self.directory), result.usage))
        result.usage, result.budget = None, ""
        write_exception(error, self.directory)
        with self.errors_as_warnings():
            self.note("retried")
        result.phases = {name: seconds for name, seconds in result.phases.items() if name == "build"}
        self.directory = self._place.directory.with_name(f"{self._place.directory.name}.retry{len(result.retries)}")
        result.directory = str(self.directory)
        with self.errors_as_warnings():
            self.note("running")

    def fail(self, error: BaseException, phase: str = "") -> None:
        """Make an error the result, and close the journal.

        Args:
            error: what ended the trial.
            phase: the phase it happened in, if the error does not say.

        """
        result = self.result
        result.phase = getattr(error, "phase", None) or phase
        if not result.phase and not isinstance(error, TaskError):
            result.phase = self._phase
        result.outcome = "error"
        result.reason = describe(error)
        if isinstance(error, InfrastructureError):
            with self.errors_as_warnings("the hook pytest_harbor_error_class: "):
                decided = self._hooks.error_class(self._task, error, result.phase)
                if decided not in (None, *ERROR_OUTCOMES):
                    raise ValueError(f"it returned {decided!r}; valid are {', '.join(ERROR_OUTCOMES)}")
                result.outcome = decided or "error"
                result.reward = None if result.outcome == "error" else 0.0
        write_exception(error, self.directory)
        self.close()

    def close(self) -> None:
        """Make the result final, write it to disk, and only then report it."""
        self.closed = True
        self.result.finished_at = now()
        with self.errors_as_warnings():
            self.result.task_digest = task_digest(self._task)
            self.result.category = self._task.category or ""
            self.result.difficulty = self._task.difficulty or ""
        if self.recorder:
            try:
                self.recorder.append(self.result)
                self.note("finished")
            except Exception as error:
                # A result that is not on disk must not look like one.
                self.result.outcome = "error"
                self.result.reward = None
                cure = replaced_fix() or "check whether the disk is full"
                self.result.reason = f"the result cannot be written: {error}; {cure}"
        with self.errors_as_warnings("the hook pytest_harbor_trial_finished: "):
            self._hooks.finished(self._task, self.result)


def now() -> str:
    """Return the current time in ISO 8601, UTC, to the millisecond."""
    return utc_now().isoformat(timespec="milliseconds")

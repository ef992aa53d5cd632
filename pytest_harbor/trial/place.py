"""Where a trial belongs, and who takes its result to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pytest_harbor.trial.result import TrialResult

State = Literal["running", "retried", "finished"]


@dataclass(frozen=True)
class TrialPlace:
    """Where a trial belongs: its run, its attempt, the directory for its files, the test that it is."""

    run: str
    directory: Path
    attempt: int = 1
    node_id: str = ""


class Recorder(Protocol):
    """Takes what a trial is and what it came to, to disk."""

    def note(self, result: TrialResult, state: State, phase: str = "") -> None:
        """Keep how far the trial is, and in which phase."""

    def append(self, result: TrialResult) -> None:
        """Keep the result; on disk when this returns."""

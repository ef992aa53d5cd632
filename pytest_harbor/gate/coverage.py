"""How much of a baseline a run was compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_harbor.gate.baseline import Baseline, Key
from pytest_harbor.gate.comparison import Comparison
from pytest_harbor.gate.spec import GateSpec


@dataclass(frozen=True)
class Coverage:
    """The tasks of one agent in the baseline, and how many of them were compared.

    Attributes:
        reasons: the number of tasks that were not compared, by reason.
        whose: whose tasks they are, in words.

    """

    agent: str
    compared: int
    total: int
    reasons: Mapping[str, int]
    whose: str

    @property
    def share(self) -> float:
        """The share of the tasks that were compared."""
        return self.compared / self.total

    def shortage(self, least: float) -> str:
        """Return the message for a share that is below the least."""
        return f"{self}; at least {least:.0%} must be compared (--harbor-min-coverage)"

    def __str__(self) -> str:
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.reasons.items())
        of = f"{self.agent}: {self.compared} of {self.total} tasks {self.whose} compared"
        return f"{of}; {reasons}" if reasons else of


def coverage(
    comparison: Comparison, baseline: Baseline, spec: GateSpec, not_compared: Mapping[str, Sequence[Key]]
) -> Coverage:
    """Return how much of the baseline a comparison covers."""
    agent = comparison.agent
    known = {key for key in baseline.samples if key[1] == agent}
    missing = {reason: sum(key in known for key in keys) for reason, keys in not_compared.items()}
    reasons = {name: count for name, count in missing.items() if count}
    whose = f"of {spec.reference}" if spec.versus else "in the baseline"
    return Coverage(agent, len(comparison.pairs), len(known), reasons, whose)

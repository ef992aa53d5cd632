"""What each agent of a run achieved. Never pooled: a mean over several agents says nothing about any of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pytest_harbor.gate import samples_of
from pytest_harbor.gate.baseline import GRADED
from pytest_harbor.gate.statistics import pass_at_k, pass_hat_k
from pytest_harbor.trial import TrialResult


@dataclass(frozen=True)
class AgentRates:
    """One agent's results.

    Attributes:
        agent: name of the agent.
        results: its trials, without confirmations.
        graded: number of trials that were graded, the base of all rates.
        passed: number of trials that passed.
        mean: mean reward; None if nothing was graded.
        k: the smallest number of graded attempts at any task.
        pass_at_k: share of tasks that pass at least once in k attempts; None if k is less than 2.
        pass_hat_k: share of tasks that pass k times in k attempts; None if k is less than 2.
        seconds: mean duration of a trial; None if none was timed.

    """

    agent: str
    results: Sequence[TrialResult]
    graded: int
    passed: int
    mean: float | None
    k: int
    pass_at_k: float | None
    pass_hat_k: float | None
    seconds: float | None

    @property
    def pass_rate(self) -> float | None:
        """Share of the graded trials that passed; None if nothing was graded."""
        return self.passed / self.graded if self.graded else None

    @property
    def models(self) -> list[str]:
        """The models that it was told to use."""
        return sorted({result.model for result in self.results if result.model})

    def count(self, outcome: str) -> int:
        """Return the number of trials with an outcome."""
        return sum(result.outcome == outcome for result in self.results)


def percent(share: float | None) -> str:
    """Return a share in percent, never rounded to 0% or 100%; a dash for None."""
    if share is None:
        return "-"
    rounded = round(100 * share, 1)
    return f"{rounded if share in (0, 1) else min(max(rounded, 0.1), 99.9):.1f}%"


def rates_by_agent(results: Iterable[TrialResult]) -> list[AgentRates]:
    """Return what each agent achieved, by name. Confirmations do not count."""
    groups: dict[str, list[TrialResult]] = {}
    for result in results:
        if not result.confirmation:
            groups.setdefault(result.agent, []).append(result)
    return [_rates(agent, groups[agent]) for agent in sorted(groups)]


def _rates(agent: str, results: list[TrialResult]) -> AgentRates:
    graded = [result for result in results if result.outcome in GRADED]
    rewards = [result.reward for result in graded if result.reward is not None]
    seconds = [sum(result.phases.values()) for result in results if result.phases]
    counts = [(len(s.rewards), s.passed) for s in samples_of(results).values() if s.rewards]
    k = min((attempts for attempts, _ in counts), default=0)
    return AgentRates(
        agent,
        results,
        graded=len(graded),
        passed=sum(result.outcome == "passed" for result in graded),
        mean=fmean(rewards) if rewards else None,
        k=k,
        pass_at_k=fmean(pass_at_k(attempts, passed, k) for attempts, passed in counts) if k > 1 else None,
        pass_hat_k=fmean(pass_hat_k(attempts, passed, k) for attempts, passed in counts) if k > 1 else None,
        seconds=fmean(seconds) if seconds else None,
    )

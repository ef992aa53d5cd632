"""Decisions between rounds of attempts: stop as soon as the verdict is clear.

The significance level is divided among the rounds, so that looking often does not raise more false alarms
(Bonferroni's inequality). benchmarks/gate.py measures it, and how many rounds are saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.comparison import Comparison, compare_all, has_regressed, is_large
from pytest_harbor.gate.spec import GateSpec

# The shares of alpha for the first two rounds, which see most breakage, and for all others together.
FIRST_SHARES, REST = (0.12, 0.12), 0.64
# An agent passes from the second round on if its mean did not fall by `drop` and the p-value is at least this, from the
# third if it is at least LATER whatever the mean, and after the last unless it is below LAST and the mean fell.
FIRST_PASS, PASS = 2, 0.25
LATER_PASS, LATER = 3, 0.15
LAST = 0.1


@dataclass(frozen=True)
class Rounds:
    """How many attempts each task had, of how many it may have.

    Attributes:
        done: complete rounds, from 1.
        most: the largest number of rounds.

    """

    done: int
    most: int

    def adjust(self, spec: GateSpec) -> GateSpec:
        """Return the rule with the part of alpha that this round may spend."""
        if self.most == 1:
            return spec
        first = self.done <= len(FIRST_SHARES)
        share = FIRST_SHARES[self.done - 1] if first else REST / (self.most - len(FIRST_SHARES))
        return replace(spec, alpha=spec.alpha * share)

    def passes(self, comparison: Comparison, spec: GateSpec) -> bool:
        """Return True if an agent that has not regressed is good enough for no more attempts to be needed."""
        large = is_large(comparison, spec)
        if self.done >= self.most:
            return not large or comparison.p_value >= LAST
        if self.done >= LATER_PASS and comparison.p_value >= LATER:
            return True
        return self.done >= FIRST_PASS and not large and comparison.p_value >= PASS


def decide(
    run: Mapping[Key, Sample], baseline: Baseline, spec: GateSpec, rounds: Rounds
) -> Literal["regressed", "pass"] | None:
    """Return the verdict if more attempts would hardly change it, or None to go on.

    Args:
        run: the samples of complete rounds.
        baseline: the baseline to compare with.
        spec: the rule; only its comparison of rewards is looked at.
        rounds: the round that is complete.

    """
    adjusted = rounds.adjust(spec)
    comparisons = compare_all(run, baseline, adjusted, {})
    if any(has_regressed(each, adjusted) for each in comparisons):
        return "regressed"
    return "pass" if comparisons and all(rounds.passes(each, adjusted) for each in comparisons) else None

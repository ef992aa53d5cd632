"""Verdicts on runs: pure functions from rewards to what a CI job should conclude."""

from pytest_harbor.gate.baseline import Baseline, BaselineError, Key, Sample, SampleRun
from pytest_harbor.gate.comparison import Comparison, Pair
from pytest_harbor.gate.pooling import check_same
from pytest_harbor.gate.samples import baseline_of, confirmations_of, samples_of
from pytest_harbor.gate.saving import save_baseline
from pytest_harbor.gate.spec import GateSpec
from pytest_harbor.gate.verdict import INCONCLUSIVE, MIN_COVERAGE, NOT_JUDGED, Limit, Verdict, judge, unknown_agents

__all__ = [
    "INCONCLUSIVE",
    "MIN_COVERAGE",
    "NOT_JUDGED",
    "Baseline",
    "BaselineError",
    "Comparison",
    "GateSpec",
    "Key",
    "Limit",
    "Pair",
    "Sample",
    "SampleRun",
    "Verdict",
    "baseline_of",
    "check_same",
    "confirmations_of",
    "judge",
    "samples_of",
    "save_baseline",
    "unknown_agents",
]

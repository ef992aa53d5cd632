"""Verdicts on runs: pure functions from rewards to what a CI job should conclude."""

from pytest_harbor.gate.baseline import Baseline, BaselineError, Key, Sample, SampleRun
from pytest_harbor.gate.comparison import Comparison, Pair
from pytest_harbor.gate.groups import Labels, empty_groups, labels_of, parse_gate
from pytest_harbor.gate.pooling import check_same
from pytest_harbor.gate.rises import Rise
from pytest_harbor.gate.rounds import in_rounds, with_rounds
from pytest_harbor.gate.samples import (
    baseline_of,
    confirmations_of,
    joint_settings,
    samples_of,
    samples_taken,
    uncounted_tests,
)
from pytest_harbor.gate.saving import save_baseline
from pytest_harbor.gate.sequential import Rounds, decide
from pytest_harbor.gate.spec import GateSpec, Group
from pytest_harbor.gate.verdict import INCONCLUSIVE, MIN_COVERAGE, NOT_JUDGED, Limit, Verdict, judge, unknown_agents
from pytest_harbor.gate.versus import versus_problem

__all__ = [
    "INCONCLUSIVE",
    "MIN_COVERAGE",
    "NOT_JUDGED",
    "Baseline",
    "BaselineError",
    "Comparison",
    "GateSpec",
    "Group",
    "Key",
    "Labels",
    "Limit",
    "Pair",
    "Rise",
    "Rounds",
    "Sample",
    "SampleRun",
    "Verdict",
    "baseline_of",
    "check_same",
    "confirmations_of",
    "decide",
    "empty_groups",
    "in_rounds",
    "joint_settings",
    "judge",
    "labels_of",
    "parse_gate",
    "samples_of",
    "samples_taken",
    "save_baseline",
    "uncounted_tests",
    "unknown_agents",
    "versus_problem",
    "with_rounds",
]

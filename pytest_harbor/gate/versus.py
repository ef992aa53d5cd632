"""Agents of one run compared with one of them, whose samples take the place of a baseline."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import replace

from pytest_harbor._util.text import listed
from pytest_harbor.gate.baseline import Baseline, Key, Sample

# The most names of agents in a message.
_MAX_NAMES = 8


def divide(run: Mapping[Key, Sample], name: str) -> tuple[dict[Key, Sample], Baseline]:
    """Return the samples of the other agents, and a baseline for each of them: what the named agent did."""
    others = {key: sample for key, sample in run.items() if key[1] != name}
    agents = {agent for _, agent in others}
    return others, Baseline(
        {(task, agent): sample for (task, own), sample in run.items() if own == name for agent in agents}
    )


def at_worst(sample: Sample, *, named: bool) -> Sample:
    """Return a sample as if its excluded trials had failed, or passed if it is of the named agent."""
    reward = max([sample.threshold, *sample.rewards]) if named else 0.0
    passed = sample.passed + (sample.errors if named else 0)
    return replace(sample, rewards=(*sample.rewards, *(reward,) * sample.errors), passed=passed, errors=0)


def versus_problem(name: str, agents: Collection[str]) -> str:
    """Return why the agents of a run cannot be compared with one of them, with the fix; an empty text if they can."""
    if name not in agents:
        near = difflib.get_close_matches(name, agents, n=1, cutoff=0.6)
        fix = f"did you mean {near[0]}?" if near else f"its agents are {listed(sorted(agents), _MAX_NAMES) or 'none'}"
        return f"this run has no agent {name}; {fix}"
    if len(agents) < 2:
        return f"{name} is the only agent of this run; add the agent that is to be compared with it"
    return ""

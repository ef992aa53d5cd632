"""Statistics over several attempts at each task: pass@k, pass^k, the mean reward with its interval, flaky tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.gate import Key, Sample
from pytest_harbor.gate.statistics import mean_interval, pass_at_k, pass_hat_k, reward_range

MAX_NAMES = 10


def lines(run: Mapping[Key, Sample], *, flaky: bool = True) -> list[str]:
    """Return a line or two per agent; none for an agent with a single attempt at some task.

    k is the smallest number of graded attempts at any task.

    Args:
        run: the samples.
        flaky: whether to list the tasks that both passed and failed.

    """
    lines = []
    for agent in sorted({agent for _, agent in run}):
        samples = {task: sample for (task, name), sample in sorted(run.items()) if name == agent and sample.rewards}
        k = min((len(sample.rewards) for sample in samples.values()), default=0)
        if k < 2:
            continue
        lines.append(f"{one_line(agent)}: {_rates(list(samples.values()), k)}; {_mean(list(samples.values()))}")
        names = [one_line(task) for task, sample in samples.items() if 0 < sample.passed < len(sample.rewards)]
        if flaky and names:
            lines.append(f"{one_line(agent)}: {plural(len(names), 'flaky task')}: {listed(names, MAX_NAMES)}")
    return lines


def _rates(samples: list[Sample], k: int) -> str:
    counts = [(len(sample.rewards), sample.passed) for sample in samples]
    first = fmean(pass_at_k(attempts, passed, 1) for attempts, passed in counts)
    any_of = fmean(pass_at_k(attempts, passed, k) for attempts, passed in counts)
    all_of = fmean(pass_hat_k(attempts, passed, k) for attempts, passed in counts)
    return f"pass@1 {first:.1%}, pass@{k} {any_of:.1%}, pass^{k} {all_of:.1%}"


def _mean(samples: list[Sample]) -> str:
    means = [sample.mean for sample in samples]
    possible = reward_range(reward for sample in samples for reward in sample.rewards)
    low, high = mean_interval(means, bounds=possible)
    interval = f", 95% interval {low:.3f} to {high:.3f}" if math.isfinite(low) and low < high else ""
    return f"mean reward {fmean(means):.3f} over {plural(len(means), 'task')}{interval}"

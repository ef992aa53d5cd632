"""What several attempts at each task say: pass@k, pass^k, the mean reward with its interval, and flaky tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from pytest_harbor._util.text import one_line
from pytest_harbor.gate import Key, Sample
from pytest_harbor.gate.statistics import mean_interval, pass_at_k, pass_hat_k

MANY_NAMES = 10


def lines(run: Mapping[Key, Sample], *, flaky: bool = True) -> list[str]:
    """Return a line or two an agent; none for an agent with a single attempt at a task.

    k is the least number of graded attempts that a task has.

    Args:
        run: the samples.
        flaky: whether tasks that passed and failed are named here.

    """
    said = []
    for agent in sorted({agent for _, agent in run}):
        samples = {task: sample for (task, name), sample in sorted(run.items()) if name == agent and sample.rewards}
        k = min((len(sample.rewards) for sample in samples.values()), default=0)
        if k < 2:
            continue
        said.append(f"{one_line(agent)}: {_rates(list(samples.values()), k)}; {_mean(list(samples.values()))}")
        names = [one_line(task) for task, sample in samples.items() if 0 < sample.passed < len(sample.rewards)]
        if flaky and names:
            more = f" and {len(names) - MANY_NAMES} more" if len(names) > MANY_NAMES else ""
            said.append(f"{one_line(agent)}: flaky ({len(names)}): {', '.join(names[:MANY_NAMES])}{more}")
    return said


def _rates(samples: list[Sample], k: int) -> str:
    counts = [(len(sample.rewards), sample.passed) for sample in samples]
    first = fmean(pass_at_k(whole, passed, 1) for whole, passed in counts)
    any_of = fmean(pass_at_k(whole, passed, k) for whole, passed in counts)
    all_of = fmean(pass_hat_k(whole, passed, k) for whole, passed in counts)
    return f"pass@1 {first:.1%}, pass@{k} {any_of:.1%}, pass^{k} {all_of:.1%}"


def _mean(samples: list[Sample]) -> str:
    means = [sample.mean for sample in samples]
    low, high = mean_interval(means)
    tasks = f"{len(means)} task{'' if len(means) == 1 else 's'}"
    interval = f", 95% interval {low:.3f} to {high:.3f}" if math.isfinite(low) else ""
    return f"mean reward {fmean(means):.3f} over {tasks}{interval}"

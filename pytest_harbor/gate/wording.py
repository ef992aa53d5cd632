"""What the comparison of an agent with the baseline says, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_harbor._util.text import listed, plural
from pytest_harbor.gate.comparison import Comparison, has_regressed, is_large, is_significant
from pytest_harbor.gate.permutation import SMALLEST
from pytest_harbor.gate.significance import flipped
from pytest_harbor.gate.spec import GateSpec

# The most names of agents or tasks in a message.
MAX_NAMES = 5
# The share of tasks from which a drop looks common to all.
COMMON_SHIFT = 0.5


def worse(comparison: Comparison, spec: GateSpec) -> list[str]:
    """Return how an agent regressed."""
    if not has_regressed(comparison, spec):
        return []
    reasons = []
    if comparison.flips:
        why = "any such change counts" if spec.flip else "model calls were replayed, so any such change counts"
        named = listed(comparison.flips, MAX_NAMES)
        reasons.append(f"{comparison.agent}: worse in every attempt at {named}; {why}")
    if not spec.drops or not is_significant(comparison, spec):
        return reasons
    if is_large(comparison, spec):
        significant = f"statistically significant ({_p(comparison.p_value)})"
        reasons.append(f"{_describe(comparison)}, {significant}{_shape(comparison)}")
    if tasks := [pair.task for pair in comparison.pairs if pair.significant]:
        got = f"{plural(len(tasks), 'task')} got worse, more than chance explains"
        reasons.append(f"{comparison.agent}: {got} ({_p(comparison.p_value)}): {listed(tasks, MAX_NAMES)}")
    return reasons


def undecided(comparison: Comparison, spec: GateSpec) -> list[str]:
    """Return why it is not clear whether an agent got worse."""
    if comparison.settled or is_significant(comparison, spec) or not spec.drops:
        return []
    found = comparison.significance
    if (
        found.attempts == "alike"
        and found.naive <= spec.alpha
        and not comparison.improvements
        and any(flipped(pair.before, pair.after) for pair in comparison.pairs)
    ):
        more, flip = "more runs in the baseline would settle it", "the rule flip if the agent is deterministic"
        fix = f"{flip} would settle it" if spec.versus else f"{more}, or {flip}"
        return [f"{_describe(comparison)}, not statistically significant ({_p(found.p_value)}); {fix}"]
    if not is_large(comparison, spec):
        return []
    advice = f"; {comparison.advice}" if comparison.advice else ""
    return [f"{_describe(comparison)}, not statistically significant ({_p(comparison.p_value)}){advice}"]


def good_rewards(comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    """Return what a rule says of the rewards of agents that did not get worse."""
    if spec.drops:
        return [f"{_describe(each)}, {_p(each.p_value)}; {_largest_unseen(each, spec)}" for each in comparisons]
    none = "none of {} got worse in every attempt"
    return [f"{each.agent}: {none.format(plural(len(each.pairs), 'task'))}" for each in comparisons if spec.flip]


def _largest_unseen(comparison: Comparison, spec: GateSpec) -> str:
    """Return what a pass says of the drop: which size it may still have."""
    if is_large(comparison, spec):
        return "chance explains it well"
    significant = is_significant(comparison, spec)
    drop = f"a significant drop, but below {spec.drop:g}" if significant else f"no drop of {spec.drop:g} or more"
    low = comparison.interval[0]
    hidden = math.isfinite(low) and low <= -spec.drop
    return f"{drop}; a drop of up to {-low:.3f} is not ruled out" if hidden else drop


def _describe(comparison: Comparison) -> str:
    low, high = comparison.interval
    tasks = plural(len(comparison.pairs), "task")
    means = f"{comparison.before:.3f} -> {comparison.after:.3f}"
    versus = next((f" against {pair.reference}" for pair in comparison.pairs if pair.versus), "")
    change = f"{comparison.agent}: mean reward change {comparison.estimate:+.3f}{versus} over {tasks} ({means})"
    return f"{change}, 95% interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) and low < high else change


def _shape(comparison: Comparison) -> str:
    """Return what a drop looks like if it is not of some tasks: a shift of all."""
    fell, rose = len(comparison.regressions), len(comparison.improvements)
    if any(pair.significant for pair in comparison.pairs) or fell < max(COMMON_SHIFT * len(comparison.pairs), 2 * rose):
        return ""
    return f"; {fell} of {plural(len(comparison.pairs), 'task')} fell, as when a model or its provider is worse"


def _p(value: float) -> str:
    return f"p < {SMALLEST:.0e}" if value <= SMALLEST else f"p = {value:.2g}"


def dependent_attempts(comparisons: Iterable[Comparison]) -> list[str]:
    """Return for which agents the attempts of a run do not count one by one."""
    return [
        f"{each.agent}: the attempts of each run are alike or depend on one another, so they count as one per task"
        for each in comparisons
        if each.significance.attempts == "alike" and each.significance.p_value != each.significance.naive
    ]


def other_models(comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    """Return which agents ran with another model than before, which is not wrong, but explains a change."""
    whose = f"{spec.reference}:" if spec.versus else "in the baseline"
    notes = []
    for comparison in comparisons:
        before = sorted({pair.before.model or "unknown" for pair in comparison.pairs})
        after = sorted({pair.after.model or "unknown" for pair in comparison.pairs})
        if before != after:
            models = f"model {listed(after, MAX_NAMES)}, {whose} {listed(before, MAX_NAMES)}"
            notes.append(f"{comparison.agent}: {models}")
    return notes


def other_settings(comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    """Return which agents are of another version than in the baseline, or have other settings, as far as known."""
    notes = []
    for each in () if spec.versus else comparisons:
        known = [(pair.before.settings, pair.after.settings) for pair in each.pairs]
        if others := sum(bool(before and after) and before != after for before, after in known):
            of = f"{others} of {plural(len(known), 'task')}"
            notes.append(f"{each.agent}: the agent or its settings have changed since the baseline ({of})")
    return notes

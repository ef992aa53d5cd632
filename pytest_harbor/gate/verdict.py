"""The verdict on a run: `pass`, `regressed` or `inconclusive`, with its reasons.

A run has regressed if its mean reward dropped by at least `drop` and the drop is statistically significant, or if that
holds for a single task. With few attempts, Fisher's exact test raises far fewer false alarms than its level allows, so
both tests together stay below alpha; benchmarks/gate.py measures it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_harbor._util.text import listed, plural
from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.comparison import Comparison, compare_all, fewest_tasks, is_large, is_significant
from pytest_harbor.gate.spec import GateSpec

Word = Literal["pass", "regressed", "inconclusive"]

INCONCLUSIVE = 10
"""The exit status of an inconclusive run; pytest's own exit statuses end at 5."""

# The most names of agents in a message.
MAX_NAMES = 5


@dataclass(frozen=True)
class Limit:
    """The most trials that may go without a meaningful reward: a number, or a share of all trials."""

    value: float = 0.1
    share: bool = True

    def is_exceeded(self, number: int, total: int) -> bool:
        """Return True if a number of trials out of a total is too many."""
        return number > (self.value * total if self.share else self.value)

    def __str__(self) -> str:
        return f"{self.value:.0%}" if self.share else f"{self.value:g}"

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Parse `3` as a number of trials, `0.1` or `10%` as a share.

        Raises:
            ValueError: the text is neither; the message shows what is valid.

        """
        if re.fullmatch(r"[0-9]{1,9}", text):
            return cls(int(text), share=False)
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%|(0?\.[0-9]+|1\.0+)", text)
        value = (float(match[1]) / 100 if match[1] else float(match[2])) if match else -1.0
        if not 0 <= value <= 1:
            raise ValueError("use a number of trials such as 3, or a share such as 0.1 or 10%")
        return cls(value)


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reasons.

    Attributes:
        reasons: the reasons, the decisive one first.
        comparisons: one per agent that could be compared.
        not_compared: the tasks that could not be compared, by reason.
        flaky: tasks that both passed and failed in this run.

    """

    word: Word
    reasons: tuple[str, ...]
    spec: GateSpec
    comparisons: tuple[Comparison, ...] = ()
    not_compared: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)
    flaky: tuple[Key, ...] = ()

    def exit_status(self, inconclusive: Literal["fail", "pass"]) -> int:
        """Return the exit status for the verdict.

        Args:
            inconclusive: `fail` exits with 10 for an inconclusive verdict, `pass` with 0.

        """
        return {"pass": 0, "regressed": 1, "inconclusive": INCONCLUSIVE if inconclusive == "fail" else 0}[self.word]


def judge(
    run: Mapping[Key, Sample],
    baseline: Baseline | None,
    spec: GateSpec,
    limit: Limit | None = None,
    stopped: str = "",
    doubts: Sequence[str] = (),
) -> Verdict:
    """Judge a run.

    Args:
        run: the samples of the run.
        baseline: the baseline to compare with; None if the rule needs none.
        spec: the rule.
        limit: the most infrastructure errors, and the most unverified trials, before the run is inconclusive. None for
            the default, with which the excluded trials must not decide either.
        stopped: why the run ended early; empty if it did not.
        doubts: other reasons why the run is inconclusive.

    """
    not_compared: dict[str, list[Key]] = {}
    if baseline is not None:
        spec = replace(spec, compares=True)
    comparisons = compare_all(run, baseline, spec, not_compared)
    regressed = _all_regressions(run, comparisons, spec)
    early_end = [f"the run was stopped: {stopped}"] if stopped else []
    unsure = [*early_end, *doubts, *_missing_data(run, limit or Limit())]
    unsure += _not_measured(run, baseline, spec, {each.agent for each in comparisons})
    if not (unsure or regressed or limit):
        unsure += _hidden_by_errors(run, baseline, spec)
    undecided = [reason for each in comparisons for reason in _undecided(each, spec)]
    word: Word = "inconclusive" if unsure else "regressed" if regressed else "inconclusive" if undecided else "pass"
    reasons = [*unsure, *(regressed or undecided)] or _pass_reasons(run, comparisons, spec)
    return Verdict(
        word,
        (*reasons, *_excluded(run), *_other_models(comparisons)),
        spec,
        tuple(comparisons),
        {reason: tuple(keys) for reason, keys in not_compared.items()},
        tuple(key for key, sample in sorted(run.items()) if 0 < sample.passed < len(sample.rewards)),
    )


def _all_regressions(run: Mapping[Key, Sample], comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    return [*_broken_rules(run, spec), *(reason for each in comparisons for reason in _regressions(each, spec))]


def _hidden_by_errors(run: Mapping[Key, Sample], baseline: Baseline | None, spec: GateSpec) -> list[str]:
    """Return why the run only passes because trials are excluded; it must not regress even if all of those failed."""
    if not any(sample.errors for sample in run.values()):
        return []
    worst = {
        key: replace(sample, rewards=(*sample.rewards, *(0.0,) * sample.errors), errors=0)
        for key, sample in run.items()
    }
    reasons = _all_regressions(worst, compare_all(worst, baseline, spec, {}), spec)
    return [f"excluded trials decide: had they failed, the run would have regressed ({reasons[0]})"] if reasons else []


def _regressions(comparison: Comparison, spec: GateSpec) -> list[str]:
    reasons = []
    if is_large(comparison, spec) and is_significant(comparison, spec):
        reasons.append(f"{_describe(comparison)}, statistically significant (p = {comparison.p_value:.2g})")
    tasks = [pair.task for pair in comparison.pairs if pair.significant]
    if tasks:
        reasons.append(f"{comparison.agent}: statistically significant drop on {', '.join(tasks)}")
    return reasons


def _undecided(comparison: Comparison, spec: GateSpec) -> list[str]:
    if not is_large(comparison, spec) or is_significant(comparison, spec):
        return []
    advice, fewest = "", fewest_tasks(spec)
    if comparison.attempts:
        advice = f"; about {comparison.attempts} attempts per task would settle it"
        if min(len(pair.before.rewards) for pair in comparison.pairs) < comparison.attempts:
            advice += " (in the baseline, too)"
    elif len(comparison.pairs) < fewest:
        advice = f"; a mean over fewer than {fewest} tasks cannot settle it"
    return [f"{_describe(comparison)}, not statistically significant (p = {comparison.p_value:.2g}){advice}"]


def _describe(comparison: Comparison) -> str:
    low, high = comparison.interval
    tasks = plural(len(comparison.pairs), "task")
    means = f"{comparison.before:.3f} -> {comparison.after:.3f}"
    change = f"{comparison.agent}: mean reward change {comparison.estimate:+.3f} over {tasks} ({means})"
    return f"{change}, 95% interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) and low < high else change


def _pass_reasons(run: Mapping[Key, Sample], comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    graded, passed = _count(run)
    reasons = [f"{_describe(each)}, p = {each.p_value:.2g}; no drop of {spec.drop:g} or more" for each in comparisons]
    if spec.pass_rate is not None:
        reasons.append(f"pass rate {passed / graded:.1%} ({passed} of {graded}), at least {spec.pass_rate:.1%}")
    return [*reasons, f"all {plural(graded, 'graded trial')} passed"] if spec.each else reasons


def _count(run: Mapping[Key, Sample]) -> tuple[int, int]:
    """Return how many trials were graded, apart from expected failures, and how many of those passed."""
    graded = sum(len(sample.rewards) - sample.expected for sample in run.values())
    return graded, sum(sample.passed for sample in run.values())


def _excluded(run: Mapping[Key, Sample]) -> list[str]:
    """Return which trials do not count, as nobody should have to look for them."""
    errors = {task: sample.errors for (task, _), sample in sorted(run.items()) if sample.errors}
    if not errors:
        return []
    excluded = sum(sample.errors for sample in run.values())
    total = excluded + sum(len(sample.rewards) for sample in run.values())
    trials = f"{excluded} of {plural(total, 'trial')}"
    return [f"excluded: {trials} ended with an infrastructure error ({listed(list(errors), MAX_NAMES)})"]


def _not_measured(
    run: Mapping[Key, Sample], baseline: Baseline | None, spec: GateSpec, compared: Set[str]
) -> list[str]:
    """Return what the rule asks for and the run does not answer; a run never passes because nothing was measured."""
    counts = spec.pass_rate is not None or spec.each
    if counts and any(sample.expected for sample in run.values()) and not _count(run)[0]:
        return ["every graded trial was expected to fail"]
    if baseline is None:
        return ["there is no baseline to compare with"] if spec.needs_baseline else []
    agents = {agent for _, agent in run}
    known = agents & set(baseline.agents)
    reasons = unknown_agents(agents, baseline)
    if not compared:
        return [": ".join(["no task of this run can be compared with the baseline", *reasons][:2])]
    rest = sorted(known - compared)
    return [*reasons, *(f"no task of agent {agent} can be compared with the baseline" for agent in rest)]


def unknown_agents(agents: Set[str], baseline: Baseline) -> list[str]:
    """Return a message for each agent that is not in the baseline, with the fix if it may have been renamed."""
    unknown = sorted(agents - set(baseline.agents))
    others = [agent for agent in baseline.agents if agent not in agents]
    has = f"the baseline has {'agent' if len(baseline.agents) == 1 else 'agents'} {listed(baseline.agents, MAX_NAMES)}"
    fix = "; --harbor-update-baseline adds it"
    if others and len(agents) == 1:
        name = others[0] if len(others) == 1 else "NAME"
        fix = f"; --harbor-agent-name={name} compares with {'it' if len(baseline.agents) == 1 else 'one of them'}"
    return [f"agent {agent} is not in the baseline; {has}{fix}" for agent in unknown]


def _broken_rules(run: Mapping[Key, Sample], spec: GateSpec) -> list[str]:
    """Return how the run breaks the parts of the rule that need no baseline."""
    graded, passed = _count(run)
    reasons = []
    if spec.pass_rate is not None and graded and passed / graded < spec.pass_rate - 1e-9:
        reasons.append(
            f"pass rate {passed / graded:.1%} ({passed} of {graded}), below the required {spec.pass_rate:.1%}"
        )
    if spec.each and passed < graded:
        reasons.append(f"{graded - passed} of {graded} trials did not pass; the rule requires each to pass")
    return reasons


def _other_models(comparisons: Iterable[Comparison]) -> list[str]:
    """Return which agents ran with another model than in the baseline, which is not wrong, but explains a change."""
    notes = []
    for comparison in comparisons:
        before = sorted({pair.before.model or "unknown" for pair in comparison.pairs})
        after = sorted({pair.after.model or "unknown" for pair in comparison.pairs})
        if before != after:
            models = f"model {listed(after, MAX_NAMES)}, in the baseline {listed(before, MAX_NAMES)}"
            notes.append(f"{comparison.agent}: {models}")
    return notes


def _missing_data(run: Mapping[Key, Sample], limit: Limit) -> list[str]:
    """Return why the run has too few meaningful rewards to judge."""
    errors = sum(sample.errors for sample in run.values())
    unverified = sum(sample.unverified for sample in run.values())
    total = errors + sum(len(sample.rewards) for sample in run.values())
    if not total:
        return ["no trial ran"]
    reasons = []
    for number, what in ((errors, "infrastructure errors"), (unverified, "unverified")):
        if limit.is_exceeded(number, total):
            reasons.append(f"{number} of {total} trials are {what}, more than the limit of {limit}")
    graded = {agent for (_, agent), sample in run.items() if sample.rewards}
    if not reasons:
        missing = sorted({agent for _, agent in run} - graded)
        reasons += [f"no trial of agent {agent} was graded" for agent in missing] if graded else ["no trial was graded"]
    return reasons

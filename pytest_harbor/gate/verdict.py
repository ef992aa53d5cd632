"""The verdict on a run: `pass`, `regressed`, `inconclusive` or `not judged`, with its reasons.

An agent has regressed if its rewards fell, chance does not explain it, and it matters: the mean reward fell by at
least `drop`, or tasks got worse by at least that much, more of them than chance explains. benchmarks/gate.py measures
how often that is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_harbor._util.text import listed, plural
from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.comparison import Comparison, compare_all, is_large, is_significant
from pytest_harbor.gate.coverage import coverage
from pytest_harbor.gate.groups import part_of
from pytest_harbor.gate.permutation import SMALLEST
from pytest_harbor.gate.rises import find_rises
from pytest_harbor.gate.significance import flipped
from pytest_harbor.gate.spec import GateSpec, Word

# The worst first.
WORST: tuple[Word, ...] = ("regressed", "not judged", "inconclusive", "pass")

INCONCLUSIVE = 10
"""The exit status of a run that is not significantly worse, and not good enough; pytest's own end at 5."""

NOT_JUDGED = 11
"""The exit status of a run that was not measured well enough to judge."""

MIN_COVERAGE = 0.8
"""The least share of an agent's tasks in the baseline that must be compared, unless an option says otherwise."""

# The most names of agents or tasks in a message.
MAX_NAMES = 5
# The share of tasks from which a drop looks common to all.
COMMON_SHIFT = 0.5


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
            inconclusive: `fail` exits with 10 for an inconclusive verdict, `pass` with 0. A run that was not judged
                exits with 11 either way.

        """
        undecided = INCONCLUSIVE if inconclusive == "fail" else 0
        return {"pass": 0, "regressed": 1, "inconclusive": undecided, "not judged": NOT_JUDGED}[self.word]


def judge(
    run: Mapping[Key, Sample],
    baseline: Baseline | None,
    spec: GateSpec,
    limit: Limit | None = None,
    stopped: str = "",
    doubts: Sequence[str] = (),
    min_coverage: float | None = None,
) -> Verdict:
    """Judge a run: all tasks, then each group; the worst word counts.

    Args:
        run: the samples of the run.
        baseline: the baseline to compare with; None if the rule needs none.
        spec: the rule.
        limit: the most infrastructure errors, and the most unverified trials, before the run is not judged. None for
            the default, with which the excluded trials must not decide either.
        stopped: why the run ended early; empty if it did not.
        doubts: other reasons why the run cannot be judged.
        min_coverage: the least share of an agent's tasks in the baseline that must be compared; MIN_COVERAGE if None.

    """
    least = MIN_COVERAGE if min_coverage is None else min_coverage
    unsure = [*([f"the run was stopped: {stopped}"] if stopped else []), *doubts]
    verdict, notes = _judge_part(run, baseline, spec, limit, unsure, least)
    words, rows = [verdict.word], [(verdict.word, reason) for reason in verdict.reasons]
    for group in spec.groups:
        part, _ = _judge_part(*part_of(group, run, baseline), group.rule, limit, unsure, least)
        words.append(part.word)
        own = [reason for reason in part.reasons if reason not in verdict.reasons]
        rows.append((part.word, "; ".join([f"{group.name} ({group.rule}): {part.word}", *own])))
    word = min(words, key=WORST.index)
    # The decisive reasons first.
    rows.sort(key=lambda row: row[0] != word)
    return replace(verdict, word=word, reasons=(*(reason for _, reason in rows), *notes))


def _judge_part(
    run: Mapping[Key, Sample],
    baseline: Baseline | None,
    spec: GateSpec,
    limit: Limit | None,
    unsure: Sequence[str],
    least: float,
) -> tuple[Verdict, list[str]]:
    """Return the verdict on some tasks, and what else a reader should know."""
    not_compared: dict[str, list[Key]] = {}
    if baseline is not None:
        spec = replace(spec, compares=True)
    comparisons = compare_all(run, baseline, spec, not_compared)
    coverages = [coverage(each, baseline, not_compared) for each in comparisons] if baseline else []
    rises = [rise for each in comparisons for rise in find_rises(each, spec, least)]
    rows = {word: [str(rise) for rise in rises if rise.word == word] for word in WORST}
    certain = [*_regressions(run, comparisons, spec), *rows["regressed"]]
    uncertain = _low_pass_rate(run, spec)
    unsure = [
        *unsure,
        *_missing_data(run, limit or Limit()),
        *_not_measured(run, baseline, spec, {each.agent for each in comparisons}),
        *(each.shortage(least) for each in coverages if each.share < least),
        *rows["not judged"],
    ]
    if not (unsure or certain or uncertain or limit):
        unsure += _hidden_by_errors(run, baseline, spec)
    undecided = [*(reason for each in comparisons for reason in _undecided(each, spec)), *rows["inconclusive"]]
    word: Word
    if certain or (uncertain and not unsure):
        word, reasons = "regressed", [*certain, *uncertain, *unsure]
    elif unsure:
        word, reasons = "not judged", [*unsure, *uncertain, *undecided]
    elif undecided:
        word, reasons = "inconclusive", undecided
    else:
        word, reasons = "pass", _pass_reasons(run, comparisons, spec)
    if rises:
        # A limit that decides says nothing about the rewards.
        good = [each for each in comparisons if not (_worse(each, spec) or _undecided(each, spec))]
        reasons += [row for row in (*undecided, *_good_rewards(good, spec)) if row not in reasons]
    reasons += [row for word in WORST for row in rows[word] if row not in reasons]
    verdict = Verdict(
        word,
        tuple(reasons),
        spec,
        tuple(comparisons),
        {reason: tuple(keys) for reason, keys in not_compared.items()},
        tuple(key for key, sample in sorted(run.items()) if 0 < sample.passed < len(sample.rewards)),
    )
    incomplete = [str(each) for each in coverages if least <= each.share < 1]
    return verdict, [*incomplete, *_excluded(run), *_dependent(comparisons), *_other_models(comparisons)]


def _regressions(run: Mapping[Key, Sample], comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    """Return the regressions that are certain, however much of the run is missing."""
    graded, passed = _count(run)
    reasons = []
    if spec.each and passed < graded:
        reasons.append(f"{graded - passed} of {graded} trials did not pass; the rule requires each to pass")
    return [*reasons, *(reason for each in comparisons for reason in _worse(each, spec))]


def _low_pass_rate(run: Mapping[Key, Sample], spec: GateSpec) -> list[str]:
    graded, passed = _count(run)
    if spec.pass_rate is None or not graded or passed / graded >= spec.pass_rate - 1e-9:
        return []
    return [f"pass rate {passed / graded:.1%} ({passed} of {graded}), below the required {spec.pass_rate:.1%}"]


def _hidden_by_errors(run: Mapping[Key, Sample], baseline: Baseline | None, spec: GateSpec) -> list[str]:
    """Return why the run only passes because trials are excluded; it must not regress even if all of those failed."""
    if not any(sample.errors for sample in run.values()):
        return []
    worst = {
        key: replace(sample, rewards=(*sample.rewards, *(0.0,) * sample.errors), errors=0)
        for key, sample in run.items()
    }
    comparisons = compare_all(worst, baseline, spec, {})
    reasons = [*_regressions(worst, comparisons, spec), *_low_pass_rate(worst, spec)]
    return [f"excluded trials decide: had they failed, the run would have regressed ({reasons[0]})"] if reasons else []


def _worse(comparison: Comparison, spec: GateSpec) -> list[str]:
    """Return how an agent regressed."""
    if not is_significant(comparison, spec) or not (spec.drops or spec.flip):
        return []
    tasks = [pair.task for pair in comparison.pairs if pair.significant]
    named = listed(tasks, MAX_NAMES)
    if comparison.significance.attempts == "replayed":
        why = "any such change counts" if spec.flip else "model calls were replayed, so any such change counts"
        return [f"{comparison.agent}: worse in every attempt at {named}; {why}"] if tasks else []
    reasons = []
    if is_large(comparison, spec):
        significant = f"statistically significant ({_p(comparison.p_value)})"
        reasons.append(f"{_describe(comparison)}, {significant}{_shape(comparison)}")
    if tasks:
        got = f"{plural(len(tasks), 'task')} got worse, more than chance explains"
        reasons.append(f"{comparison.agent}: {got} ({_p(comparison.p_value)}): {named}")
    return reasons


def _undecided(comparison: Comparison, spec: GateSpec) -> list[str]:
    if is_significant(comparison, spec) or not spec.drops:
        return []
    found = comparison.significance
    if (
        found.attempts == "alike"
        and found.naive <= spec.alpha
        and not comparison.improvements
        and any(flipped(pair.before, pair.after) for pair in comparison.pairs)
    ):
        fix = "more runs in the baseline would settle it, or the rule flip if the agent is deterministic"
        return [f"{_describe(comparison)}, not statistically significant ({_p(found.p_value)}); {fix}"]
    if not is_large(comparison, spec):
        return []
    advice = f"; {comparison.advice}" if comparison.advice else ""
    return [f"{_describe(comparison)}, not statistically significant ({_p(comparison.p_value)}){advice}"]


def _p(value: float) -> str:
    return f"p < {SMALLEST:.0e}" if value <= SMALLEST else f"p = {value:.2g}"


def _shape(comparison: Comparison) -> str:
    """Return what a drop looks like if it is not of some tasks: a shift of all."""
    fell, rose = len(comparison.regressions), len(comparison.improvements)
    if any(pair.significant for pair in comparison.pairs) or fell < max(COMMON_SHIFT * len(comparison.pairs), 2 * rose):
        return ""
    return f"; {fell} of {plural(len(comparison.pairs), 'task')} fell, as when a model or its provider is worse"


def _describe(comparison: Comparison) -> str:
    low, high = comparison.interval
    tasks = plural(len(comparison.pairs), "task")
    means = f"{comparison.before:.3f} -> {comparison.after:.3f}"
    change = f"{comparison.agent}: mean reward change {comparison.estimate:+.3f} over {tasks} ({means})"
    return f"{change}, 95% interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) and low < high else change


def _pass_reasons(run: Mapping[Key, Sample], comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    graded, passed = _count(run)
    reasons = _good_rewards(comparisons, spec)
    if spec.pass_rate is not None:
        reasons.append(f"pass rate {passed / graded:.1%} ({passed} of {graded}), at least {spec.pass_rate:.1%}")
    everything = "the only graded trial" if graded == 1 else f"all {graded:,} graded trials"
    return [*reasons, f"{everything} passed"] if spec.each else reasons


def _good_rewards(comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    """Return what a rule says of the rewards of agents that did not get worse."""
    if spec.drops:
        return [f"{_describe(each)}, {_p(each.p_value)}; {_largest_unseen(each, spec)}" for each in comparisons]
    none = "none of {} got worse in every attempt"
    return [f"{each.agent}: {none.format(plural(len(each.pairs), 'task'))}" for each in comparisons if spec.flip]


def _largest_unseen(comparison: Comparison, spec: GateSpec) -> str:
    """Return what a pass says of the drop: which size it may still have."""
    below = "a significant drop, but below" if is_significant(comparison, spec) else "no drop of"
    low = comparison.interval[0]
    if not math.isfinite(low) or low > -spec.drop:
        return f"{below} {spec.drop:g} or more" if below.startswith("no") else f"{below} {spec.drop:g}"
    tail = f"; a drop of up to {-low:.3f} is not ruled out"
    return (f"{below} {spec.drop:g} or more" if below.startswith("no") else f"{below} {spec.drop:g}") + tail


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


def _dependent(comparisons: Iterable[Comparison]) -> list[str]:
    """Return for which agents the attempts of a run do not count one by one."""
    return [
        f"{each.agent}: the attempts of each run are alike or depend on one another, so they count as one per task"
        for each in comparisons
        if each.significance.attempts == "alike" and each.significance.p_value != each.significance.naive
    ]


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

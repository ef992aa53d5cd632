"""The verdict on a run: `pass`, `regressed`, `inconclusive` or `not judged`, with its reasons.

An agent has regressed if its rewards fell, chance does not explain it, and it matters: the mean reward fell by at
least `drop`, or tasks got worse by at least that much, more of them than chance explains. benchmarks/gate.py measures
how often that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_harbor._util.text import listed, plural
from pytest_harbor.gate.baseline import Baseline, Key, Sample
from pytest_harbor.gate.comparison import Comparison, compare_all
from pytest_harbor.gate.coverage import coverage
from pytest_harbor.gate.groups import part_of
from pytest_harbor.gate.rises import find_rises
from pytest_harbor.gate.sequential import Rounds
from pytest_harbor.gate.spec import GateSpec, Word, parse_share
from pytest_harbor.gate.versus import at_worst, divide
from pytest_harbor.gate.wording import (
    MAX_NAMES,
    dependent_attempts,
    good_rewards,
    other_models,
    other_settings,
    undecided,
    worse,
)

# The worst first.
WORST: tuple[Word, ...] = ("regressed", "not judged", "inconclusive", "pass")

INCONCLUSIVE = 10
"""The exit status of a run that is not significantly worse, and not good enough; pytest's own end at 5."""

NOT_JUDGED = 11
"""The exit status of a run that was not measured well enough to judge."""

MIN_COVERAGE = 0.8
"""The least share of an agent's tasks in the baseline that must be compared, unless an option says otherwise."""


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
        try:
            return cls(parse_share(text))
        except ValueError:
            raise ValueError("use a number of trials such as 3, or a share such as 0.1 or 10%") from None


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reasons.

    Attributes:
        reasons: the reasons, the decisive one first.
        comparisons: one per agent that could be compared.
        not_compared: the tasks that could not be compared, by reason.
        flaky: tasks that both passed and failed in this run.
        rewards_word: the word without limits on cost, tokens and time, which single tasks' rewards do not explain.

    """

    word: Word
    reasons: tuple[str, ...]
    spec: GateSpec
    comparisons: tuple[Comparison, ...] = ()
    not_compared: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)
    flaky: tuple[Key, ...] = ()
    rewards_word: Word = "pass"

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
    rounds: Rounds | None = None,
    notes: Sequence[str] = (),
) -> Verdict:
    """Judge a run: all tasks, then each group; the worst word counts.

    Args:
        run: the samples of the run.
        baseline: the baseline to compare with; None if the rule needs none, or names an agent of the run instead.
        spec: the rule.
        limit: the most infrastructure errors, and the most unverified trials, before the run is not judged. None for
            the default, with which the excluded trials must not decide either.
        stopped: why the run ended early; empty if it did not.
        doubts: other reasons why the run cannot be judged.
        min_coverage: the least share of an agent's tasks in the baseline that must be compared; MIN_COVERAGE if None.
        rounds: the rounds after which the run ended, if it could have ended after others; None for a fixed number.
        notes: what else a reader should know.

    """
    least = MIN_COVERAGE if min_coverage is None else min_coverage
    unsure = [*([f"the run was stopped: {stopped}"] if stopped else []), *doubts]
    verdict, own_notes = _judge_part(run, baseline, spec, limit, unsure, least, rounds)
    parts, rows = [verdict], [(verdict.word, reason) for reason in verdict.reasons]
    for group in spec.groups:
        rule = replace(group.rule, versus=spec.versus)
        part, _ = _judge_part(*part_of(group, run, baseline), rule, limit, unsure, least, rounds)
        parts.append(part)
        own = [reason for reason in part.reasons if reason not in verdict.reasons]
        rows.append((part.word, "; ".join([f"{group.name} ({group.rule}): {part.word}", *own])))
    word = min((part.word for part in parts), key=WORST.index)
    rewards_word = min((part.rewards_word for part in parts), key=WORST.index)
    # The decisive reasons first.
    rows.sort(key=lambda row: row[0] != word)
    reasons = (*(reason for _, reason in rows), *own_notes, *notes)
    return replace(verdict, word=word, rewards_word=rewards_word, reasons=reasons)


def _judge_part(
    run: Mapping[Key, Sample],
    baseline: Baseline | None,
    spec: GateSpec,
    limit: Limit | None,
    unsure: Sequence[str],
    least: float,
    rounds: Rounds | None,
) -> tuple[Verdict, list[str]]:
    """Return the verdict on some tasks, and what else a reader should know."""
    not_compared: dict[str, list[Key]] = {}
    everything = run
    if spec.versus:
        run, baseline = divide(everything, spec.versus)
    written = spec = replace(spec, compares=True) if baseline is not None else spec
    if rounds is not None:
        spec = rounds.adjust(spec)
    comparisons = compare_all(run, baseline, spec, not_compared)
    if rounds is not None:
        comparisons = [replace(each, settled=rounds.passes(each, spec)) for each in comparisons]
    coverages = [coverage(each, baseline, spec, not_compared) for each in comparisons] if baseline else []
    rises = [rise for each in comparisons for rise in find_rises(each, spec, least)]
    rows = {word: [str(rise) for rise in rises if rise.word == word] for word in WORST}
    certain = [*_regressions(run, comparisons, spec), *rows["regressed"]]
    uncertain = _low_pass_rate(run, spec)
    unsure = [
        *unsure,
        *_missing_data(everything, limit or Limit()),
        *_not_measured(run, baseline, spec, {each.agent for each in comparisons}),
        *(each.shortage(least) for each in coverages if each.share < least),
        *rows["not judged"],
    ]
    if not (unsure or certain or uncertain or limit):
        unsure += _hidden_by_errors(everything, baseline, spec)
    doubtful = [*(reason for each in comparisons for reason in undecided(each, spec)), *rows["inconclusive"]]
    word = _word(certain, uncertain, unsure, doubtful)
    if word == "regressed":
        reasons = [*certain, *uncertain, *unsure]
    elif word == "pass":
        reasons = _pass_reasons(run, comparisons, spec)
    else:
        reasons = [*unsure, *uncertain, *doubtful]
    limits = {row for found in rows.values() for row in found}
    if limits:
        # A limit that decides says nothing about the rewards.
        good = [each for each in comparisons if not (worse(each, spec) or undecided(each, spec))]
        reasons += [row for row in (*doubtful, *good_rewards(good, spec)) if row not in reasons]
    reasons += [row for word in WORST for row in rows[word] if row not in reasons]
    verdict = Verdict(
        word,
        tuple(reasons),
        written,
        tuple(comparisons),
        {reason: tuple(keys) for reason, keys in not_compared.items()},
        tuple(key for key, sample in sorted(run.items()) if 0 < sample.passed < len(sample.rewards)),
        _word(*([row for row in found if row not in limits] for found in (certain, uncertain, unsure, doubtful))),
    )
    incomplete = [str(each) for each in coverages if least <= each.share < 1]
    others = [*other_models(comparisons, spec), *other_settings(comparisons, spec)]
    return verdict, [*incomplete, *_excluded(everything), *dependent_attempts(comparisons), *others]


def _word(certain: Sequence[str], uncertain: Sequence[str], unsure: Sequence[str], doubtful: Sequence[str]) -> Word:
    if certain or (uncertain and not unsure):
        return "regressed"
    return "not judged" if unsure else "inconclusive" if doubtful else "pass"


def _regressions(run: Mapping[Key, Sample], comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    """Return the regressions that are certain, however much of the run is missing."""
    graded, passed = _count(run)
    reasons = []
    if spec.each and passed < graded:
        reasons.append(f"{graded - passed} of {graded} trials did not pass; the rule requires each to pass")
    return [*reasons, *(reason for each in comparisons for reason in worse(each, spec))]


def _low_pass_rate(run: Mapping[Key, Sample], spec: GateSpec) -> list[str]:
    graded, passed = _count(run)
    if spec.pass_rate is None or not graded or passed / graded >= spec.pass_rate - 1e-9:
        return []
    return [f"pass rate {passed / graded:.1%} ({passed} of {graded}), below the required {spec.pass_rate:.1%}"]


def _hidden_by_errors(run: Mapping[Key, Sample], baseline: Baseline | None, spec: GateSpec) -> list[str]:
    """Return why the run only passes because trials are excluded; it must not regress even if all of those failed."""
    if not any(sample.errors for sample in run.values()):
        return []
    worst = {key: at_worst(sample, named=key[1] == spec.versus) for key, sample in run.items()}
    if spec.versus:
        worst, baseline = divide(worst, spec.versus)
    comparisons = compare_all(worst, baseline, spec, {})
    reasons = [*_regressions(worst, comparisons, spec), *_low_pass_rate(worst, spec)]
    worst_case = f"had they passed with {spec.reference} and failed with others" if spec.versus else "had they failed"
    return [f"excluded trials decide: {worst_case}, the run would have regressed ({reasons[0]})"] if reasons else []


def _pass_reasons(run: Mapping[Key, Sample], comparisons: Iterable[Comparison], spec: GateSpec) -> list[str]:
    graded, passed = _count(run)
    reasons = good_rewards(comparisons, spec)
    if spec.pass_rate is not None:
        reasons.append(f"pass rate {passed / graded:.1%} ({passed} of {graded}), at least {spec.pass_rate:.1%}")
    everything = "the only graded trial" if graded == 1 else f"all {graded:,} graded trials"
    return [*reasons, f"{everything} passed"] if spec.each else reasons


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
    if spec.versus and not compared:
        return [f"no task can be compared with agent {spec.versus}"]
    if baseline is None:
        return ["there is no baseline to compare with"] if spec.needs_baseline else []
    agents = {agent for _, agent in run}
    known = agents & set(baseline.agents)
    reasons = unknown_agents(agents, baseline)
    if not compared:
        return [": ".join(["no task of this run can be compared with the baseline", *reasons][:2])]
    rest = sorted(known - compared)
    return [*reasons, *(f"no task of agent {agent} can be compared with {spec.reference}" for agent in rest)]


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

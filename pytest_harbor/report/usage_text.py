"""What trials used of models, in words: calls, tokens, money."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add

from pytest_harbor._util.text import one_line
from pytest_harbor.gate import Comparison, Verdict
from pytest_harbor.gate.baseline import GRADED
from pytest_harbor.trial import TrialResult, Usage

MANY_NAMES = 5
HEADS = ("calls", "tokens", "cost")


def total(results: Iterable[TrialResult]) -> Usage | None:
    """Return what trials used together; None where nothing is known of any."""
    usages = [result.usage for result in results if result.usage is not None]
    return reduce(add, usages) if usages else None


def cells(results: Sequence[TrialResult]) -> tuple[str, str, str]:
    """Return calls, tokens and cost of a trial, as their means where there are several trials that have them."""
    usage = total(results)
    if usage is None:
        return "-", "-", "-"
    trials = sum(result.usage is not None for result in results)
    sign = "~" if usage.estimated else ""
    cost = None if usage.cost is None else usage.cost / trials
    calls = f"{usage.requests / trials:,.1f}".removesuffix(".0")
    return calls, f"{sign}{compact(usage.tokens / trials)}", money(cost, estimated=bool(usage.estimated))


def lines(results: Iterable[TrialResult]) -> list[str]:
    """Return what trials used in all, and what of that is not known for sure; nothing where nothing is known."""
    results = list(results)
    usage = total(results)
    if usage is None:
        return _given_up(results)
    said = [
        f"models: {_plural(usage.requests, 'call')}{_retries(usage.retries)}, "
        f"{compact(usage.input_tokens)} input tokens ({compact(usage.cached_tokens)} cached), "
        f"{compact(usage.output_tokens)} output tokens ({compact(usage.reasoning_tokens)} reasoning), "
        f"cost {money(usage.cost, estimated=bool(usage.estimated))}"
    ]
    # A try that failed may have been replayed, too.
    of_all = f"of {_plural(usage.requests + usage.retries, 'call')}"
    if usage.estimated:
        said.append(f"~: tokens of {usage.estimated:,} {of_all} are estimated, as their answers do not tell them")
    if usage.cost is None:
        names = [one_line(name, 80) for name in usage.unpriced[:MANY_NAMES]]
        more = f" and {len(usage.unpriced) - MANY_NAMES:,} more" if len(usage.unpriced) > MANY_NAMES else ""
        of_what = f" of {', '.join(names)}{more}" if names else ""
        said.append(f"?: the cost is unknown for want of a price{of_what}; give it with --harbor-prices=FILE")
    if usage.replayed:
        said.append(f"{usage.replayed:,} {of_all} replayed from cassettes: cost of the recording")
    return said + _given_up(results)


def _given_up(results: Sequence[TrialResult]) -> list[str]:
    """Return what went into tries that an infrastructure error ended, which no trial counts."""
    usages = [retry.usage for result in results for retry in result.retries if retry.usage is not None]
    if not usages:
        return []
    usage = reduce(add, usages)
    if not usage.tokens:
        return []
    cost = money(usage.cost, estimated=bool(usage.estimated))
    return [f"and {compact(usage.tokens)} tokens, cost {cost}, in tries that an infrastructure error ended"]


def budget(result: TrialResult) -> str:
    """Return which budget a trial has spent, the same for all that spent it; empty for none."""
    spent = result.budget.partition(" (")[0]
    return f"{spent}; graded as it stood" if spent and result.outcome in GRADED else spent


def changes(verdict: Verdict) -> list[str]:
    """Return how cost and tokens of a trial compare with the baseline, a line an agent for which all is known."""
    said = []
    for comparison in verdict.comparisons:
        cost, tokens = comparison.mean_usage("cost"), comparison.mean_usage("input_tokens", "output_tokens")
        sign = _sign(comparison)
        parts = [f"mean cost {sign}{money(cost[1])} a trial, {_change(*cost, money(cost[0]))}"] if cost else []
        if tokens:
            parts.append(f"mean tokens {sign}{compact(tokens[1])} a trial, {_change(*tokens, compact(tokens[0]))}")
        if parts:
            said.append(f"{one_line(comparison.agent)}: {'; '.join(parts)}")
    return said


def _sign(comparison: Comparison) -> str:
    samples = [sample for pair in comparison.pairs for sample in (pair.before, pair.after)]
    return "~" if any(sample.usage.get("estimated") for sample in samples) else ""


def _change(before: float, after: float, before_said: str) -> str:
    if math.isclose(before, after, rel_tol=1e-9):
        return "as in the baseline"
    if before <= 0:
        return f"{before_said} in the baseline"
    return f"{after / before - 1:+,.0%} against the baseline"


def money(cost: float | None, *, estimated: bool = False) -> str:
    """Return US dollars, to the cent or to two digits; `?` for a cost that is not known."""
    if cost is None:
        return "?"
    if 0 < cost < 0.0001:
        return f"{'~' if estimated else ''}<$0.0001"
    places = max(2, 1 - math.floor(math.log10(cost))) if cost > 0 else 2
    return f"{'~' if estimated else ''}${cost:,.{places}f}"


def compact(number: float) -> str:
    """Return a number of tokens with three digits or four: 999, 12.3k, 1.2M."""
    if number < 999.5:
        return f"{number:.0f}"
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f}{unit}"
    return f"{number / 1000:,.1f}T"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _retries(number: int) -> str:
    return f" ({number:,} {'retry' if number == 1 else 'retries'})" if number else ""

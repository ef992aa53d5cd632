"""Model usage as text: calls, tokens, money."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add

from pytest_harbor._util.text import listed, one_line, plural
from pytest_harbor.gate import Comparison, Verdict
from pytest_harbor.gate.baseline import GRADED
from pytest_harbor.trial import TrialResult, Usage

MAX_NAMES = 5
HEADS = ("calls", "tokens", "cost")


def total(results: Iterable[TrialResult]) -> Usage | None:
    """Return the usage of all trials together, or None if it is unknown for all of them."""
    usages = [result.usage for result in results if result.usage is not None]
    return reduce(add, usages) if usages else None


def cells(results: Sequence[TrialResult]) -> tuple[str, str, str]:
    """Return calls, tokens and cost per trial, averaged over the trials with known usage."""
    usage = total(results)
    if usage is None:
        return "-", "-", "-"
    trials = sum(result.usage is not None for result in results)
    sign = "~" if usage.estimated else ""
    cost = None if usage.cost is None else usage.cost / trials
    calls = f"{usage.requests / trials:,.1f}".removesuffix(".0")
    return calls, f"{sign}{compact(usage.tokens / trials)}", money(cost, estimated=bool(usage.estimated))


def lines(results: Iterable[TrialResult]) -> list[str]:
    """Return the total usage and what is uncertain about it; nothing if no usage is known."""
    results = list(results)
    usage = total(results)
    if usage is None or not (usage.requests or usage.retries or usage.tokens):
        return _retried_usage(results)
    retries = f" ({plural(usage.retries, 'retry', 'retries')})" if usage.retries else ""
    lines = [
        f"models: {plural(usage.requests, 'call')}{retries}, "
        f"{compact(usage.input_tokens)} input tokens ({compact(usage.cached_tokens)} cached), "
        f"{compact(usage.output_tokens)} output tokens ({compact(usage.reasoning_tokens)} reasoning), "
        f"cost {money(usage.cost, estimated=bool(usage.estimated))}"
    ]
    # Calls that were retried count too: they may have been replayed as well.
    of_calls = f"of {plural(usage.requests + usage.retries, 'call')}"
    if usage.estimated:
        lines.append(
            f"~: token counts of {usage.estimated:,} {of_calls} are estimated because the responses do not report them"
        )
    if usage.cost is None:
        models = listed([one_line(name, 80) for name in usage.unpriced], MAX_NAMES) or "a model"
        lines.append(
            f"?: the cost is unknown because there is no price for {models}; add one with --harbor-prices=FILE"
        )
    if usage.replayed:
        lines.append(f"{usage.replayed:,} {of_calls} replayed from cassettes; their cost is that of the recording")
    return lines + _retried_usage(results)


def _retried_usage(results: Sequence[TrialResult]) -> list[str]:
    """Return the usage before retries after infrastructure errors, which no trial's usage includes."""
    usages = [retry.usage for result in results for retry in result.retries if retry.usage is not None]
    if not usages:
        return []
    usage = reduce(add, usages)
    if not usage.tokens:
        return []
    cost = money(usage.cost, estimated=bool(usage.estimated))
    return [f"not included: {compact(usage.tokens)} tokens, cost {cost}, before retries after infrastructure errors"]


def spent_budget(result: TrialResult) -> str:
    """Return the budget that a trial has spent, without its own numbers; empty if it spent none."""
    budget = result.budget.partition(" (")[0]
    return f"{budget}; graded as it stood" if budget and result.outcome in GRADED else budget


def changes(verdict: Verdict) -> list[str]:
    """Return how cost and tokens per trial, and between two agents also time, compare: a line per agent."""
    lines, reference = [], verdict.spec.reference
    for comparison in verdict.comparisons:
        cost, tokens = comparison.mean_usage("cost"), comparison.mean_usage("input_tokens", "output_tokens")
        sign = _sign(comparison)
        parts = (
            [f"mean cost {sign}{money(cost[1])} per trial, {_change(*cost, money(cost[0]), reference)}"] if cost else []
        )
        if tokens:
            change = _change(*tokens, compact(tokens[0]), reference)
            parts.append(f"mean tokens {sign}{compact(tokens[1])} per trial, {change}")
        if verdict.spec.versus and all(comparison.mean_seconds):
            before, after = comparison.mean_seconds
            parts.append(
                f"mean time of the agent {after:,.1f} s, {_change(before, after, f'{before:,.1f} s', reference)}"
            )
        if parts:
            lines.append(f"{one_line(comparison.agent)}: {'; '.join(parts)}")
    return lines


def _sign(comparison: Comparison) -> str:
    samples = [sample for pair in comparison.pairs for sample in (pair.before, pair.after)]
    return "~" if any(sample.usage.get("estimated") for sample in samples) else ""


def _change(before: float, after: float, before_text: str, reference: str) -> str:
    if math.isclose(before, after, rel_tol=1e-9):
        return f"same as {reference}"
    if before <= 0:
        return f"{before_text} {'in the baseline' if reference == 'the baseline' else f'with {reference}'}"
    return f"{after / before - 1:+,.0%} vs. {reference}"


def money(cost: float | None, *, estimated: bool = False) -> str:
    """Return US dollars, to the cent or to two significant digits; `?` for an unknown cost."""
    if cost is None:
        return "?"
    if 0 < cost < 0.0001:
        return f"{'~' if estimated else ''}<$0.0001"
    places = max(2, 1 - math.floor(math.log10(cost))) if cost > 0 else 2
    return f"{'~' if estimated else ''}${cost:,.{places}f}"


def compact(number: float) -> str:
    """Return a number of tokens with three or four digits: 999, 12.3k, 1.2M."""
    if number < 999.5:
        return f"{number:.0f}"
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f}{unit}"
    return f"{number / 1000:,.1f}T"

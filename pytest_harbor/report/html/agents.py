"""A row per agent: rates, cost and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_harbor._util.text import listed, one_line
from pytest_harbor.report import usage_text
from pytest_harbor.report.agent_rates import AgentRates, percent, rates_by_agent
from pytest_harbor.report.html.markup import Child, Markup, data_table, duration, join, number, share_bar, tag
from pytest_harbor.trial import TrialResult

MAX_NAMES = 3

_Cell = tuple[Child, float | str | None]


def agents_section(results: Sequence[TrialResult]) -> Markup | None:
    """Return the section, or None if no trial ran."""
    rates = [each for each in rates_by_agent(results) if len(each.results) > each.count("skipped")]
    if not rates:
        return None
    used = any(usage_text.total(each.results) is not None for each in rates)
    k = _k(rates)
    columns: list[tuple[str, bool, Callable[[AgentRates], _Cell]]] = [
        ("pass rate", True, _pass_rate),
        ("mean reward", True, lambda each: ("-" if each.mean is None else number(each.mean), each.mean)),
        (f"pass@{k}", bool(k), lambda each: _share(each.pass_at_k, each.k, k)),
        (f"pass^{k}", bool(k), lambda each: _share(each.pass_hat_k, each.k, k)),
        ("errors", any(each.count("error") for each in rates), lambda each: (each.count("error"), each.count("error"))),
        ("tokens / trial", used, _tokens),
        ("cost / trial", used, _cost),
        ("total cost", used, _total_cost),
        ("time / trial", True, lambda each: ("-" if each.seconds is None else duration(each.seconds), each.seconds)),
    ]
    shown = [(head, cell) for head, is_shown, cell in columns if is_shown]
    rows = [tag("tr", _name(each), *(_cell(cell(each)) for _, cell in shown)) for each in rates]
    return tag(
        "section",
        tag("h2", "Agents" if len(rates) > 1 else "Agent", id="agents-title"),
        data_table("agents-title", ("agent", *(head for head, _ in shown)), rows, sortable=len(rows) > 1),
        *(tag("p", line, class_="quiet") for line in usage_text.lines(results)),
        id="agents",
    )


def _name(each: AgentRates) -> Markup:
    models = listed([one_line(model, 80) for model in each.models], MAX_NAMES)
    name = one_line(each.agent) or "(no agent)"
    return tag("th", name, tag("div", models, class_="quiet") if models else None, scope="row", data_value=name)


def _cell(cell: _Cell) -> Markup:
    text, value = cell
    return tag("td", text, class_="number", data_value="" if value is None else value)


def _k(rates: Sequence[AgentRates]) -> str:
    """Return the k of pass@k, or "k" if it differs; empty if no agent has several attempts at each task."""
    found = {each.k for each in rates if each.k > 1}
    return "" if not found else str(found.pop()) if len(found) == 1 else "k"


def _pass_rate(each: AgentRates) -> _Cell:
    rate = each.pass_rate
    if rate is None:
        return "-", None
    count = tag("span", f"{each.passed:,} of {each.graded:,}", class_="quiet")
    return join([share_bar(rate), f" {percent(rate)} ", count]), rate


def _share(value: float | None, k: int, head: str) -> _Cell:
    return f"{percent(value)}{f' (k={k})' if head == 'k' and value is not None else ''}", value


def _tokens(each: AgentRates) -> _Cell:
    usage = usage_text.total(each.results)
    _, text, _ = usage_text.cells(each.results)
    return text, None if usage is None else usage.tokens / sum(result.usage is not None for result in each.results)


def _cost(each: AgentRates) -> _Cell:
    usage = usage_text.total(each.results)
    _, _, text = usage_text.cells(each.results)
    metered = sum(result.usage is not None for result in each.results)
    return text, None if usage is None or usage.cost is None else usage.cost / metered


def _total_cost(each: AgentRates) -> _Cell:
    usage = usage_text.total(each.results)
    if usage is None:
        return "-", None
    return usage_text.money(usage.cost, estimated=bool(usage.estimated)), usage.cost

"""A row per agent: rates, cost and time."""

from __future__ import annotations

from collections.abc import Sequence

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
    columns = [
        ("model", any(each.models for each in rates), _models),
        ("passed", True, _passed),
        ("pass rate", True, _pass_rate),
        ("mean reward", True, _mean),
        ("pass@k", any(each.k > 1 for each in rates), lambda each: _share(each.pass_at_k, each.k)),
        ("pass^k", any(each.k > 1 for each in rates), lambda each: _share(each.pass_hat_k, each.k)),
        ("errors", any(each.count("error") for each in rates), lambda each: (each.count("error"), each.count("error"))),
        ("tokens per trial", _any_usage(rates), _tokens),
        ("cost per trial", _any_usage(rates), _cost),
        ("total cost", _any_usage(rates), _total_cost),
        ("time per trial", True, _seconds),
    ]
    shown = [(head, cell) for head, is_shown, cell in columns if is_shown]
    rows = [
        tag(
            "tr",
            tag("th", one_line(each.agent) or "(no agent)", scope="row"),
            *(_cell(cell(each), is_text=head == "model") for head, cell in shown),
        )
        for each in rates
    ]
    return tag(
        "section",
        tag("h2", "Agents" if len(rates) > 1 else "Agent", id="agents-title"),
        data_table("agents-title", ("agent", *(head for head, _ in shown)), rows, sortable=len(rows) > 1),
        *(tag("p", line, class_="quiet") for line in usage_text.lines(results)),
        id="agents",
    )


def _cell(cell: _Cell, *, is_text: bool) -> Markup:
    text, value = cell
    return tag("td", text, class_=None if is_text else "number", data_value=value if value is not None else "")


def _models(each: AgentRates) -> _Cell:
    models = listed([one_line(model, 80) for model in each.models], MAX_NAMES)
    return models, models


def _passed(each: AgentRates) -> _Cell:
    return f"{each.passed:,} of {each.graded:,}", each.passed


def _pass_rate(each: AgentRates) -> _Cell:
    text, value = _share(each.pass_rate)
    return join([share_bar(value), " ", text]) if isinstance(value, float) else text, value


def _share(value: float | None, k: int = 0) -> _Cell:
    return f"{percent(value)}{f' (k={k})' if k and value is not None else ''}", value


def _mean(each: AgentRates) -> _Cell:
    return (number(each.mean) if each.mean is not None else "-"), each.mean


def _seconds(each: AgentRates) -> _Cell:
    return ("-" if each.seconds is None else duration(each.seconds)), each.seconds


def _any_usage(rates: Sequence[AgentRates]) -> bool:
    return any(usage_text.total(each.results) is not None for each in rates)


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

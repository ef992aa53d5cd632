"""What accompanies the agents of a run, as its options want it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_harbor.plugin.options.config import HarborConfig

if TYPE_CHECKING:
    from pytest_harbor.plugin.agents import Agents
    from pytest_harbor.proxy import Ledger, ProxySettings
    from pytest_harbor.trial import AgentService

BUDGET = "budget.json"


def services_of(options: HarborConfig, agents: Agents, ledger: Ledger | None) -> tuple[AgentService, ...]:
    """Return what accompanies the agents.

    Raises:
        pytest.UsageError: something that it needs is not there, or options contradict each other.

    """
    services: list[AgentService] = []
    if options.proxy == "off":
        _refuse_limits(options)
    else:
        from pytest_harbor.proxy import ProxyService

        services.append(ProxyService(_proxy_settings(options, agents, ledger, os.environ)))
    if options.adapt == "hud":
        from pytest_harbor.errors import UnmetRequirement
        from pytest_harbor.hud.mcp import McpService, check_installed

        if agents.on_host:
            try:
                check_installed()
            except UnmetRequirement as error:
                raise pytest.UsageError(f"--harbor-adapt=hud: {error}") from error
        services.append(McpService())
    return tuple(services)


def ledger_of(options: HarborConfig, run_directory: Path) -> Ledger | None:
    """Return what the run has used of its budget, None where it has none."""
    if options.session_budget is None or options.proxy in ("off", "replay"):
        return None
    from pytest_harbor.proxy import Ledger

    return Ledger(run_directory / BUDGET, options.session_budget)


def _refuse_limits(options: HarborConfig) -> None:
    """Refuse limits that nothing would keep."""
    limits = {
        "--harbor-max-turns": options.max_turns,
        "--harbor-max-tokens": options.max_tokens,
        "--harbor-max-cost": options.max_cost,
        "--harbor-session-budget": options.session_budget,
    }
    given = [flag for flag, value in limits.items() if value is not None]
    if given:
        raise pytest.UsageError(
            f"{' and '.join(given)} cannot be kept without the proxy; "
            "add --harbor-proxy=live (or record, replay, auto), or leave the limit out"
        )


def _proxy_settings(
    options: HarborConfig, agents: Agents, ledger: Ledger | None, variables: Mapping[str, str]
) -> ProxySettings:
    from pytest_harbor.proxy import Prices, ProxySettings, TrialBudget, upstreams_of
    from pytest_harbor.proxy.key_scan import KeyScanner

    try:
        prices = Prices.load(options.prices)
    except ValueError as error:
        raise pytest.UsageError(f"--harbor-prices: {error}") from error
    upstreams = upstreams_of(
        variables,
        openai_base_url=options.openai_base_url,
        openai_key=options.openai_key,
        anthropic_base_url=options.anthropic_base_url,
        anthropic_key=options.anthropic_key,
    )
    scanner = KeyScanner(upstreams.values())
    for source, name, value in agents.variables:
        if scanner.is_in_text(value):
            raise pytest.UsageError(
                f"{source}: {name} holds a real key, which the proxy is there to keep from the agent; leave "
                "it out (the agent gets a key of its own), or use --harbor-proxy=off"
            )
    return ProxySettings(
        mode=options.proxy,  # type: ignore[arg-type]
        upstreams=upstreams,
        cassettes=options.cassettes,
        log=options.proxy_log,
        budget=TrialBudget(options.max_turns, options.max_tokens, options.max_cost),
        ledger=ledger,
        prices=prices,
    )

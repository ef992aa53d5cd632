"""The session's Runner, created from the options."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_harbor._util.files import check_writable
from pytest_harbor.environment.factory import create_provider
from pytest_harbor.errors import InfrastructureError, UnmetRequirement, error_message
from pytest_harbor.plugin.agents import Agents
from pytest_harbor.plugin.options.table import HarborConfig
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.results import Run
from pytest_harbor.runner import Runner

if TYPE_CHECKING:
    from pytest_harbor.environment import Provider
    from pytest_harbor.proxy import ProxySettings

BUDGET = "budget.json"


def open_runner(session: HarborSession) -> Runner:
    """Return the session's runner, made at the first call.

    Raises:
        pytest.UsageError: options exclude each other, what they need is missing, or an output cannot be written.

    """
    if session.runner is None:
        options = session.options
        run = Run(options.results, session.run_id)
        proxy = _proxy_settings(options, session.agents, run.directory, os.environ)
        _check_adaptation(options, session.agents)
        if not session.is_worker:
            _check_outputs(options, run)
        provider, session.provider_reason = _provider(session)
        session.runner = Runner(
            run,
            provider,
            image=options.image,
            build=options.build,
            adapt=options.adapt,
            registry=options.registry,
            infra_retries=options.infra_retries,
            timeout_multiplier=options.timeout_multiplier,
            proxy=proxy,
        )
    return session.runner


def _check_outputs(options: HarborConfig, run: Run) -> None:
    """Refuse outputs that cannot be written, which would otherwise be known only after the run."""
    outputs = {
        "--harbor-results": run.results_file,
        "--harbor-save-baseline": options.save_baseline,
        "--harbor-update-baseline": options.baseline if options.update_baseline else None,
        "--harbor-html": options.html or None,
        "--harbor-cassettes": options.cassettes / "cassette" if options.proxy in ("record", "auto") else None,
    }
    for flag, path in outputs.items():
        if path is None:
            continue
        try:
            check_writable(path)
        except OSError as error:
            what = path if flag not in ("--harbor-results", "--harbor-cassettes") else path.parent
            raise pytest.UsageError(
                f"{flag}: {what} cannot be written: {error.strerror or error}; give another path"
            ) from error


def _provider(session: HarborSession) -> tuple[Provider, str]:
    """Return the provider, and why it was chosen if the options leave that open."""
    config, options = session.config, session.options
    own: Provider | None = config.hook.pytest_harbor_provider(config=config)
    if own is not None:
        return own, ""
    # Workers take what their controller has chosen.
    choice = getattr(config, "workerinput", {}).get("harbor_environment", options.environment)
    hidden = (config.rootpath, config.invocation_params.dir, options.results, *options.datasets, *session.places.found)
    return create_provider(choice, hidden)


def check_environment(session: HarborSession, runner: Runner) -> None:
    """Check that environments can be created here, so that this is one error and not one per task.

    Raises:
        pytest.UsageError: they cannot.

    """
    provider, reason = runner.provider, session.provider_reason
    try:
        provider.describe()
    except InfrastructureError as error:
        fact, fix = error.fact, error.fix
        if reason:
            fact = f"{fact}, {reason}"
        elif provider.name == "docker" and sys.platform.startswith("linux"):
            fix += ", or use --harbor-environment=namespace"
        raise pytest.UsageError(error_message(fact, fix)) from error


def _check_adaptation(options: HarborConfig, agents: Agents) -> None:
    """Refuse `hud` for an agent on the host if the MCP library is missing."""
    if options.adapt == "hud" and agents.on_host:
        from pytest_harbor.hud.mcp import check_installed

        try:
            check_installed()
        except UnmetRequirement as error:
            raise pytest.UsageError(f"--harbor-adapt=hud: {error}") from error


def _refuse_limits(options: HarborConfig) -> None:
    """Refuse limits that nothing would enforce."""
    limits = {
        "--harbor-max-turns": options.max_turns,
        "--harbor-max-tokens": options.max_tokens,
        "--harbor-max-cost": options.max_cost,
        "--harbor-session-budget": options.session_budget,
    }
    given = [flag for flag, value in limits.items() if value is not None]
    if given:
        raise pytest.UsageError(
            f"{' and '.join(given)} cannot be enforced without the model proxy; "
            "add --harbor-proxy=live (or record, replay, auto), or remove the limit"
        )


def _proxy_settings(
    options: HarborConfig, agents: Agents, run_directory: Path, variables: Mapping[str, str]
) -> ProxySettings | None:
    """Return the settings of the model proxy, None without one."""
    if options.proxy == "off":
        _refuse_limits(options)
        return None
    from pytest_harbor.proxy import Ledger, Prices, ProxySettings, TrialBudget, upstreams_of
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
                f"{source}: {name} holds a real API key, and the proxy exists to keep those from the agent; remove "
                "it (the agent gets a key of its own), or use --harbor-proxy=off"
            )
    # A replay costs nothing, so there is nothing to count.
    budget = None if options.proxy == "replay" else options.session_budget
    return ProxySettings(
        mode=options.proxy,
        upstreams=upstreams,
        cassettes=options.cassettes,
        log=options.proxy_log,
        budget=TrialBudget(options.max_turns, options.max_tokens, options.max_cost),
        ledger=None if budget is None else Ledger(run_directory / BUDGET, budget),
        prices=prices,
    )

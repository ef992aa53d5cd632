"""Flags on the command line that would change nothing: refused, since a run would silently be another one.

In an ini file or in `addopts`, the same options are defaults for the runs that they do concern.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_harbor._util.choices import COMMAND
from pytest_harbor.plugin.options.config import typed_options
from pytest_harbor.plugin.options.table import HarborConfig

_PROXY = "without the model proxy; add --harbor-proxy=live (or record, replay, auto)"
_GATE = "without a verdict; add --harbor-baseline=FILE or --harbor-gate=RULE"


def _proxied(options: HarborConfig) -> bool:
    return options.proxy != "off"


def _judged(options: HarborConfig) -> bool:
    return options.baseline is not None or options.gate is not None


# For each option: whether it has an effect, else what it lacks, and how to get that.
_NEEDS: dict[str, tuple[Callable[[HarborConfig], bool], str]] = {
    "openai_base_url": (_proxied, f"{_PROXY}, or set OPENAI_BASE_URL instead"),
    "anthropic_base_url": (_proxied, f"{_PROXY}, or set ANTHROPIC_BASE_URL instead"),
    "openai_key": (_proxied, _PROXY),
    "anthropic_key": (_proxied, _PROXY),
    "prices": (_proxied, _PROXY),
    "proxy_log": (_proxied, _PROXY),
    "cassettes": (
        lambda options: options.proxy in ("record", "replay", "auto"),
        "unless model calls are recorded or replayed; add --harbor-proxy=record (or replay, auto)",
    ),
    "agent_where": (
        lambda options: options.agent in ("", COMMAND),
        "on an agent that is not a command; add --harbor-agent-command=CMD",
    ),
    "confirm": (
        lambda options: options.baseline is not None,
        "without a baseline, which says what newly fails; add --harbor-baseline=FILE",
    ),
    "min_coverage": (
        lambda options: options.baseline is not None or bool(options.gate and options.gate.versus),
        "without a baseline, whose tasks it is about; add --harbor-baseline=FILE",
    ),
    "changed": (
        lambda options: options.baseline is not None,
        "without a baseline, whose rewards it takes; add --harbor-baseline=FILE",
    ),
    "inconclusive": (_judged, _GATE),
    "max_infra_errors": (
        lambda options: _judged(options) or options.save_baseline is not None,
        f"{_GATE}, or --harbor-save-baseline=FILE",
    ),
    "force_baseline": (
        lambda options: bool(options.save_baseline or options.update_baseline),
        "unless a baseline is saved; add --harbor-save-baseline=FILE or --harbor-update-baseline",
    ),
}


def _rule_is_in_file(config: pytest.Config) -> bool:
    """Return True if pytest's configuration file has a table with the rule of a gate."""
    from pytest_harbor.plugin.gate import rule_in_file

    return rule_in_file(config) is not None


def refuse_flags_without_effect(config: pytest.Config, options: HarborConfig) -> None:
    """Refuse flags that were typed and have no effect.

    Raises:
        pytest.UsageError: there are some; the message says what each of them needs.

    """
    given = [field for field in _NEEDS if config.getoption(f"harbor_{field}") is not None]
    idle = [field for field in given if not _NEEDS[field][0](options)]
    if any(_NEEDS[field][1].startswith(_GATE) for field in idle) and _rule_is_in_file(config):
        idle = [field for field in idle if not _NEEDS[field][1].startswith(_GATE)]
    if not idle:
        return
    typed = typed_options(config)
    problems = [
        f"--harbor-{field.replace('_', '-')} has no effect {_NEEDS[field][1]}, or remove it"
        for field in idle
        if getattr(typed, f"harbor_{field}") is not None
    ]
    if problems:
        raise pytest.UsageError(*problems)

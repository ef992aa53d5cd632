"""What a user can set about the proxy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_harbor.proxy.budget import Ledger, TrialBudget
from pytest_harbor.proxy.endpoints import Vendor
from pytest_harbor.proxy.prices import Prices
from pytest_harbor.proxy.redact import SHORTEST

Mode = Literal["live", "record", "replay", "auto"]
LogLevel = Literal["full", "meta", "off"]

DEFAULT_URLS: Mapping[Vendor, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
}


@dataclass(frozen=True)
class Upstream:
    """Where calls go.

    Attributes:
        url: base URL, with the version (`/v1`) and without a slash at its end.
        key: the real key; empty for none. It is never shown.

    """

    url: str
    key: str = field(default="", repr=False)

    @property
    def secret(self) -> str:
        """The key where it is one to be kept; empty for what servers without keys are given, which is any word."""
        return self.key if len(self.key) >= SHORTEST else ""


@dataclass(frozen=True)
class ProxySettings:
    """The settings of the proxy.

    Attributes:
        mode: `live`, `record`, `replay` or `auto`, see docs/proxy.md.
        upstreams: where calls go, by vendor.
        cassettes: directory of all cassettes.
        log: what is kept of each call.
        budget: what each trial may use.
        ledger: what the run has used, and may; None for no limit.
        prices: what models cost.

    """

    mode: Mode
    upstreams: Mapping[Vendor, Upstream]
    cassettes: Path = Path("cassettes")
    log: LogLevel = "full"
    budget: TrialBudget = field(default_factory=TrialBudget)
    ledger: Ledger | None = None
    prices: Prices = field(default_factory=Prices.load)

    @property
    def has_upstream(self) -> bool:
        """Whether any call goes there."""
        return self.mode != "replay"


def upstreams_of(
    variables: Mapping[str, str],
    *,
    openai_base_url: str = "",
    openai_key: str = "OPENAI_API_KEY",
    anthropic_base_url: str = "",
    anthropic_key: str = "ANTHROPIC_API_KEY",
) -> dict[Vendor, Upstream]:
    """Return where calls go.

    Args:
        variables: those of the host.
        openai_base_url: instead of the host's OPENAI_BASE_URL.
        openai_key: name of the variable with the key for that.
        anthropic_base_url: instead of the host's ANTHROPIC_BASE_URL, with or without the version at its end, as the
            clients of Anthropic add it.
        anthropic_key: name of the variable with the key for that.

    """
    openai = openai_base_url or variables.get("OPENAI_BASE_URL", "") or DEFAULT_URLS["openai"]
    anthropic = anthropic_base_url or variables.get("ANTHROPIC_BASE_URL", "") or DEFAULT_URLS["anthropic"]
    anthropic = anthropic.rstrip("/").removesuffix("/v1") + "/v1"
    return {
        "openai": Upstream(openai.rstrip("/"), variables.get(openai_key, "").strip()),
        "anthropic": Upstream(anthropic, variables.get(anthropic_key, "").strip()),
    }

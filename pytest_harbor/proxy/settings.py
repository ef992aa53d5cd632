"""The proxy's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_harbor.proxy.budget import Ledger, TrialBudget
from pytest_harbor.proxy.endpoints import Vendor
from pytest_harbor.proxy.prices import Prices
from pytest_harbor.proxy.redact import MIN_SECRET_LENGTH

Mode = Literal["live", "record", "replay", "auto"]
LogLevel = Literal["full", "meta", "off"]

DEFAULT_URLS: Mapping[Vendor, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
}


@dataclass(frozen=True)
class Upstream:
    """A server that model calls go to.

    Attributes:
        url: the base URL, with the version (`/v1`) and without a trailing slash.
        key: the real key, or empty. It is not part of the repr.

    """

    url: str
    key: str = field(default="", repr=False)

    @property
    def shown_url(self) -> str:
        """The URL for messages, without a user and password."""
        scheme, separator, rest = self.url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"

    @property
    def secret(self) -> str:
        """The key if it must stay secret; empty for a dummy such as `none`, given to servers that need no key."""
        return self.key if len(self.key) >= MIN_SECRET_LENGTH else ""


@dataclass(frozen=True)
class ProxySettings:
    """The settings of the proxy.

    Attributes:
        mode: `live`, `record`, `replay` or `auto` (see docs/proxy.md).
        upstreams: the servers that calls go to, by vendor.
        cassettes: the directory of all cassettes.
        log: what is logged of each call.
        budget: the budget of each trial.
        ledger: the usage and budget of the run; None for no limit.
        prices: the prices of models.

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
        """Whether calls may go upstream."""
        return self.mode != "replay"


def upstreams_of(
    variables: Mapping[str, str],
    *,
    openai_base_url: str = "",
    openai_key: str = "OPENAI_API_KEY",
    anthropic_base_url: str = "",
    anthropic_key: str = "ANTHROPIC_API_KEY",
) -> dict[Vendor, Upstream]:
    """Return the servers that calls go to.

    Args:
        variables: the host's environment variables.
        openai_base_url: overrides OPENAI_BASE_URL.
        openai_key: name of the environment variable with the key for that server.
        anthropic_base_url: overrides ANTHROPIC_BASE_URL. The version at the end is optional, as Anthropic's clients
            add it themselves.
        anthropic_key: name of the environment variable with the key for that server.

    """
    openai = openai_base_url or variables.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URLS["openai"]
    anthropic = anthropic_base_url or variables.get("ANTHROPIC_BASE_URL", "").strip() or DEFAULT_URLS["anthropic"]
    anthropic = anthropic.rstrip("/").removesuffix("/v1") + "/v1"
    return {
        "openai": Upstream(openai.rstrip("/"), variables.get(openai_key, "").strip()),
        "anthropic": Upstream(anthropic, variables.get(anthropic_key, "").strip()),
    }

"""The model proxy: it sits between agents and models, keeps the keys, meters, enforces budgets, records and replays."""

from pytest_harbor.proxy.budget import Ledger, SessionBudget, TrialBudget
from pytest_harbor.proxy.prices import Price, Prices
from pytest_harbor.proxy.service import ProxyService
from pytest_harbor.proxy.settings import ProxySettings, Upstream, upstreams_of

__all__ = [
    "Ledger",
    "Price",
    "Prices",
    "ProxyService",
    "ProxySettings",
    "SessionBudget",
    "TrialBudget",
    "Upstream",
    "upstreams_of",
]

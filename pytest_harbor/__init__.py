"""Harbor tasks as pytest items, and the same trials from plain Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_harbor.api import run_trial, run_trial_async
    from pytest_harbor.errors import CannotExecute, InfrastructureError
    from pytest_harbor.proxy import Prices, ProxySettings, TrialBudget, Upstream, upstreams_of
    from pytest_harbor.task import Dataset, DatasetError, Task, TaskError
    from pytest_harbor.trial import TrialHooks, TrialResult, TrialSettings

__all__ = [
    "CannotExecute",
    "Dataset",
    "DatasetError",
    "InfrastructureError",
    "Prices",
    "ProxySettings",
    "Task",
    "TaskError",
    "TrialBudget",
    "TrialHooks",
    "TrialResult",
    "TrialSettings",
    "Upstream",
    "run_trial",
    "run_trial_async",
    "upstreams_of",
]

_HOMES = {
    "CannotExecute": "errors",
    "Dataset": "task",
    "DatasetError": "task",
    "InfrastructureError": "errors",
    "Prices": "proxy",
    "ProxySettings": "proxy",
    "Task": "task",
    "TaskError": "task",
    "TrialBudget": "proxy",
    "TrialHooks": "trial",
    "TrialResult": "trial",
    "TrialSettings": "trial",
    "Upstream": "proxy",
    "run_trial": "api",
    "run_trial_async": "api",
    "upstreams_of": "proxy",
}


def __getattr__(name: str) -> Any:
    # Lazy, because pytest imports this package in every project that has the plugin installed.
    if name in _HOMES:
        return getattr(import_module(f"pytest_harbor.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

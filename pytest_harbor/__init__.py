"""Harbor tasks as pytest items, and the same trials from plain Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_harbor.task import Dataset, Task

__all__ = ["Dataset", "Task"]

_HOMES = {"Dataset": "task", "Task": "task"}


def __getattr__(name: str) -> Any:
    # Lazy, because pytest imports this package in every project that has the plugin installed.
    if name in _HOMES:
        return getattr(import_module(f"pytest_harbor.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Where trials run: the provider protocol and the providers."""

from pytest_harbor.environment.archive import Extraction, Upload
from pytest_harbor.environment.base import Environment, ExecResult, Process, Provider, Resources, StartRequest

__all__ = [
    "Environment",
    "ExecResult",
    "Extraction",
    "Process",
    "Provider",
    "Resources",
    "StartRequest",
    "Upload",
]

"""Where trials run: the provider protocol and the providers."""

from pytest_harbor.environment.base import Environment, ExecResult, Process, Provider, Resources, StartRequest
from pytest_harbor.environment.tar.pack import Upload
from pytest_harbor.environment.tar.unpack import Extraction

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

"""Tasks and datasets on disk: the schema of task.toml, discovery, content digests."""

from __future__ import annotations

from pytest_harbor.task.dataset import Dataset, select_tasks
from pytest_harbor.task.discovery import discover
from pytest_harbor.task.errors import DatasetError, TaskError
from pytest_harbor.task.schema import (
    AgentConfig,
    ArtifactConfig,
    CollectConfig,
    EnvironmentConfig,
    HealthcheckConfig,
    McpServerConfig,
    SolutionConfig,
    StepConfig,
    TaskConfig,
    VerifierConfig,
)
from pytest_harbor.task.task import Task

__all__ = [
    "AgentConfig",
    "ArtifactConfig",
    "CollectConfig",
    "Dataset",
    "DatasetError",
    "EnvironmentConfig",
    "HealthcheckConfig",
    "McpServerConfig",
    "SolutionConfig",
    "StepConfig",
    "Task",
    "TaskConfig",
    "TaskError",
    "VerifierConfig",
    "discover",
    "select_tasks",
]

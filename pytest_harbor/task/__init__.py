"""Tasks and datasets on disk: the schema of task.toml, discovery, content digests."""

from __future__ import annotations

from pytest_harbor.task.dataset import Dataset, select_tasks
from pytest_harbor.task.discovery import discover, discover_taskset
from pytest_harbor.task.errors import DatasetError, TaskError
from pytest_harbor.task.task import Task

# The schema is not imported here: pydantic is slow to import, and an xdist controller never reads a task.toml.
__all__ = ["Dataset", "DatasetError", "Task", "TaskError", "discover", "discover_taskset", "select_tasks"]

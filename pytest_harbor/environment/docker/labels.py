"""Labels of the images and containers that pytest-harbor creates, and the removal of containers."""

from __future__ import annotations

import contextlib

from docker import APIClient
from docker.errors import APIError, NotFound

from pytest_harbor.environment.docker.errors import engine_errors

IMAGE_LABEL = "pytest-harbor.image"
OWNER_LABEL = "pytest-harbor.owner"
MACHINE_LABEL = "pytest-harbor.machine"
RUN_LABEL = "pytest-harbor.run"
TASK_LABEL = "pytest-harbor.task"
CONTAINER_LABELS = (OWNER_LABEL, MACHINE_LABEL, RUN_LABEL, TASK_LABEL)


def remove_container(client: APIClient, container: str) -> None:
    """Remove a container and its volumes by force, unless it is already gone or being removed."""
    with engine_errors(f"removing container {container[:12]}"):
        try:
            client.remove_container(container, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:
                raise
            with contextlib.suppress(NotFound):
                client.wait(container, condition="removed", timeout=60)

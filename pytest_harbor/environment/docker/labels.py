"""Our containers: how they are marked, and how they are removed."""

from __future__ import annotations

import contextlib

from docker import APIClient
from docker.errors import APIError, NotFound

from pytest_harbor.environment.docker.errors import engine_errors

OWNER_LABEL = "pytest-harbor.owner"
MACHINE_LABEL = "pytest-harbor.machine"
RUN_LABEL = "pytest-harbor.run"
TASK_LABEL = "pytest-harbor.task"
LABELS = (OWNER_LABEL, MACHINE_LABEL, RUN_LABEL, TASK_LABEL)


def remove(client: APIClient, container: str) -> None:
    """Remove a container and its volumes by force; one that is gone already, or going, is fine."""
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

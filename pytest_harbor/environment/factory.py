"""Which provider makes a run's environments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_harbor._util.choices import ProviderChoice
from pytest_harbor.environment.base import Provider
from pytest_harbor.errors import InfrastructureError


def create_provider(choice: ProviderChoice, hidden: Sequence[Path] = ()) -> tuple[Provider, str]:
    """Return the provider, and why it is not Docker where that was left open.

    Args:
        choice: `docker`, `namespace`, or `auto`: Docker where an engine answers, else namespace where that works.
        hidden: directories of the host that no environment may see.

    """
    from pytest_harbor.environment.docker import DockerProvider
    from pytest_harbor.environment.namespace import NamespaceProvider

    if choice == "namespace":
        return NamespaceProvider(hidden), ""
    docker = DockerProvider()
    if choice == "docker":
        return docker, ""
    try:
        docker.describe()
    except InfrastructureError as missing:
        namespace = NamespaceProvider(hidden)
        try:
            namespace.describe()
        except InfrastructureError as error:
            # Docker is what the user can do most about.
            return docker, f"nor does this machine do without one: {error.fact}"
        docker.close()
        return namespace, f"as {missing.fact}"
    return docker, ""

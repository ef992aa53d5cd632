"""Creates the provider of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_harbor._util.choices import ProviderChoice
from pytest_harbor.environment.base import Provider
from pytest_harbor.errors import InfrastructureError


def create_provider(choice: ProviderChoice, hidden: Sequence[Path] = ()) -> tuple[Provider, str]:
    """Return the provider, and why `auto` did not lead to a working Docker engine; else "".

    Args:
        choice: `docker`, `namespace`, or `auto`: Docker if an engine answers, or if DOCKER_HOST or a docker context
            names one; else namespace if it works here.
        hidden: host directories that no environment may see.

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
        if docker.is_explicit:
            return docker, ""
        namespace = NamespaceProvider(hidden)
        try:
            namespace.describe()
        except InfrastructureError as error:
            # Of the two, Docker is easier for the user to fix.
            return docker, f"and {error.fact}"
        docker.close()
        # An engine that is there and refuses this user is surely wanted.
        refused = isinstance(missing.__cause__, PermissionError)
        return namespace, f"because {missing if refused else missing.fact}"
    return docker, ""

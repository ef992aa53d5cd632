"""The provider `docker`: one container per trial, through the Engine API."""

from pytest_harbor.environment.docker.provider import DockerProvider

__all__ = ["DockerProvider"]

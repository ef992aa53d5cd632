"""What the Engine says, told as our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from pytest_harbor.errors import EngineUnavailable, EnvironmentLost, InfrastructureError

FIX = "start Docker, or point DOCKER_HOST or `docker context use` at an engine that runs (`docker info` must answer)"


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn what the SDK raises into InfrastructureError: gone containers and engines keep classes of their own."""
    try:
        yield
    except NotFound as error:
        raise EnvironmentLost(f"{doing}: {reason(error)}", "see whether something else removes containers") from error
    except APIError as error:
        raise InfrastructureError(f"{doing}: {reason(error)}") from error
    except (DockerException, requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"{doing}: the Docker Engine does not answer ({short(error)})", FIX) from error


def reason(error: APIError) -> str:
    """Return the Engine's own words."""
    return short(error.explanation or error)


def short(error: object) -> str:
    """Return an error in one line of bounded length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else text[:397] + "..."

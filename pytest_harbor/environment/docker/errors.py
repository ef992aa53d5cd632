"""Errors of the Docker SDK, translated to those of pytest-harbor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from pytest_harbor._util.text import one_line
from pytest_harbor.errors import EngineUnavailable, EnvironmentLost, InfrastructureError

FIX = "start Docker, or select a running engine with DOCKER_HOST or `docker context use` (`docker info` must work)"
REMOVED_FIX = "check whether something else removes containers"


@contextmanager
def engine_errors(action: str) -> Iterator[None]:
    """Raise the SDK's errors as InfrastructureError.

    A missing container becomes EnvironmentLost and a missing engine EngineUnavailable.

    Args:
        action: phrase for the message, such as "starting NAME".

    """
    try:
        yield
    except NotFound as error:
        raise EnvironmentLost(f"{action}: {reason(error)}", REMOVED_FIX) from error
    except APIError as error:
        raise InfrastructureError(f"{action}: {reason(error)}") from error
    except (DockerException, requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"{action}: the Docker Engine does not answer ({short(error)})", FIX) from error


def reason(error: APIError) -> str:
    """Return the Engine's own message."""
    return short(error.explanation or error)


def short(error: object) -> str:
    """Return an error's message as one line of bounded length."""
    return one_line(str(error), 400)

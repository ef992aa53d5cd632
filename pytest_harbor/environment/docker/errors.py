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
        raise EnvironmentLost(f"{action}: {error_text(error)}", REMOVED_FIX) from error
    except APIError as error:
        raise InfrastructureError(f"{action}: {error_text(error)}") from error
    except (DockerException, requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"{action}: the Docker Engine does not answer ({error_text(error)})", FIX) from error


def error_text(error: object) -> str:
    """Return an error's message as one line of bounded length; for an error of the Engine, the Engine's own message."""
    explanation = error.explanation if isinstance(error, APIError) else None
    return one_line(str(explanation or error), 400)

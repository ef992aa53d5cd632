"""Errors of the Docker SDK, translated to those of pytest-harbor."""

from __future__ import annotations

import errno
import os
import socket
import ssl
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
        raise EngineUnavailable(f"{action}: the Docker Engine does not answer ({reason_of(error)})", FIX) from error


def error_text(error: object) -> str:
    """Return an error's message as one line of bounded length; for an error of the Engine, the Engine's own message."""
    explanation = error.explanation if isinstance(error, APIError) else None
    return one_line(str(explanation or error), 400)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it; requests and urllib3 keep some as arguments."""
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        current = queue.pop(0)
        if isinstance(current, BaseException) and current not in seen:
            seen.append(current)
            yield current
            queue += [getattr(current, "reason", None), *current.args, current.__cause__, current.__context__]


def reason_of(error: BaseException) -> str:
    """Return the cause of an error in a few words."""
    for cause in causes_of(error):
        if isinstance(cause, APIError):
            return error_text(cause)
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({one_line(str(cause), 100)})"
        if isinstance(cause, socket.gaierror):
            return "its host name cannot be resolved"
        # In urllib3 1, a refused connection is a TimeoutError too.
        timed_out = isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError)
        if timed_out and not isinstance(cause, urllib3.exceptions.NewConnectionError):
            return "the connection timed out"
        if isinstance(cause, OSError) and cause.errno in errno.errorcode:
            return os.strerror(cause.errno or 0).lower()
        if isinstance(cause, ConnectionError):
            return "the connection was closed"
    return error_text(error)

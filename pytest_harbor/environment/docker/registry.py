"""Transfers of images from and to registries, with the docker CLI's credentials and a timeout for every wait.

The engine gives up after half a minute on a registry that does not answer its first request, but waits forever for one
that stops in the middle of a transfer. The SDK waits forever for the engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.environment.docker.client import EngineClient
from pytest_harbor.environment.docker.errors import engine_errors, error_text
from pytest_harbor.errors import ImageError, ImageMissing, RegistryUnavailable

# How long the engine may be silent during a pull or push, in seconds.
SILENCE_TIMEOUT = 120.0

FIX = "check the image name, the network and `docker login`"

_MISSING = re.compile(r"not found|manifest unknown|name unknown", re.IGNORECASE)
_DENIED = re.compile(r"denied|unauthorized", re.IGNORECASE)


class RegistryClient(EngineClient):
    """A client whose timeout, in seconds, limits every wait for the engine's next data."""

    _response: requests.Response | None = None

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request with the client's timeout, even if the SDK would use none."""
        kwargs["timeout"] = kwargs.get("timeout") or self.timeout
        self._response = super().request(*args, **kwargs)
        return self._response

    def close(self) -> None:
        """Close the connection, even in the middle of a response."""
        if self._response is not None:
            self._response.close()
        super().close()


def pull(client: RegistryClient, ref: str, *, log: Path, timeout: float) -> None:
    """Pull an image within a number of seconds.

    Raises:
        ImageError: the image is not available; see ImageBackend.pull_image.

    """
    name = ref if ":" in ref.rpartition("/")[2] or "@" in ref else f"{ref}:latest"
    fact = f"image {ref} does not exist locally and cannot be pulled"
    with engine_errors(f"pulling {ref}"), _transfer(fact, log, timeout) as progress:
        progress.follow(client.pull(name, stream=True, decode=True))


def push(client: RegistryClient, ref: str, *, log: Path, timeout: float) -> None:
    """Push an image within a number of seconds.

    Raises:
        ImageError: the image cannot be pushed.

    """
    fact = f"image {ref} cannot be pushed"
    with engine_errors(f"pushing {ref}"), _transfer(fact, log, timeout) as progress:
        progress.follow(client.push(ref, stream=True, decode=True))


def is_published(client: RegistryClient, ref: str) -> bool:
    """Return True if a registry has an image and the user may read it.

    Raises:
        RegistryUnavailable: the registry does not answer.

    """
    fact = f"the registry of {ref} does not report whether it has the image"
    with engine_errors(f"looking up {ref}"):
        try:
            client.inspect_distribution(ref)  # type: ignore[no-untyped-call]
        except APIError as error:
            # Some registries deny access to an image that does not exist yet; the push will show.
            if isinstance(error, NotFound) or _DENIED.search(error_text(error)):
                return False
            raise RegistryUnavailable(f"{fact} ({error_text(error)})", FIX, detail=error_text(error)) from error
        except (DockerException, requests.exceptions.Timeout) as error:
            raise RegistryUnavailable(f"{fact} ({error_text(error)})", FIX, detail=error_text(error)) from error
    return True


class _Progress:
    """The progress of a transfer, as the engine reports it."""

    def __init__(self, fact: str, log: Path, timeout: float) -> None:
        self._fact = fact
        self._log = log
        self._timeout = timeout
        self._deadline = monotonic() + timeout
        self._file = log.open("w", encoding="utf-8")
        self._has_progress = False

    def follow(self, messages: Iterator[dict[str, Any]]) -> None:
        """Write the messages to the log; raise the first error among them."""
        for message in messages:
            self.write(f"{message.get('id', '')} {message.get('status', message.get('error', ''))}")
            if "error" in message:
                raise self.failure(error_text(message["error"]))
            if monotonic() > self._deadline:
                raise self.unavailable(f"not finished after {self._timeout:g} s")
            self._has_progress = True

    def write(self, text: str) -> None:
        """Write to the log."""
        self._file.write(text + "\n")

    def failure(self, message: str, missing: bool = False) -> ImageError:
        """Return the error for a message of the registry."""
        # Some registries report what the user may not read as missing, and the engine joins both messages.
        if (missing or _MISSING.search(message)) and not _DENIED.search(message):
            return ImageMissing(f"{self._fact} ({message})", FIX, log=self._log)
        if self._has_progress:
            return ImageError(f"{self._fact} ({message})", FIX, log=self._log)
        return self.unavailable(message)

    def unavailable(self, reason: str) -> RegistryUnavailable:
        """Return the error for a registry that does not answer."""
        return RegistryUnavailable(f"{self._fact} ({reason})", FIX, log=self._log, detail=reason)

    def close(self) -> None:
        """Close the log."""
        self._file.close()


@contextmanager
def _transfer(fact: str, log: Path, timeout: float) -> Iterator[_Progress]:
    """Log a transfer, and raise its errors as ImageError."""
    progress = _Progress(fact, log, timeout)
    try:
        yield progress
    except APIError as error:
        progress.write(str(error))
        raise progress.failure(error_text(error), isinstance(error, NotFound)) from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise progress.unavailable(f"no response for {min(timeout, SILENCE_TIMEOUT):g} s") from error
    except DockerException as error:
        raise progress.unavailable(error_text(error)) from error
    finally:
        progress.close()

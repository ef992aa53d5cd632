"""Images from and to registries: with the credentials of the docker CLI, and an end to every wait.

The engine gives a registry up that does not answer its first question, after half a minute, but waits for ever on one
that stops in the middle; and the SDK waits for ever on the engine.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import urllib3
from docker import APIClient
from docker.errors import APIError, DockerException, NotFound

from pytest_harbor.environment.docker.errors import engine_errors, reason, short
from pytest_harbor.errors import ImageError, ImageMissing, RegistryUnavailable

# How long an engine may say nothing while it pulls or pushes, in seconds.
SILENCE = 120.0

FIX = "check its name, the network and `docker login`"

_MISSING = re.compile(r"not found|manifest unknown|name unknown", re.IGNORECASE)
_DENIED = re.compile(r"denied|unauthorized", re.IGNORECASE)


class RegistryClient(APIClient):
    """A client that waits for the engine's next words for its timeout, in seconds, and never longer."""

    _answer: requests.Response | None = None

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, with a deadline also where the SDK wants none."""
        kwargs["timeout"] = kwargs.get("timeout") or self.timeout
        self._answer = super().request(*args, **kwargs)
        return self._answer

    def close(self) -> None:
        """Close the connection, also in the middle of an answer."""
        if self._answer is not None:
            self._answer.close()
        super().close()


def pull(client: RegistryClient, ref: str, *, log: Path, timeout: float) -> None:
    """Pull an image within a number of seconds.

    Raises:
        ImageError: it cannot be had; see ImageBackend.pull_image.

    """
    name = ref if ":" in ref.rpartition("/")[2] or "@" in ref else f"{ref}:latest"
    fact = f"image {ref} is not here and cannot be pulled"
    with engine_errors(f"pulling {ref}"), _following(fact, log, timeout) as progress:
        progress.follow(client.pull(name, stream=True, decode=True))


def push(client: RegistryClient, ref: str, *, log: Path, timeout: float) -> None:
    """Push an image within a number of seconds.

    Raises:
        ImageError: it cannot be pushed.

    """
    fact = f"image {ref} cannot be pushed"
    with engine_errors(f"pushing {ref}"), _following(fact, log, timeout) as progress:
        progress.follow(client.push(ref, stream=True, decode=True))


def is_published(client: RegistryClient, ref: str) -> bool:
    """Tell whether a registry has an image that we may see.

    Raises:
        RegistryUnavailable: it does not say.

    """
    fact = f"the registry of {ref} does not say whether it has it"
    with engine_errors(f"asking for {ref}"):
        try:
            client.inspect_distribution(ref)  # type: ignore[no-untyped-call]
        except APIError as error:
            # Some registries deny what does not exist as yet; the push will tell.
            if isinstance(error, NotFound) or _DENIED.search(reason(error)):
                return False
            raise RegistryUnavailable(f"{fact} ({reason(error)})", FIX, detail=reason(error)) from error
        except (DockerException, requests.exceptions.Timeout) as error:
            raise RegistryUnavailable(f"{fact} ({short(error)})", FIX, detail=short(error)) from error
    return True


class _Progress:
    """What the engine says of a transfer."""

    def __init__(self, fact: str, log: Path, timeout: float) -> None:
        self._fact = fact
        self._log = log
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._file = log.open("w", encoding="utf-8")
        self._begun = False

    def follow(self, messages: Iterator[dict[str, Any]]) -> None:
        """Write the messages to the log, up to the first that tells of an error."""
        for message in messages:
            self.note(f"{message.get('id', '')} {message.get('status', message.get('error', ''))}")
            if "error" in message:
                raise self.failure(short(message["error"]))
            if time.monotonic() > self._deadline:
                raise self.unavailable(f"not done after {self._timeout:g} s")
            self._begun = True

    def note(self, text: str) -> None:
        """Write to the log."""
        self._file.write(text + "\n")

    def failure(self, said: str, missing: bool = False) -> ImageError:
        """Return the error that a registry's words come to."""
        # Some registries call what one may not see missing, and the engine joins them.
        if (missing or _MISSING.search(said)) and not _DENIED.search(said):
            return ImageMissing(f"{self._fact} ({said})", FIX, log=self._log)
        if self._begun:
            return ImageError(f"{self._fact} ({said})", FIX, log=self._log)
        return self.unavailable(said)

    def unavailable(self, said: str) -> RegistryUnavailable:
        """Return the error of a registry that has no words for us."""
        return RegistryUnavailable(f"{self._fact} ({said})", FIX, log=self._log, detail=said)

    def close(self) -> None:
        """Close the log."""
        self._file.close()


@contextmanager
def _following(fact: str, log: Path, timeout: float) -> Iterator[_Progress]:
    """Turn what goes wrong with a transfer into ImageError."""
    progress = _Progress(fact, log, timeout)
    try:
        yield progress
    except APIError as error:
        progress.note(str(error))
        raise progress.failure(reason(error), isinstance(error, NotFound)) from error
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise progress.unavailable(f"nothing was heard for {min(timeout, SILENCE):g} s") from error
    except DockerException as error:
        raise progress.unavailable(short(error)) from error
    finally:
        progress.close()

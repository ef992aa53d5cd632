"""Where the Docker Engine is, who said so, and what to do if nothing answers there."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

from docker import utils
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.errors import DockerException

from pytest_harbor._util.unpatched import Socket
from pytest_harbor.environment.docker.errors import causes_of, error_text, reason_of
from pytest_harbor.errors import EngineUnavailable

DEFAULT_ADDRESS = DEFAULT_UNIX_SOCKET.replace("http+", "")


@dataclass(frozen=True)
class EngineAddress:
    """The address that the docker CLI would use: that of DOCKER_HOST, else of the chosen context, else the default.

    Attributes:
        url: the address.
        source: the setting that it comes from; empty for the default.
        cure: how to take that setting back.
        options: what the SDK's client takes: the address and the certificates.

    """

    url: str
    source: str
    cure: str
    options: dict[str, Any]

    @classmethod
    def find(cls) -> EngineAddress:
        """Read DOCKER_HOST, DOCKER_CONTEXT and the current context.

        Raises:
            EngineUnavailable: the context or the directory of certificates does not exist.

        """
        try:
            options: dict[str, Any] = dict(utils.kwargs_from_env())
        except (DockerException, OSError) as error:
            raise EngineUnavailable(
                f"the Docker Engine's certificates cannot be used: {error_text(error)}",
                "check DOCKER_CERT_PATH and DOCKER_TLS_VERIFY",
            ) from error
        if url := str(options.get("base_url") or ""):
            return cls(url, "DOCKER_HOST", "unset DOCKER_HOST", options)
        chosen = os.environ.get("DOCKER_CONTEXT")
        context = ContextAPI.get_context(chosen)
        if context is None:
            name = f"{chosen!r} (DOCKER_CONTEXT)" if chosen else repr(get_current_context_name())
            raise EngineUnavailable(
                f"docker context {name} does not exist", "choose one that `docker context ls` lists"
            )
        if context.name == "default":
            return cls(DEFAULT_ADDRESS, "", "", {**options, "base_url": DEFAULT_ADDRESS})
        source = f"docker context {context.name!r}"
        cure = "unset DOCKER_CONTEXT" if chosen else "choose another one with `docker context use`"
        options = {**ContextAPI.kwargs_from_context(environment=os.environ), **options}
        return cls(str(options.get("base_url") or DEFAULT_ADDRESS), source, cure, options)

    def check(self) -> None:
        """Check the form of the address, and that a server listens on a unix socket.

        The SDK's own error names no address, and it leaks the socket.

        Raises:
            EngineUnavailable: it cannot be an engine's address, or nothing answers.

        """
        try:
            parsed = str(utils.parse_host(self.url))
        except DockerException as error:
            raise EngineUnavailable(
                f"{self._name} is not the address of a Docker Engine ({error_text(error)})", self._fix("correct it")
            ) from error
        path = parsed.partition("unix://")[2]
        if not path:
            return
        with Socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(f"/{path.lstrip('/')}")
            except OSError as error:
                raise self.unavailable(error) from error

    def unavailable(self, error: BaseException) -> EngineUnavailable:
        """Return the error for an engine that cannot be connected to."""
        refused = any(isinstance(cause, PermissionError) for cause in causes_of(error))
        if refused and "unix" in self.url:
            return EngineUnavailable(
                f"this user is not allowed to use the Docker Engine at {self._name}",
                self._fix("run `sudo usermod -aG docker $USER` and log in again"),
            )
        if "paramiko" in str(error):
            return EngineUnavailable(
                f"the Docker Engine at {self._name} needs the SDK's extra for SSH",
                self._fix('run `pip install "docker[ssh]"`'),
            )
        return EngineUnavailable(
            f"no Docker Engine answers at {self._name}: {reason_of(error)}",
            self._fix("start it" if self.source else "start Docker"),
        )

    @property
    def _name(self) -> str:
        return f"{self.url} ({self.source})" if self.source else self.url

    def _fix(self, first: str) -> str:
        return f"{first} or {self.cure or 'select a running engine with DOCKER_HOST or `docker context use`'}"

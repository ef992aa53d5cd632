"""The provider that uses a Docker Engine."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import requests
from docker import APIClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest
from docker.utils.config import load_general_config

from pytest_harbor._util.process import machine_id, process_token
from pytest_harbor._util.unpatched import monotonic, sleep
from pytest_harbor.environment.base import CleanupScope, StartRequest, is_in_scope
from pytest_harbor.environment.docker.address import EngineAddress
from pytest_harbor.environment.docker.build import Builder
from pytest_harbor.environment.docker.client import EngineClient
from pytest_harbor.environment.docker.environment import DockerEnvironment
from pytest_harbor.environment.docker.errors import engine_errors, error_text
from pytest_harbor.environment.docker.events import EventListener
from pytest_harbor.environment.docker.host_access import HostAccess
from pytest_harbor.environment.docker.labels import (
    IMAGE_LABEL,
    MACHINE_LABEL,
    OWNER_LABEL,
    RUN_LABEL,
    TASK_LABEL,
    remove_container,
)
from pytest_harbor.environment.docker.registry import SILENCE_TIMEOUT, RegistryClient, is_published, pull, push
from pytest_harbor.environment.entrypoint import HANDOVER_TIMEOUT
from pytest_harbor.environment.proxies import docker_proxies
from pytest_harbor.environment.start_command import keep_alive_arguments, starts_service
from pytest_harbor.errors import EngineUnavailable, ImageError, InfrastructureError, StartError
from pytest_harbor.image import BuildContext, Image, ImageDetails
from pytest_harbor.image.adaptation import KEEP_ALIVE

# More processes than any honest task needs, but too few for a fork bomb to take down the machine.
PROCESS_LIMIT = 4096

# Timeout of a request to the engine, in seconds.
API_TIMEOUT = 120

_Client = TypeVar("_Client", bound=APIClient)


class DockerProvider:
    """Containers on the engine that the docker CLI would use: that of DOCKER_HOST, else of the current context."""

    name = "docker"
    has_registries = True
    adapts = True

    def __init__(self) -> None:
        self._builder = Builder()
        # The docker CLI's; read here, before a test can change the home directory.
        self._config = load_general_config()
        self._connections = contextlib.ExitStack()

    @cached_property
    def _address(self) -> EngineAddress:
        return EngineAddress.find()

    @cached_property
    def _proxies(self) -> dict[str, str]:
        return docker_proxies(self._config, self._address.url)

    @cached_property
    def _client(self) -> APIClient:
        client: APIClient = self._connect()
        self._connections.callback(client.close)
        return client

    @cached_property
    def _events(self) -> EventListener:
        events = EventListener(self._connect(), f"{OWNER_LABEL}={process_token()}")
        self._connections.callback(events.close)
        return events

    @cached_property
    def _info(self) -> dict[str, Any]:
        with engine_errors("inspecting the engine"):
            info: dict[str, Any] = self._client.info()
            return info

    @cached_property
    def _host_access(self) -> HostAccess:
        return HostAccess(self._client, lambda: self._info, self)

    @property
    def is_explicit(self) -> bool:
        """Whether the user named the engine, so that nothing else may take its place."""
        try:
            return bool(self._address.source)
        except EngineUnavailable:
            return True

    @property
    def engine_id(self) -> str:
        """The engine's own id."""
        return "".join(c for c in str(self._info.get("ID", "")) if c.isalnum())[:32] or "engine"

    def describe(self) -> str:
        """Return a phrase with the engine's version and number of CPUs."""
        return f"docker (Engine {self._info.get('ServerVersion')}, {self._info.get('NCPU')} CPUs)"

    @property
    def storage(self) -> Path | None:
        """The directory of the engine's images; None if the engine may be on another machine."""
        root = str(self._info.get("DockerRootDir") or "")
        return Path(root) if root and self._address.url.startswith("unix:") else None

    def _connect(self, kind: type[_Client] = EngineClient, timeout: int = API_TIMEOUT) -> _Client:  # type: ignore[assignment]
        address = self._address
        address.check()
        try:
            return kind(version="auto", timeout=timeout, **address.options)
        except (DockerException, requests.exceptions.RequestException, OSError) as error:
            raise address.unavailable(error) from error

    def find_image(self, ref: str) -> ImageDetails | None:
        """Look an image up on the engine."""
        with engine_errors(f"looking for image {ref}"):
            try:
                found = self._client.inspect_image(ref)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
            except APIError as error:
                if error.status_code == 400:
                    raise ImageError(f"{ref!r} is not a valid image reference: {error_text(error)}") from error
                raise
        config = found.get("Config") or {}
        return ImageDetails(
            id=found["Id"],
            entrypoint=tuple(config.get("Entrypoint") or ()),
            workdir=config.get("WorkingDir") or "",
            user=config.get("User") or "",
            variables=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        )

    @property
    def architecture(self) -> str:
        """The engine's architecture, unless DOCKER_DEFAULT_PLATFORM names another."""
        default = os.environ.get("DOCKER_DEFAULT_PLATFORM", "").partition("/")[2].replace("/", "-")
        return default or self._architecture

    @cached_property
    def _architecture(self) -> str:
        with engine_errors("inspecting the engine"):
            return str(self._client.version()["Arch"])

    def pull_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Pull an image with the credentials of the docker CLI."""
        with self._registry_client(timeout) as client:
            pull(client, ref, log=log, timeout=timeout)

    def push_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Push an image with the credentials of the docker CLI."""
        with self._registry_client(timeout) as client:
            push(client, ref, log=log, timeout=timeout)

    def is_published(self, ref: str) -> bool:
        """Return True if the registry in an image's name has the image."""
        with self._registry_client(SILENCE_TIMEOUT) as client:
            return is_published(client, ref)

    @contextlib.contextmanager
    def _registry_client(self, timeout: float) -> Iterator[RegistryClient]:
        """Open a separate connection, as an SDK client has only one timeout."""
        client = self._connect(RegistryClient, math.ceil(min(timeout, SILENCE_TIMEOUT)))
        try:
            yield client
        finally:
            client.close()

    def tag_image(self, ref: str, name: str) -> None:
        """Give an image another name."""
        repository, _, tag = name.rpartition(":")
        with engine_errors(f"tagging {ref} as {name}"):
            self._client.tag(ref, repository, tag, force=True)

    def import_image(self, ref: str, archive: bytes) -> None:
        """Create an image from a tar archive of its files."""
        repository, _, tag = ref.rpartition(":")
        with engine_errors(f"importing {ref}"):
            self._client.import_image_from_data(
                archive, repository=repository, tag=tag, changes=[f"LABEL {IMAGE_LABEL}=1"]
            )

    def build_image(self, context: BuildContext, ref: str, *, log: Path, timeout: float) -> None:
        """Build an image."""
        # Otherwise a missing engine would be reported as a Dockerfile that fails to build.
        self.describe()
        self._builder.build(self._client, context, ref, log=log, timeout=timeout)

    def start(self, image: Image, request: StartRequest) -> DockerEnvironment:
        """Create a container, upload its files and start it."""
        notes: list[str] = []
        entrypoint = image.details.entrypoint
        service = starts_service(entrypoint)
        self._listen_for_events()
        created = ""
        try:
            with engine_errors(f"creating a container from {image.ref}"):
                config = self._client.create_container_config(
                    image=image.details.id,
                    command=keep_alive_arguments(entrypoint if service else ()),
                    entrypoint=None if service or not entrypoint else [""],
                    working_dir=request.workdir or None,
                    environment={**self._proxies, **request.variables},
                    labels={
                        OWNER_LABEL: process_token(),
                        MACHINE_LABEL: machine_id(),
                        RUN_LABEL: request.run,
                        TASK_LABEL: request.task,
                    },
                    host_config=self._host_config(request, notes),
                )
                created = request.name
                container = self._client.create_container_from_config(config, request.name)["Id"]  # type: ignore[no-untyped-call]
            environment = DockerEnvironment(
                self._client,
                self._events,
                self._host_access,
                container,
                request.name,
                image,
                request.workdir or image.details.workdir or "/",
                notes,
                self._proxies,
            )
            environment.kept = tuple(environment.upload(request.uploads))
            with engine_errors(f"starting {request.name}"):
                self._client.start(container)
            if service:
                self._await_handover(environment)
        except BaseException as error:
            if created:
                remove_container(self._client, created)
            if isinstance(error, InfrastructureError) and not isinstance(error, EngineUnavailable | StartError):
                raise StartError(error.fact, error.fix) from error
            raise
        return environment

    def _listen_for_events(self) -> None:
        with engine_errors("subscribing to the engine's events"):
            self._events.open()

    def _host_config(self, request: StartRequest, notes: list[str]) -> Any:
        resources = request.resources
        options: dict[str, Any] = {"init": True, "pids_limit": PROCESS_LIMIT}
        if not request.network:
            options["network_mode"] = "none"
        if resources.memory_mb:
            options["mem_limit"] = resources.memory_mb * 1024 * 1024
        if resources.cpus:
            # The engine refuses more CPUs than it has, but tasks are often written for large machines.
            available = float(self._info.get("NCPU") or resources.cpus)
            if resources.cpus > available:
                notes.append(f"the task requests {resources.cpus:g} CPUs, but the engine has {available:g}")
            options["nano_cpus"] = int(min(resources.cpus, available) * 1_000_000_000)
        if resources.gpus:
            options["device_requests"] = [DeviceRequest(count=resources.gpus, capabilities=[["gpu"]])]
        return self._client.create_host_config(**options)

    def _await_handover(self, environment: DockerEnvironment) -> None:
        """Wait until the ENTRYPOINT runs the keep-alive command, and so has started its services, or has failed."""
        deadline = monotonic() + HANDOVER_TIMEOUT
        while monotonic() < deadline:
            with engine_errors(f"inspecting {environment.name}"):
                try:
                    rows = self._client.top(environment.id)["Processes"]
                except (APIError, NotFound):
                    rows = []
            if not rows and not environment.is_running():
                raise environment.lost()
            if any(" ".join(KEEP_ALIVE) == row[-1] for row in rows):
                return
            sleep(0.02)

    def remove_owned(self, scope: CleanupScope) -> list[str]:
        """Remove containers created by pytest-harbor, and return their names."""
        with engine_errors("listing containers"):
            found = self._client.containers(all=True, filters={"label": [OWNER_LABEL]})
        removed = []
        for container in found:
            labels = container.get("Labels") or {}
            if is_in_scope(scope, labels.get(OWNER_LABEL, ""), labels.get(MACHINE_LABEL, "")):
                remove_container(self._client, container["Id"])
                removed.append((container.get("Names") or [container["Id"]])[0].lstrip("/"))
        return removed

    def count_owned(self) -> int:
        """Return the number of containers created by pytest-harbor."""
        with engine_errors("listing containers"):
            return len(self._client.containers(all=True, filters={"label": [OWNER_LABEL]}))

    def remove_images(self) -> list[str]:
        """Remove the unused images built by pytest-harbor, and return their names."""
        with engine_errors("listing images"):
            found = self._client.images(filters={"label": [f"{IMAGE_LABEL}=1"]})
        removed = []
        for image in found:
            try:
                self._client.remove_image(image["Id"], force=True)
            except APIError:
                continue
            removed.append((image.get("RepoTags") or [image["Id"]])[0])
        return removed

    def close(self) -> None:
        """Close the connections and kill builds that other threads still run."""
        self._builder.stop()
        self._connections.close()

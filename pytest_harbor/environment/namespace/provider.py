"""The provider that makes environments of Linux namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from pytest_harbor._util.files import write_atomically
from pytest_harbor._util.process import is_alive, machine_id, process_token
from pytest_harbor.environment.base import CleanupScope, StartRequest, is_in_scope
from pytest_harbor.environment.namespace.base_layer import ensure_base_layer
from pytest_harbor.environment.namespace.build import build
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.cgroups import create_groups
from pytest_harbor.environment.namespace.environment import NamespaceEnvironment
from pytest_harbor.environment.namespace.host_root import HostRoot
from pytest_harbor.environment.namespace.image_record import ImageRecord
from pytest_harbor.environment.namespace.inside.cleanup import remove_group, remove_tree
from pytest_harbor.environment.namespace.launcher import Launcher
from pytest_harbor.environment.namespace.layers import LayerStack
from pytest_harbor.environment.namespace.sandbox import FIX, Sandbox, processes_of
from pytest_harbor.environment.namespace.sandbox_config import SandboxConfig
from pytest_harbor.environment.namespace.stand_in import StandIn
from pytest_harbor.environment.proxies import host_proxies
from pytest_harbor.errors import EngineUnavailable, ImageError, InfrastructureError, StartError, UnmetRequirement
from pytest_harbor.image import BuildContext, Image, ImageDetails

OWNER_FILE = "owner.json"
# How long to wait for a killed process to end, in seconds.
KILL_TIMEOUT = 10.0


class NamespaceProvider:
    """Environments without a container engine: the host's own system, in namespaces and under overlays.

    Args:
        hidden: directories of the host that are hidden from environments, even below visible directories.

    """

    name = "namespace"
    has_registries = False
    adapts = False

    def __init__(self, hidden: Sequence[Path] = ()) -> None:
        self._hidden = tuple(hidden)
        self._checked = False
        # Environments use this machine's network.
        self._proxies = host_proxies(os.environ)
        self._processes = contextlib.ExitStack()

    @cached_property
    def _cache(self) -> Cache:
        if not sys.platform.startswith("linux"):
            raise EngineUnavailable(
                f"environments without an engine need Linux, and this is {sys.platform}", "use Docker"
            )
        return Cache.open()

    @property
    def storage(self) -> Path:
        """The directory of layers, images and environments."""
        return self._cache.root

    @cached_property
    def _host(self) -> HostRoot:
        hidden = (*self._hidden, self._cache.root)
        return HostRoot.inspect(hidden, user_namespace=not _can_mount())

    @cached_property
    def _launcher(self) -> Launcher:
        launcher = Launcher()
        self._processes.callback(launcher.close)
        return launcher

    @cached_property
    def _base(self) -> str:
        try:
            return ensure_base_layer(self._host, self._cache)
        except OSError as error:
            raise EngineUnavailable(f"this host's system cannot be prepared for environments: {error}", FIX) from error

    @property
    def engine_id(self) -> str:
        """The id of this host in its current state, which images depend on."""
        return f"namespace-{self._base}"

    @property
    def architecture(self) -> str:
        """The architecture of this machine."""
        return os.uname().machine

    def describe(self) -> str:
        """Return a phrase for the run's header, after checking that environments work here."""
        self._check()
        user = "as an ordinary user, with a single user id" if self._host.user_namespace else "as root"
        return f"namespace ({user}; this host's {self._host.description} stands in for every base image)"

    def _check(self) -> None:
        """Start a sandbox once to verify that the kernel allows it.

        Raises:
            EngineUnavailable: it does not.

        """
        if self._checked:
            return
        directory = self._cache.environments / f"check-{process_token()}"
        self._record_owner(directory, [])
        try:
            Sandbox(SandboxConfig(self._launcher, self._cache, self._host, [self._base], directory)).close()
        except StartError as error:
            raise EngineUnavailable(f"environments without an engine do not work here: {error.fact}", FIX) from error
        finally:
            remove_tree(str(directory))
        self._checked = True

    def find_image(self, ref: str) -> ImageDetails | None:
        """Look up an image that was built here; any other name stands for the host's own system."""
        record = ImageRecord.read(self._cache, ref)
        if record is not None and record.usable(self._cache, self._base):
            return record.details
        if (record is None or record.stands_in) and not ref.startswith("pytest-harbor:"):
            return self._stand_in(ref)
        return None

    def _stand_in(self, ref: str) -> ImageDetails:
        self._check()
        stand_in = StandIn.create(self._base_stack, ref, lambda data: None)
        details = ImageDetails(
            id=f"host:{stand_in.stack.id}", variables=dict(stand_in.variables), notes=(stand_in.note,)
        )
        ImageRecord(ref, self._base, stand_in.stack.layers, details, stands_in=True).write(self._cache)
        return details

    @property
    def _base_stack(self) -> LayerStack:
        return LayerStack(self._launcher, self._cache, self._host, self._base)

    def pull_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Raise ImageError, because there is no registry to pull from."""
        raise ImageError(f"image {ref} cannot be pulled without a container engine", "use Docker")

    def push_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Raise ImageError, because images are layers over this host's own system."""
        raise ImageError(f"image {ref} cannot be pushed without a container engine", "use Docker")

    def is_published(self, ref: str) -> bool:
        """Raise ImageError, because there is no registry to ask."""
        raise ImageError(f"no registry can be asked for {ref} without a container engine", "use Docker")

    def tag_image(self, ref: str, name: str) -> None:
        """Raise ImageError, because only pulled and pushed images have more than one name."""
        raise ImageError(f"image {ref} cannot be named {name} without a container engine", "use Docker")

    def import_image(self, ref: str, archive: bytes) -> None:
        """Raise ImageError, because no image is adapted."""
        raise ImageError(f"image {ref} cannot be imported without a container engine", "use Docker")

    def build_image(self, context: BuildContext, ref: str, *, log: Path, timeout: float) -> None:
        """Build an image, one layer per instruction that writes files."""
        self._check()
        build(self._base_stack, context, ref, log=log, timeout=timeout, proxies=self._proxies)

    def start(self, image: Image, request: StartRequest) -> NamespaceEnvironment:
        """Start a sandbox, put files in place, and start the image's services."""
        if request.resources.gpus:
            raise UnmetRequirement("GPUs are not available without a container engine", "use Docker")
        record = ImageRecord.read(self._cache, image.ref)
        layers = [*reversed(record.layers), self._base] if record else [self._base]
        directory = self._cache.environments / request.name
        groups, notes = create_groups(request.name, request.resources)
        try:
            self._record_owner(directory, groups)
            config = SandboxConfig(
                self._launcher,
                self._cache,
                self._host,
                layers,
                directory,
                hostname=request.name[-12:].lstrip("-"),
                groups=groups,
                network=request.network,
            )
            workdir = request.workdir or image.details.workdir or "/"
            environment = NamespaceEnvironment(
                config, request.name, image, workdir, request.variables, notes, self._proxies
            )
        except BaseException as error:
            _remove(directory, groups)
            if isinstance(error, OSError):
                raise StartError(f"{request.name} cannot be created: {error}") from error
            raise
        try:
            self._record_owner(directory, groups, environment.pid)
            environment.prepare(request.uploads)
            environment.start_services()
        except BaseException as error:
            environment.stop()
            if isinstance(error, InfrastructureError) and not isinstance(error, EngineUnavailable | StartError):
                raise StartError(error.fact, error.fix) from error
            raise
        return environment

    def _record_owner(self, directory: Path, groups: Sequence[str], pid: int | None = None) -> None:
        """Record who owns an environment, so that a later run can tell whether it is still in use."""
        directory.mkdir(exist_ok=True)
        record = {
            "owner": process_token(),
            "machine": machine_id(),
            "groups": list(groups),
            "process": process_token(pid) if pid else "",
        }
        write_atomically(directory / OWNER_FILE, json.dumps(record))

    def remove_owned(self, scope: CleanupScope) -> list[str]:
        """Remove environments, and layers that interrupted builds left unfinished."""
        removed = []
        for directory in sorted(self._cache.environments.iterdir()):
            try:
                record = json.loads((directory / OWNER_FILE).read_text(encoding="utf-8"))
            except FileNotFoundError:
                # Its own process is removing it right now, or another is creating it.
                if scope in ("dead", "mine"):
                    continue
                record = {}
            except (OSError, ValueError):
                record = {}
            if is_in_scope(scope, str(record.get("owner", "")), str(record.get("machine", ""))):
                _end_sandbox(str(record.get("process", "")))
                _remove(directory, record.get("groups", []))
                removed.append(directory.name)
        for layer in self._cache.layers.iterdir():
            token = layer.name.partition(".")[2]
            if token and not is_alive(token):
                remove_tree(str(layer))
        return removed

    def count_owned(self) -> int:
        """Return the number of environments."""
        return len(list(self._cache.environments.iterdir()))

    def remove_images(self) -> list[str]:
        """Remove all images and layers, unless there are environments, which may use them."""
        if self.count_owned():
            return []
        removed = [unquote(path.stem) for path in self._cache.images.iterdir()]
        for path in self._cache.images.iterdir():
            path.unlink()
        for layer in list(self._cache.layers.iterdir()):
            remove_tree(str(layer))
        # The next environment creates them again.
        for name in ("_base", "_cache"):
            with contextlib.suppress(AttributeError):
                delattr(self, name)
        return removed

    def close(self) -> None:
        """End the process that starts sandboxes."""
        self._processes.close()


def _can_mount() -> bool:
    """Return True if this process may mount file systems: as root usually, but not as root in a container."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        effective = int(status.partition("CapEff:")[2].split()[0], 16)
        return os.geteuid() == 0 and bool(effective >> 21 & 1)  # CAP_SYS_ADMIN
    return False


def _end_sandbox(token: str) -> None:
    """Kill a sandbox whose supervisor is the process of a token, and wait until it is gone."""
    if not is_alive(token):
        return
    for pid in processes_of(int(token.partition(".")[0])):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                os.kill(pid, signal.SIGKILL)
                select.select([descriptor], [], [], KILL_TIMEOUT)
            finally:
                os.close(descriptor)


def _remove(directory: Path, groups: Sequence[str]) -> None:
    for group in groups:
        remove_group(group)
    remove_tree(str(directory))

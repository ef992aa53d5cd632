"""Linux namespaces as a provider."""

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

from pytest_harbor._util.process import is_alive, machine_id, process_token
from pytest_harbor.environment.base import CleanupScope, StartRequest, is_in_scope
from pytest_harbor.environment.namespace.build import build
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.cgroups import make_groups
from pytest_harbor.environment.namespace.environment import NamespaceEnvironment
from pytest_harbor.environment.namespace.hostroot import HostRoot
from pytest_harbor.environment.namespace.image_record import ImageRecord
from pytest_harbor.environment.namespace.inside.cleanup import remove_group, remove_tree
from pytest_harbor.environment.namespace.launcher import Launcher
from pytest_harbor.environment.namespace.layers import Stack
from pytest_harbor.environment.namespace.layout import Layout
from pytest_harbor.environment.namespace.sandbox import FIX, Sandbox, processes_of
from pytest_harbor.errors import EngineUnavailable, ImageError, InfrastructureError, StartError, UnmetRequirement
from pytest_harbor.image import BuildContext, Image, ImageDetails

OWNER = "owner.json"
# How long the kernel may take to end what was killed, in seconds.
PATIENCE = 10.0


class NamespaceProvider:
    """Environments without an engine: the host's own system, in namespaces and under overlays.

    Args:
        hidden: directories of the host that no environment sees, even where they lie in what is otherwise visible.

    """

    name = "namespace"
    has_registries = False
    adapts = False

    def __init__(self, hidden: Sequence[Path] = ()) -> None:
        self._hidden = tuple(hidden)
        self._works = False

    @cached_property
    def _cache(self) -> Cache:
        if not sys.platform.startswith("linux"):
            raise EngineUnavailable(
                f"environments without an engine need Linux, and this is {sys.platform}", "use Docker"
            )
        return Cache.open()

    @cached_property
    def _host(self) -> HostRoot:
        hidden = (*self._hidden, self._cache.root)
        return HostRoot.look(hidden, user_namespace=not _may_mount())

    @cached_property
    def _launcher(self) -> Launcher:
        return Launcher()

    @cached_property
    def _base(self) -> str:
        try:
            return self._host.ensure_base(self._cache)
        except OSError as error:
            raise EngineUnavailable(f"this host's system cannot be prepared for environments: {error}", FIX) from error

    @property
    def engine_id(self) -> str:
        """Images belong to this host in its present state."""
        return f"namespace-{self._base}"

    @property
    def architecture(self) -> str:
        """This machine's own."""
        return os.uname().machine

    def describe(self) -> str:
        """Return what stands in for images, after a look whether it works at all."""
        self._try()
        who = "as an ordinary user, all users are one" if self._host.user_namespace else "as root"
        return f"namespace ({who}; this host's {self._host.description} stands in for every base image)"

    def _try(self) -> None:
        """Make a sandbox, once, to know that this kernel lets us."""
        if self._works:
            return
        place = self._cache.trials / f"try-{process_token()}"
        self._claim(place, [])
        try:
            Sandbox(Layout(self._launcher, self._cache, self._host, [self._base], place)).close()
        except StartError as error:
            raise EngineUnavailable(f"environments without an engine do not work here: {error.fact}", FIX) from error
        finally:
            remove_tree(str(place))
        self._works = True

    def find_image(self, ref: str) -> ImageDetails | None:
        """Look up what was built here; every other name means the host's own system."""
        record = ImageRecord.read(self._cache, ref)
        if record is None:
            return None if ref.startswith("pytest-harbor:") else self._host_image(ref)
        return record.details if record.usable(self._cache, self._base) else None

    def _host_image(self, ref: str) -> ImageDetails:
        note = f"{ref}: this host's own system ({self._host.description}) stands in for the image"
        return ImageDetails(id=f"host:{self._base}", notes=(note,))

    def pull_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Refuse: there is nothing to pull from."""
        raise ImageError(f"image {ref} cannot be pulled without a container engine", "use Docker")

    def push_image(self, ref: str, *, log: Path, timeout: float) -> None:
        """Refuse: its images are layers over this host's own system."""
        raise ImageError(f"image {ref} cannot be pushed without a container engine", "use Docker")

    def is_published(self, ref: str) -> bool:
        """Refuse: there is no registry."""
        raise ImageError(f"no registry can be asked for {ref} without a container engine", "use Docker")

    def tag_image(self, ref: str, name: str) -> None:
        """Refuse, as only what is pulled or pushed has more than one name."""
        raise ImageError(f"image {ref} cannot be named {name} without a container engine", "use Docker")

    def import_image(self, ref: str, archive: bytes) -> None:
        """Refuse, as nothing is adapted."""
        raise ImageError(f"image {ref} cannot be imported without a container engine", "use Docker")

    def build_image(self, context: BuildContext, ref: str, *, log: Path, timeout: float) -> None:
        """Build an image, one layer an instruction."""
        self._try()
        build(Stack(self._launcher, self._cache, self._host, self._base), context, ref, log=log, timeout=timeout)

    def start(self, image: Image, request: StartRequest) -> NamespaceEnvironment:
        """Make a sandbox, put files in place, start the image's services."""
        if request.resources.gpus:
            raise UnmetRequirement("GPUs cannot be had without a container engine", "use Docker")
        record = ImageRecord.read(self._cache, image.ref)
        layers = [*reversed(record.layers), self._base] if record else [self._base]
        place = self._cache.trials / request.name
        groups, notes = make_groups(request.name, request.resources)
        try:
            self._claim(place, groups)
            layout = Layout(
                self._launcher,
                self._cache,
                self._host,
                layers,
                place,
                hostname=request.name[-12:].lstrip("-"),
                groups=groups,
                network=request.network,
            )
            workdir = request.workdir or image.details.workdir or "/"
            environment = NamespaceEnvironment(layout, request.name, image, workdir, request.variables, notes)
        except BaseException as error:
            _remove(place, groups)
            if isinstance(error, OSError):
                raise StartError(f"{request.name} cannot be made: {error}") from error
            raise
        try:
            self._claim(place, groups, environment.pid)
            environment.prepare(request.uploads)
            environment.begin()
        except BaseException as error:
            environment.stop()
            if isinstance(error, InfrastructureError) and not isinstance(error, EngineUnavailable | StartError):
                raise StartError(error.fact, error.fix) from error
            raise
        return environment

    def _claim(self, place: Path, groups: Sequence[str], pid: int | None = None) -> None:
        """Write down whose an environment is, so that a later run can tell whether it is still wanted."""
        place.mkdir(exist_ok=True)
        marks = {
            "owner": process_token(),
            "machine": machine_id(),
            "groups": list(groups),
            "process": process_token(pid) if pid else "",
        }
        written = place / f".{OWNER}"
        written.write_text(json.dumps(marks), encoding="utf-8")
        written.replace(place / OWNER)

    def remove_owned(self, scope: CleanupScope) -> list[str]:
        """Remove environments, and what builds have left half done."""
        removed = []
        for place in sorted(self._cache.trials.iterdir()):
            try:
                marks = json.loads((place / OWNER).read_text(encoding="utf-8"))
            except FileNotFoundError:
                # Being removed by its own process at this moment, or made by another.
                if scope in ("dead", "mine"):
                    continue
                marks = {}
            except (OSError, ValueError):
                marks = {}
            if is_in_scope(scope, str(marks.get("owner", "")), str(marks.get("machine", ""))):
                _end(str(marks.get("process", "")))
                _remove(place, marks.get("groups", []))
                removed.append(place.name)
        for layer in self._cache.layers.iterdir():
            token = layer.name.partition(".")[2]
            if token and not is_alive(token):
                remove_tree(str(layer))
        return removed

    def count_owned(self) -> int:
        """Return how many environments there are."""
        return len(list(self._cache.trials.iterdir()))

    def remove_images(self) -> list[str]:
        """Remove all images and layers, unless environments still use some."""
        if self.count_owned():
            return []
        removed = [f"pytest-harbor:{path.stem}" for path in self._cache.images.iterdir()]
        for path in self._cache.images.iterdir():
            path.unlink()
        for layer in list(self._cache.layers.iterdir()):
            remove_tree(str(layer))
        for name in ("_base", "_cache"):
            self.__dict__.pop(name, None)
        return removed

    def close(self) -> None:
        """End the process that starts sandboxes."""
        if "_launcher" in self.__dict__:
            self._launcher.close()


def _may_mount() -> bool:
    """Tell whether this process may mount: root mostly may, but not in a container."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        effective = int(status.partition("CapEff:")[2].split()[0], 16)
        return os.geteuid() == 0 and bool(effective >> 21 & 1)
    return False


def _end(token: str) -> None:
    """Kill the process that owns a sandbox, if it still is that process, and wait until all of it is gone."""
    if not is_alive(token):
        return
    for pid in processes_of(int(token.partition(".")[0])):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                os.kill(pid, signal.SIGKILL)
                select.select([descriptor], [], [], PATIENCE)
            finally:
                os.close(descriptor)


def _remove(place: Path, groups: Sequence[str]) -> None:
    for group in groups:
        remove_group(group)
    remove_tree(str(place))

"""All images of datasets, or of converted environments: each built once, in parallel, and pushed to a registry."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.image.model import AdaptMode, BuildPolicy, Image, ImageBackend, Source
from pytest_harbor.image.registry import REPOSITORY, Registry
from pytest_harbor.image.store import ImageStore
from pytest_harbor.task import DatasetError, Task, TaskError, discover, select_tasks
from pytest_harbor.task.converted import DOCKERFILE, TASKS, TASKSET

# How long a push may take, in seconds.
PUSH_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Wanted:
    """An image to have.

    Attributes:
        names: what it is for: the ids of tasks, or a converted environment.
        ref: what it is called, where that is known before it is there.
        make: finds, pulls or builds it.
        also: one more name that it gets here.

    """

    names: tuple[str, ...]
    ref: str | None
    make: Callable[[], Image]
    also: str = ""


@dataclass(frozen=True)
class Had:
    """What became of an image that was wanted.

    Attributes:
        wanted: the image.
        how: where it comes from; `published` is in the registry already, and neither pulled nor built.
        ref: what it is called here.
        seconds: what that took, the push included.
        remote: what it is called in the registry, where it is there.
        notes: what a reader should know of it.
        error: why it failed.

    """

    wanted: Wanted
    how: Source | Literal["published", "failed"]
    ref: str
    seconds: float
    remote: str = ""
    notes: tuple[str, ...] = ()
    error: InfrastructureError | TaskError | None = None


@dataclass
class Plan:
    """What is to be done for some paths.

    Attributes:
        wanted: the images, in the order of their tasks.
        skipped: tasks that cannot be run, and why.
        broken: tasks whose image is not known, as something in them cannot be read, and what.

    """

    wanted: list[Wanted] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    broken: list[tuple[str, InfrastructureError | TaskError]] = field(default_factory=list)


class Publisher:
    """Has the images of datasets on an engine, and in a registry.

    Args:
        backend: the engine.
        directory: where logs are written.
        adapt: what is added to the images of tasks. For None it is `lean`, and what is wanted of a converted
            directory is the images of its environments, and not those of its tasks.
        registry: where they are pushed, as HOST/PREFIX; empty for nowhere. What is there already stays as it is.
        policy: `auto`, or `always`, which builds and pushes what is there already.
        fallback: image of a task that brings neither a Dockerfile nor a docker_image.
        jobs: how many images are worked on at a time.

    """

    def __init__(
        self,
        backend: ImageBackend,
        directory: Path,
        *,
        adapt: AdaptMode | None = None,
        registry: str = "",
        policy: BuildPolicy = "auto",
        fallback: str = DEFAULT_IMAGE,
        jobs: int = 1,
    ) -> None:
        self._backend = backend
        self._directory = directory
        self._adapt = adapt
        self._registry = Registry(backend, registry, directory) if registry else None
        self._policy = policy
        self._fallback = fallback
        self._jobs = jobs
        self._store = ImageStore(
            backend, directory, adapt=adapt or "lean", registry=registry, policy=policy, fallback=fallback
        )

    def plan(self, paths: Sequence[Path], patterns: Sequence[str] = ()) -> Plan:
        """Find out which images are wanted.

        Args:
            paths: tasks, datasets, directories of datasets, or converted directories.
            patterns: globs, one of which a task's name or id has to match, or that of an environment; empty for all.

        Raises:
            DatasetError: there is nothing to be found, or nothing matches a pattern.

        """
        converted = [path for path in paths if self._adapt is None and (path / TASKSET).is_file()]
        datasets = [path for path in paths if path not in converted]
        if converted and datasets:
            raise DatasetError(
                f"{converted[0]} is a converted directory and {datasets[0]} is none; give them one after the other"
            )
        plan = self._environments(converted, patterns) if converted else self._tasks(datasets, patterns)
        if plan.wanted and (converted or self._adapt == "hud"):
            layer = self._store.hud_layer
            plan.wanted.insert(0, Wanted(("the layer",), self._store.hud_layer_reference, layer))
        return plan

    def _environments(self, directories: Sequence[Path], patterns: Sequence[str]) -> Plan:
        plan = Plan()
        for directory in directories:
            for dockerfile in sorted(directory.glob(f"*/{DOCKERFILE}")):
                environment = dockerfile.parent
                names = [environment.name, *(path.name for path in environment.glob(f"{TASKS}/*"))]
                if patterns and not any(fnmatchcase(name, glob) for name in names for glob in patterns):
                    continue
                ref, make = self._store.environment(environment, environment.name)
                plan.wanted.append(Wanted((environment.name,), ref, make, f"{environment.name}:latest"))
        if not plan.wanted:
            where = ", ".join(map(str, directories))
            raise DatasetError(f"no converted environment below {where} is wanted; each has a {DOCKERFILE}")
        return plan

    def _tasks(self, paths: Sequence[Path], patterns: Sequence[str]) -> Plan:
        plan = Plan()
        groups: dict[tuple[str, ...], list[tuple[Task, str | None]]] = {}
        for task in select_tasks(discover(paths), patterns, ()):
            try:
                if reason := task.unsupported:
                    plan.skipped.append((task.id, reason))
                    continue
                ref = self._store.reference(task)
                named = task.config.environment.docker_image or self._fallback
            except (InfrastructureError, TaskError) as error:
                plan.broken.append((task.id, error))
                continue
            # A Dockerfile may take the place of an image that cannot be had.
            key = (ref,) if ref else (named, str(task.dockerfile or ""))
            groups.setdefault(key, []).append((task, ref))
        for members in groups.values():
            plan.wanted.append(self._of_tasks([task for task, _ in members], members[0][1]))
        return plan

    def _of_tasks(self, tasks: list[Task], ref: str | None) -> Wanted:
        patient = max(tasks, key=lambda task: task.config.environment.build_timeout_sec)
        return Wanted(tuple(task.id for task in tasks), ref, lambda: self._store.ensure(patient))

    def run(self, wanted: Sequence[Wanted]) -> Iterator[Had]:
        """Have images, and yield what became of each as it is known: a failure stops no other.

        The first is had before the others begin, where it is the layer that they take.

        Raises:
            EngineUnavailable: no engine answers.
            RegistryUnavailable: no registry answers.

        """
        _ = self._backend.engine_id
        if self._registry:
            self._registry.check()
        first = 1 if wanted and wanted[0].ref == self._store.hud_layer_reference else 0
        yield from map(self._have, wanted[:first])
        yield from _in_threads(self._have, wanted[first:], self._jobs)

    def _have(self, wanted: Wanted) -> Had:
        began = time.monotonic()
        try:
            if self._registry and wanted.ref and self._policy == "auto" and self._registry.has(wanted.ref):
                remote = self._registry.remote(wanted.ref)
                return Had(wanted, "published", wanted.ref, time.monotonic() - began, remote)
            image = wanted.make()
            if wanted.also:
                self._backend.tag_image(image.ref, wanted.also)
            remote = self._push(image) if self._registry and (wanted.also or _is_ours(image)) else ""
        except (InfrastructureError, TaskError) as error:
            return Had(wanted, "failed", wanted.ref or "", time.monotonic() - began, error=error)
        return Had(wanted, image.source, image.ref, time.monotonic() - began, remote, image.notes)

    def _push(self, image: Image) -> str:
        assert self._registry
        log = self._directory / f"push-{image.ref.replace(':', '-')}.txt"
        return self._registry.push(image.ref, log=log, timeout=PUSH_TIMEOUT)


def _is_ours(image: Image) -> bool:
    return image.ref.startswith(f"{REPOSITORY}:")


def _in_threads(work: Callable[[Wanted], Had], items: Sequence[Wanted], jobs: int) -> Iterator[Had]:
    """Yield the results as they come; whoever stops listening does not wait for what is still going on."""
    waiting: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    done: queue.SimpleQueue[Had | BaseException] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def serve() -> None:
        while True:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(work(item))
            except BaseException as error:
                done.put(error)

    for _ in range(min(jobs, len(items))):
        threading.Thread(target=serve, daemon=True).start()
    for _ in items:
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        yield result


def default_jobs() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

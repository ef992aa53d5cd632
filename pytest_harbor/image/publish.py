"""The images of datasets or converted environments: each is built once, in parallel, and pushed to a registry."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.image.model import AdaptMode, BuildPolicy, Image, ImageBackend, Source
from pytest_harbor.image.registry import REPOSITORY, Registry
from pytest_harbor.image.store import ImageStore
from pytest_harbor.task import DatasetError, Task, TaskError, discover, select_tasks
from pytest_harbor.task.converted import DOCKERFILE, TASKS, TASKSET

# Deadline for a push, in seconds.
PUSH_TIMEOUT = 1800.0


@dataclass(frozen=True)
class ImageTarget:
    """An image to build or pull, and to push.

    Attributes:
        names: the ids of the tasks that use it, or the name of the converted environment.
        ref: its name, if that is known before it exists.
        make: finds, pulls or builds it.
        alias: another local name to give it.

    """

    names: tuple[str, ...]
    ref: str | None
    make: Callable[[], Image]
    alias: str = ""


@dataclass(frozen=True)
class PublishResult:
    """The result for one image.

    Attributes:
        target: the image.
        status: where the image comes from; `published` means that the registry already has it and nothing was done.
        ref: its local name.
        seconds: how long it took, including the push.
        remote: its name in the registry; empty if it is not there.
        notes: facts about it for the reader.
        error: why it failed.

    """

    target: ImageTarget
    status: Source | Literal["published", "failed"]
    ref: str
    seconds: float
    remote: str = ""
    notes: tuple[str, ...] = ()
    error: InfrastructureError | TaskError | None = None


@dataclass
class PublishPlan:
    """The images to publish.

    Attributes:
        targets: the images, in the order of their tasks.
        skipped: the ids of unsupported tasks, and why they are not supported.
        broken: the ids of tasks that cannot be read, and the error.

    """

    targets: list[ImageTarget] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    broken: list[tuple[str, InfrastructureError | TaskError]] = field(default_factory=list)


class Publisher:
    """Builds the images of datasets, or of converted environments, and pushes them to a registry.

    Args:
        backend: the engine.
        directory: the directory for logs.
        adapt: the layer to add to the images of tasks. None means `lean` for tasks, and for a converted directory the
            images of its environments instead of those of its tasks.
        registry: the registry to push to, as HOST/PREFIX; empty for none. Images that it already has are not replaced.
        policy: `auto`, or `always` to rebuild and push images that already exist.
        fallback: the image for tasks with neither a Dockerfile nor a docker_image.
        jobs: the number of images to process at a time.

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

    def plan(self, paths: Sequence[Path], patterns: Sequence[str] = ()) -> PublishPlan:
        """Return the images that the tasks or environments need.

        Args:
            paths: tasks, datasets, directories of datasets, or converted directories.
            patterns: globs to select tasks by name or id, or environments by their name or their tasks' names; empty
                for all.

        Raises:
            DatasetError: there are no tasks, or none match a pattern.

        """
        converted = [path for path in paths if self._adapt is None and (path / TASKSET).is_file()]
        datasets = [path for path in paths if path not in converted]
        if converted and datasets:
            raise DatasetError(
                f"{converted[0]} is a converted directory and {datasets[0]} is not; run the command once for each"
            )
        plan = self._environments(converted, patterns) if converted else self._tasks(datasets, patterns)
        if plan.targets and (converted or self._adapt == "hud"):
            layer = ImageTarget(("the layer",), self._store.hud_layer_reference, self._store.ensure_hud_layer)
            plan.targets.insert(0, layer)
        return plan

    def _environments(self, directories: Sequence[Path], patterns: Sequence[str]) -> PublishPlan:
        plan = PublishPlan()
        for directory in directories:
            for dockerfile in sorted(directory.glob(f"*/{DOCKERFILE}")):
                environment = dockerfile.parent
                names = [environment.name, *(path.name for path in environment.glob(f"{TASKS}/*"))]
                if patterns and not any(fnmatchcase(name, glob) for name in names for glob in patterns):
                    continue
                ref, make = self._store.converted_environment(environment, environment.name)
                plan.targets.append(ImageTarget((environment.name,), ref, make, f"{environment.name}:latest"))
        if not plan.targets:
            where = ", ".join(map(str, directories))
            selected = f" that matches {' or '.join(patterns)}" if patterns else ""
            raise DatasetError(f"no converted environment{selected} in {where}; each must have a {DOCKERFILE}")
        return plan

    def _tasks(self, paths: Sequence[Path], patterns: Sequence[str]) -> PublishPlan:
        plan = PublishPlan()
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
            # The Dockerfile is part of the key, as it is built if the named image is not available.
            key = (ref,) if ref else (named, str(task.dockerfile or ""))
            groups.setdefault(key, []).append((task, ref))
        for members in groups.values():
            plan.targets.append(self._target([task for task, _ in members], members[0][1]))
        return plan

    def _target(self, tasks: list[Task], ref: str | None) -> ImageTarget:
        slowest = max(tasks, key=lambda task: task.config.environment.build_timeout_sec)
        return ImageTarget(tuple(task.id for task in tasks), ref, lambda: self._store.ensure(slowest))

    def run(self, targets: Sequence[ImageTarget]) -> Iterator[PublishResult]:
        """Build and push images, and yield each result when it is known; a failure does not stop the others.

        If the first is the layer, it is finished before the others start, as they copy from it.

        Raises:
            EngineUnavailable: no engine answers.
            RegistryUnavailable: the registry does not answer.

        """
        self._backend.find_image(REPOSITORY)  # raises if no engine answers
        if self._registry:
            self._registry.check()
        first = 1 if targets and targets[0].ref == self._store.hud_layer_reference else 0
        yield from map(self._publish, targets[:first])
        yield from _in_threads(self._publish, targets[first:], self._jobs)

    def _publish(self, target: ImageTarget) -> PublishResult:
        began = monotonic()
        try:
            if self._registry and target.ref and self._policy == "auto" and self._registry.has(target.ref):
                remote = self._registry.remote_name(target.ref)
                return PublishResult(target, "published", target.ref, monotonic() - began, remote)
            image = target.make()
            if target.alias:
                self._backend.tag_image(image.ref, target.alias)
            remote = self._push(image) if self._registry and (target.alias or _is_ours(image)) else ""
        except (InfrastructureError, TaskError) as error:
            return PublishResult(target, "failed", target.ref or "", monotonic() - began, error=error)
        return PublishResult(target, image.source, image.ref, monotonic() - began, remote, image.notes)

    def _push(self, image: Image) -> str:
        assert self._registry
        log = self._directory / f"push-{image.ref.replace(':', '-')}.txt"
        return self._registry.push(image.ref, log=log, timeout=PUSH_TIMEOUT)


def _is_ours(image: Image) -> bool:
    return image.ref.startswith(f"{REPOSITORY}:")


def _in_threads(
    work: Callable[[ImageTarget], PublishResult], items: Sequence[ImageTarget], jobs: int
) -> Iterator[PublishResult]:
    """Yield results as they arrive; closing the iterator does not wait for work that is still running."""
    waiting: queue.SimpleQueue[ImageTarget] = queue.SimpleQueue()
    done: queue.SimpleQueue[PublishResult | BaseException] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def process() -> None:
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
        threading.Thread(target=process, daemon=True).start()
    for _ in items:
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        yield result


def default_jobs() -> int:
    """Return the number of CPUs available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

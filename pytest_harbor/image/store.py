"""The image store: chooses the image that a task starts from, and builds or pulls each image once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor._util.seconds import bounded
from pytest_harbor.errors import ImageError
from pytest_harbor.image.adaptation import KEEP_ALIVE, Adaptation
from pytest_harbor.image.agent_files import files_for_setup
from pytest_harbor.image.build_lock import BuildRecord, build_lock
from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.derived import DerivedContext, SetupContext, setup_failure
from pytest_harbor.image.layers import LAYER_ARGUMENT, LAYER_PYTHON, hud_layer_context, lean_layer, lean_layer_digest
from pytest_harbor.image.model import AdaptMode, BuildPolicy, Image, ImageBackend, Source
from pytest_harbor.image.registry import REPOSITORY, Registry
from pytest_harbor.image.restore import ConvertedContext
from pytest_harbor.task import Task
from pytest_harbor.task.converted import DOCKERFILE

# Deadline for building the `hud` layer, which downloads packages, in seconds.
LAYER_TIMEOUT = 1800.0

# Default deadline for an agent's setup, in seconds.
SETUP_TIMEOUT = 600.0

# The command of a `hud` image that is started on its own.
SERVE = (LAYER_PYTHON, "-I", "/hud/env.py")


class ImageStore:
    """The images of one run on one provider.

    Args:
        backend: the provider.
        run_directory: the run's directory; build logs and results are kept in its `images/`.
        adapt: `lean` adds what a trial needs to a task's image; `hud` also adds an MCP server.
        registry: the registry to pull built images from before building them, as HOST/PREFIX; empty for none.
        policy: `auto` uses docker_image if it is present or can be pulled, then an image built earlier, then builds;
            `always` builds from the Dockerfile, once a run; `never` neither builds nor pulls.
        fallback: the image for tasks with neither a Dockerfile nor a docker_image.
        retries: how many times to retry a failed build or pull.
        timeout_multiplier: factor for every build deadline.

    """

    def __init__(
        self,
        backend: ImageBackend,
        run_directory: Path,
        *,
        adapt: AdaptMode = "lean",
        registry: str = "",
        policy: BuildPolicy = "auto",
        fallback: str = DEFAULT_IMAGE,
        retries: int = 1,
        timeout_multiplier: float = 1.0,
    ) -> None:
        self._backend = backend
        self._directory = run_directory / "images"
        self._adapt = adapt
        self._registry = Registry(backend, registry, self._directory) if registry and backend.has_registries else None
        self._notes = _unsupported(backend, adapt, registry)
        self._policy = policy
        self._fallback = fallback
        self._retries = retries
        self._timeout_multiplier = timeout_multiplier
        self._known: dict[str, Image] = {}
        self._contexts: dict[Path, BuildContext] = {}

    def _scaled(self, seconds: float) -> float:
        return bounded(seconds * self._timeout_multiplier)

    def ensure(self, task: Task, ref: str | None = None) -> Image:
        """Return a task's image; pull or build it if necessary.

        Args:
            task: the task.
            ref: an image to use instead of the task's own.

        Raises:
            ImageError: the image is not available and cannot be built.
            EngineUnavailable: no engine answers.
            TaskError: the task's configuration is invalid.

        """
        settings = task.config.environment
        timeout = self._scaled(settings.build_timeout_sec)
        context = self._context(task)
        if ref is not None:
            return self._named(ref, timeout)
        named = settings.docker_image
        if named and self._prefers_name(context):
            try:
                return self._named(named, timeout)
            except ImageError as error:
                if context is None or self._policy == "never":
                    raise
                image = self._ensure_adapted(context, timeout)
                note = f"docker_image {named} is not available ({error.fact}); built from the Dockerfile instead"
                return replace(image, notes=(note, *image.notes))
        if context:
            return self._ensure_adapted(context, timeout)
        image = self._named(self._fallback, timeout)
        note = f"the task has neither a Dockerfile nor a docker_image; using {self._fallback}"
        return replace(image, notes=(note, *image.notes))

    def reference(self, task: Task) -> str | None:
        """Return the name of the image of a task's Dockerfile, built or not; None if the Dockerfile is not used.

        Raises:
            ImageError: the build context cannot be read.
            TaskError: the task's configuration is invalid.

        """
        context = self._context(task)
        if context is None or (task.config.environment.docker_image and self._prefers_name(context)):
            return None
        return _reference(context)

    def converted_environment(self, directory: Path, name: str) -> tuple[str, Callable[[], Image]]:
        """Return the name of a converted environment's image, and a function that builds the image if necessary.

        Args:
            directory: the environment's directory, with its Dockerfile.hud.
            name: the image's name without the tag, which is the digest.

        """
        arguments = ((LAYER_ARGUMENT, self.hud_layer_reference),)
        context = BuildContext(directory, arguments=arguments, name=DOCKERFILE)
        timeout = self._scaled(LAYER_TIMEOUT)
        return _reference(context, name), lambda: self._ensure_built(context, timeout, name)

    def with_setup(
        self, image: Image, setup: str, files: Sequence[tuple[Path, str]] = (), timeout: float = SETUP_TIMEOUT
    ) -> Image:
        """Return an image with an agent's setup on top, which runs once for each image, setup text and agent files.

        Args:
            image: the task's image.
            setup: a command line, or the text of a script.
            files: the agent files, as paths on the host and in the environment. Only those that the setup's text names
                exist when it runs, and only those are part of the digest.
            timeout: the setup's deadline in seconds, before the multiplier.

        Raises:
            ImageError: the setup failed, or the policy forbids building.
            UnmetRequirement: the agent files cannot be read.
            EngineUnavailable: no engine answers.

        """
        cache_key = uuid.uuid4().hex if self._policy == "always" else ""
        files_seen = tuple(files_for_setup(setup, files))
        context = SetupContext(Path(image.ref), image=image, setup=setup, files_seen=files_seen, cache_key=cache_key)
        try:
            derived = self._ensure_built(context, self._scaled(timeout), local_only=True)
        except ImageError as error:
            output = setup_failure(error.log)
            raise ImageError(
                f"{context.title} failed: {output or error.fact}", "" if output else error.fix, log=error.log
            ) from error
        source: Literal["built", "cached"] = "built" if derived.source == "built" else "cached"
        return replace(derived, source=image.source, notes=image.notes, setup=source, below=image.ref)

    def _prefers_name(self, context: BuildContext | None) -> bool:
        """Return True if a task's docker_image takes precedence over its Dockerfile."""
        return context is None or (self._policy != "always" and self._backend.has_registries)

    def _context(self, task: Task) -> BuildContext | None:
        """Return a task's build context; cached, so that its digest is computed once a run."""
        dockerfile = task.dockerfile
        if dockerfile is None:
            return None
        if dockerfile not in self._contexts:
            kind = ConvertedContext if task.converted else BuildContext
            adaptation = self._adaptation if self._backend.adapts else None
            self._contexts[dockerfile] = kind(dockerfile.parent, adaptation=adaptation, name=dockerfile.name)
        return self._contexts[dockerfile]

    def _named(self, ref: str, timeout: float) -> Image:
        """Return an image by its own name; pull it if it is missing."""
        if ref in self._known:
            return self._known[ref]
        details = self._backend.find_image(ref)
        if details is None:
            if self._policy == "never":
                raise ImageError(
                    f"image {ref} is not present locally, and --harbor-build=never forbids pulling it",
                    f"pull it first (docker pull {ref}) or use --harbor-build=auto",
                )
            with self._lock("pull", ref) as record:
                # Another worker may have pulled it while this one waited for the lock.
                if self._backend.find_image(ref) is None:
                    record.attempt(
                        lambda log: self._backend.pull_image(ref, log=log, timeout=timeout), retries=self._retries
                    )
            details = self._backend.find_image(ref)
            if details is None:
                raise ImageError(
                    f"image {ref} was pulled but is not present", "check whether something else removes images"
                )
            image = Image(ref, "pulled", details, details.notes, record.log)
        else:
            image = Image(ref, "present", details, details.notes)
        if self._adapt == "hud" and self._backend.adapts:
            image = self._ensure_adapted(DerivedContext.of(image), timeout)
        self._known[ref] = image
        return image

    def _ensure_adapted(self, context: BuildContext, timeout: float) -> Image:
        """Return the adapted image of a build context; build it unless it exists."""
        if self._backend.adapts and context.adaptation is None:
            context = replace(context, adaptation=self._adaptation)
        return self._ensure_built(context, timeout)

    def _ensure_built(
        self, context: BuildContext, timeout: float, name: str = REPOSITORY, *, local_only: bool = False
    ) -> Image:
        """Return the image of a build context as it is; build it unless it exists.

        Args:
            context: the build context, which may already have an adaptation.
            timeout: the deadline in seconds.
            name: the image's name without the tag.
            local_only: skip the registry.

        """
        ref = _reference(context, name)
        if ref in self._known:
            return self._known[ref]
        details = self._backend.find_image(ref) if self._policy != "always" else None
        log: Path | None = None
        source: Source = "cached"
        notes: tuple[str, ...] = ()
        if details is None:
            if self._policy == "never":
                raise ImageError(
                    f"the image of {context.title} is not built, and --harbor-build=never forbids building it",
                    "run once with --harbor-build=auto",
                )
            registry = None if local_only else self._registry
            log, source = self._pull_or_build(context, ref, timeout, registry)
            if source == "built" and registry and (problem := registry.problem(ref)):
                notes = (f"image built locally: {problem}",)
            details = self._backend.find_image(ref)
            if details is None:
                raise ImageError(
                    f"{ref} was built but is not present", "check whether something else prunes images", log=log
                )
        image = Image(ref, source, details, (*details.notes, *notes, *self._notes), log)
        self._known[ref] = image
        return image

    def _pull_or_build(
        self, context: BuildContext, ref: str, timeout: float, registry: Registry | None
    ) -> tuple[Path | None, Source]:
        """Pull or build an image, unless another worker has; return the log and the image's source."""
        with self._lock("build", ref) as record:
            # Under `always`, an image that another worker of this run built is fresh.
            if record.succeeded if self._policy == "always" else self._backend.find_image(ref):
                return record.log, "built" if record.log else "cached"
            pull_log = record.directory / "pull.txt"
            if registry and self._policy == "auto" and registry.fetch(ref, log=pull_log, timeout=timeout):
                return pull_log, "pulled"
            if LAYER_ARGUMENT in dict(context.arguments):
                self.ensure_hud_layer()
            elif context.adaptation:
                self.ensure_layer()
            with context.materialized() as directory:
                record.attempt(
                    lambda log: self._backend.build_image(directory, ref, log=log, timeout=timeout),
                    retries=self._retries,
                )
            return record.log, "built"

    @cached_property
    def _adaptation(self) -> Adaptation:
        """The adaptation of every Dockerfile."""
        if self._adapt == "hud":
            return Adaptation("hud", self.hud_layer_reference, SERVE, early=("/hud",))
        return Adaptation("lean", f"{REPOSITORY}:{lean_layer_digest()[:24]}", KEEP_ALIVE)

    def ensure_layer(self) -> str:
        """Return the name of the layer image that adapted images copy from; build the image if necessary.

        Raises:
            ImageError: the layer cannot be built.

        """
        ref = self._adaptation.layer
        if self._adapt == "hud":
            self.ensure_hud_layer()
        else:
            self._ensure_lean_layer(ref)
        return ref

    @cached_property
    def _layer_context(self) -> BuildContext:
        return hud_layer_context()

    @property
    def hud_layer_reference(self) -> str:
        """The name of the `hud` layer image, built or not."""
        return _reference(self._layer_context)

    def ensure_hud_layer(self) -> Image:
        """Return the `hud` layer image, which converted environments copy from too; build it if necessary.

        Raises:
            ImageError: the layer cannot be built.

        """
        try:
            return self._ensure_built(self._layer_context, self._scaled(LAYER_TIMEOUT))
        except ImageError as error:
            raise ImageError(
                f"the layer for --harbor-adapt=hud cannot be built: {error.fact}",
                "the first build needs network access; see the log",
                log=error.log,
            ) from error

    def _ensure_lean_layer(self, ref: str) -> None:
        """Import the `lean` layer image unless it exists."""
        if self._backend.find_image(ref) is None:
            with self._lock("layer", ref):
                if self._backend.find_image(ref) is None:
                    self._backend.import_image(ref, lean_layer())

    def _lock(self, kind: str, ref: str) -> AbstractContextManager[BuildRecord]:
        return build_lock(self._directory, self._backend.engine_id, kind, ref)


def _reference(context: BuildContext, name: str = REPOSITORY) -> str:
    """Return the name of a build context's image."""
    return f"{name}:{context.digest[:24]}"


def _unsupported(backend: ImageBackend, adapt: AdaptMode, registry: str) -> tuple[str, ...]:
    """Return notes about the options that have no effect with this provider."""
    notes = []
    if adapt == "hud" and not backend.adapts:
        notes.append("--harbor-adapt=hud has no effect without a container engine")
    if registry and not backend.has_registries:
        notes.append("--harbor-registry has no effect without a container engine")
    return tuple(notes)

"""Which image a task starts from, and the lock that has it built once however many workers and tasks want it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor.errors import ImageError
from pytest_harbor.image.adaptation import KEEP_ALIVE, Adaptation
from pytest_harbor.image.agent_files import seen_by_setup
from pytest_harbor.image.build_lock import Outcome, once
from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.derived import OnTopContext, SetupContext, failure
from pytest_harbor.image.layers import LAYER_ARGUMENT, LAYER_PYTHON, hud_layer_context, lean_layer, lean_layer_digest
from pytest_harbor.image.model import AdaptMode, BuildPolicy, Image, ImageBackend, Source
from pytest_harbor.image.registry import REPOSITORY, Registry
from pytest_harbor.image.restore import ConvertedContext
from pytest_harbor.task import Task
from pytest_harbor.task.converted import DOCKERFILE

# The layer of `hud` needs the network once; how long that may take, in seconds.
LAYER_TIMEOUT = 1800.0

# How long an agent's set-up may take where its task does not say how long a build may, in seconds.
SETUP_TIMEOUT = 600.0

# What runs in an image of `hud` that is started by itself.
SERVE = (LAYER_PYTHON, "-I", "/hud/env.py")


class ImageStore:
    """The images of one run on one provider.

    Args:
        backend: the provider.
        run_directory: directory of the run; logs and the outcome of each build are kept below `images/`.
        adapt: `lean` adds to a task's image what a trial needs, `hud` also what serves MCP in it.
        registry: where built images are looked for before they are built, as HOST/PREFIX; empty for nowhere.
        policy: `auto` takes docker_image where it is present or can be pulled, else what was built before, else builds;
            `always` builds from the Dockerfile once a run; `never` neither builds nor pulls.
        fallback: image of a task that brings neither a Dockerfile nor a docker_image.
        retries: how often a failed build or pull is tried again.
        timeout_multiplier: factor on every build deadline.

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
        self._notes = _left_out(backend, adapt, registry)
        self._policy = policy
        self._fallback = fallback
        self._retries = retries
        self._timeout_multiplier = timeout_multiplier
        self._known: dict[str, Image] = {}
        self._contexts: dict[Path, BuildContext] = {}

    def ensure(self, task: Task, ref: str | None = None) -> Image:
        """Return the image of a task, pulled or built if need be.

        Args:
            task: the task.
            ref: an image to take instead of what the task says.

        Raises:
            ImageError: it cannot be had.
            EngineUnavailable: nothing answers.
            TaskError: the task's configuration is broken.

        """
        settings = task.config.environment
        timeout = settings.build_timeout_sec * self._timeout_multiplier
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
                image = self._built(context, timeout)
                note = f"docker_image {named} cannot be had ({error.fact}); its Dockerfile was built instead"
                return replace(image, notes=(note, *image.notes))
        if context:
            return self._built(context, timeout)
        image = self._named(self._fallback, timeout)
        note = f"the task brings neither Dockerfile nor docker_image: {self._fallback} is used"
        return replace(image, notes=(note, *image.notes))

    def reference(self, task: Task) -> str | None:
        """Return what the image of a task's Dockerfile is called, built or not; None where none is to be built.

        Raises:
            ImageError: its build context cannot be read.
            TaskError: the task's configuration is broken.

        """
        context = self._context(task)
        if context is None or (task.config.environment.docker_image and self._prefers_name(context)):
            return None
        return _reference(context)

    def environment(self, directory: Path, name: str) -> tuple[str, Callable[[], Image]]:
        """Return what the image of a converted environment is called, and what has it here, built if need be.

        Args:
            directory: the environment, with its Dockerfile.hud.
            name: what it is called, beside its digest.

        """
        arguments = ((LAYER_ARGUMENT, self.hud_layer_reference),)
        context = BuildContext(directory, arguments=arguments, name=DOCKERFILE)
        return _reference(context, name), lambda: self._plain(context, LAYER_TIMEOUT * self._timeout_multiplier, name)

    def with_setup(
        self, image: Image, setup: str, files: Sequence[tuple[Path, str]] = (), timeout: float = SETUP_TIMEOUT
    ) -> Image:
        """Return an image with an agent's set-up on top of it, which runs once for each image, text and agent files.

        Args:
            image: the image of a task.
            setup: a command line, or the text of a script.
            files: the agent files, as paths of the host and of the environment. Those that the text names are there
                when it runs; no others are, and no others count.
            timeout: seconds that it has, before the multiplier.

        Raises:
            ImageError: it failed, or must not run.
            UnmetRequirement: agent files cannot be read.
            EngineUnavailable: nothing answers.

        """
        fresh = uuid.uuid4().hex if self._policy == "always" else ""
        seen = tuple(seen_by_setup(setup, files))
        context = SetupContext(Path(image.ref), image=image, setup=setup, seen=seen, fresh=fresh)
        try:
            made = self._plain(context, timeout * self._timeout_multiplier, own=True)
        except ImageError as error:
            said = failure(error.log)
            raise ImageError(
                f"{context.title} failed: {said or error.fact}", "" if said else error.fix, log=error.log
            ) from error
        known: Literal["built", "cached"] = "built" if made.source == "built" else "cached"
        return replace(made, source=image.source, notes=image.notes, setup=known, below=image.ref)

    def _prefers_name(self, context: BuildContext | None) -> bool:
        """Tell whether a task's docker_image goes before its Dockerfile."""
        return context is None or (self._policy != "always" and self._backend.has_registries)

    def _context(self, task: Task) -> BuildContext | None:
        """Return the build context of a task, whose digest is reckoned once a run."""
        dockerfile = task.dockerfile
        if dockerfile is None:
            return None
        if dockerfile not in self._contexts:
            kind = ConvertedContext if task.converted else BuildContext
            adaptation = self._adaptation if self._backend.adapts else None
            self._contexts[dockerfile] = kind(dockerfile.parent, adaptation=adaptation, name=dockerfile.name)
        return self._contexts[dockerfile]

    def _named(self, ref: str, timeout: float) -> Image:
        """Return an image that has a name of its own, pulled when it is missing."""
        if ref in self._known:
            return self._known[ref]
        details = self._backend.find_image(ref)
        if details is None:
            if self._policy == "never":
                raise ImageError(
                    f"image {ref} is not here and --harbor-build=never forbids pulling it",
                    f"pull it first (docker pull {ref}) or use --harbor-build=auto",
                )
            with self._once("pull", ref) as outcome:
                # Another worker may have pulled it while this one waited.
                if self._backend.find_image(ref) is None:
                    outcome.attempt(
                        lambda log: self._backend.pull_image(ref, log=log, timeout=timeout), retries=self._retries
                    )
            details = self._backend.find_image(ref)
            if details is None:
                raise ImageError(f"image {ref} was pulled and is not here", "see whether something removes images")
            image = Image(ref, "pulled", details, details.notes, outcome.log)
        else:
            image = Image(ref, "present", details, details.notes)
        if self._adapt == "hud" and self._backend.adapts:
            image = self._built(OnTopContext.of(image), timeout)
        self._known[ref] = image
        return image

    def _built(self, context: BuildContext, timeout: float) -> Image:
        """Return the adapted image of a build context, built unless it is there."""
        if self._backend.adapts and context.adaptation is None:
            context = replace(context, adaptation=self._adaptation)
        return self._plain(context, timeout)

    def _plain(self, context: BuildContext, timeout: float, name: str = REPOSITORY, *, own: bool = False) -> Image:
        """Return the image of a build context just as that says, built unless it is there.

        One of our own making is in no registry.
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
                    f"the image of {context.title} is not built and --harbor-build=never forbids building it",
                    "run once with --harbor-build=auto",
                )
            registry = None if own else self._registry
            log, source = self._make(context, ref, timeout, registry)
            if source == "built" and registry and (problem := registry.problem(ref)):
                notes = (f"its image was built here: {problem}",)
            details = self._backend.find_image(ref)
            if details is None:
                raise ImageError(f"{ref} was built and is not here", "see whether something prunes images", log=log)
        image = Image(ref, source, details, (*details.notes, *notes, *self._notes), log)
        self._known[ref] = image
        return image

    def _make(
        self, context: BuildContext, ref: str, timeout: float, registry: Registry | None
    ) -> tuple[Path | None, Source]:
        """Pull or build an image, unless another worker has; return the log and what was done."""
        with self._once("build", ref) as outcome:
            # Under `always`, what another worker of this run built is fresh.
            if outcome.succeeded if self._policy == "always" else self._backend.find_image(ref):
                return outcome.log, "built" if outcome.log else "cached"
            fetched = outcome.directory / "pull.txt"
            if registry and self._policy == "auto" and registry.fetch(ref, log=fetched, timeout=timeout):
                return fetched, "pulled"
            if LAYER_ARGUMENT in dict(context.arguments):
                self.hud_layer()
            elif context.adaptation:
                self.ensure_layer()
            with context.laid_out() as plain:
                outcome.attempt(
                    lambda log: self._backend.build_image(plain, ref, log=log, timeout=timeout), retries=self._retries
                )
            return outcome.log, "built"

    @cached_property
    def _adaptation(self) -> Adaptation:
        """What is done to every Dockerfile."""
        if self._adapt == "hud":
            return Adaptation("hud", self.hud_layer_reference, SERVE, early=("/hud",))
        return Adaptation("lean", f"{REPOSITORY}:{lean_layer_digest()[:24]}", KEEP_ALIVE)

    def ensure_layer(self) -> str:
        """Return the image whose files adapted images take, built if need be.

        Raises:
            ImageError: it cannot be built.

        """
        ref = self._adaptation.layer
        if self._adapt == "hud":
            self.hud_layer()
        else:
            self._ensure_folders(ref)
        return ref

    @cached_property
    def _layer_context(self) -> BuildContext:
        return hud_layer_context()

    @property
    def hud_layer_reference(self) -> str:
        """What the image of the layer of `hud` is called, built or not."""
        return _reference(self._layer_context)

    def hud_layer(self) -> Image:
        """Return the image of that layer, which converted environments take too.

        Raises:
            ImageError: it cannot be built.

        """
        try:
            return self._plain(self._layer_context, LAYER_TIMEOUT * self._timeout_multiplier)
        except ImageError as error:
            raise ImageError(
                f"the layer of --harbor-adapt=hud cannot be built: {error.fact}",
                "building it needs the network, once; see its log",
                log=error.log,
            ) from error

    def _ensure_folders(self, ref: str) -> None:
        """Have the image whose folders `lean` takes."""
        if self._backend.find_image(ref) is None:
            with self._once("layer", ref):
                if self._backend.find_image(ref) is None:
                    self._backend.import_image(ref, lean_layer())

    def _once(self, kind: str, ref: str) -> AbstractContextManager[Outcome]:
        return once(self._directory, self._backend.engine_id, kind, ref)


def _reference(context: BuildContext, name: str = REPOSITORY) -> str:
    """Return what the image of a build context is called."""
    return f"{name}:{context.digest[:24]}"


def _left_out(backend: ImageBackend, adapt: AdaptMode, registry: str) -> tuple[str, ...]:
    """Return what a provider cannot do of what was asked for, in words for results."""
    notes = []
    if adapt == "hud" and not backend.adapts:
        notes.append("--harbor-adapt=hud adds nothing to images without a container engine")
    if registry and not backend.has_registries:
        notes.append("--harbor-registry is not asked without a container engine")
    return tuple(notes)

"""Which image a task starts from, and the lock that has it built once however many workers and tasks want it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_harbor.errors import ImageError
from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.model import BuildPolicy, Image, ImageBackend
from pytest_harbor.task import Task

REPOSITORY = "pytest-harbor"


class ImageStore:
    """The images of one run on one provider.

    Args:
        backend: the provider.
        run_directory: directory of the run; logs and the outcome of each build are kept below `images/`.
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
        policy: BuildPolicy = "auto",
        fallback: str = "python:3.11-slim",
        retries: int = 1,
        timeout_multiplier: float = 1.0,
    ) -> None:
        self._backend = backend
        self._directory = run_directory / "images"
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
        if named and not (context and (self._policy == "always" or not self._backend.has_registries)):
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

    def _context(self, task: Task) -> BuildContext | None:
        """Return the build context of a task, whose digest is reckoned once a run."""
        if task.dockerfile is None:
            return None
        return self._contexts.setdefault(task.environment_dir, BuildContext(task.environment_dir))

    def _named(self, ref: str, timeout: float) -> Image:
        """Return an image by its own name, pulled when it is missing."""
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
                    self._attempt(outcome, lambda log: self._backend.pull_image(ref, log=log, timeout=timeout))
            details = self._backend.find_image(ref)
            if details is None:
                raise ImageError(f"image {ref} was pulled and is not here", "see whether something removes images")
            image = Image(ref, "pulled", details, details.notes, outcome.log)
        else:
            image = Image(ref, "present", details, details.notes)
        self._known[ref] = image
        return image

    def _built(self, context: BuildContext, timeout: float) -> Image:
        """Return the image of a build context, built unless it is there."""
        ref = f"{REPOSITORY}:{context.digest[:24]}"
        if ref in self._known:
            return self._known[ref]
        details = self._backend.find_image(ref) if self._policy != "always" else None
        log = None
        if details is None:
            if self._policy == "never":
                raise ImageError(
                    f"the image of {context.dockerfile} is not built and --harbor-build=never forbids building it",
                    "run once with --harbor-build=auto",
                )
            with self._once("build", ref) as outcome:
                # Under `always`, what another worker of this run built is fresh.
                fresh = outcome.succeeded if self._policy == "always" else self._backend.find_image(ref)
                if not fresh:
                    self._attempt(
                        outcome,
                        lambda log: self._backend.build_image(context, ref, log=log, timeout=timeout),
                    )
            log = outcome.log
            details = self._backend.find_image(ref)
            if details is None:
                raise ImageError(f"{ref} was built and is not here", "see whether something prunes images", log=log)
        image = Image(ref, "built" if log else "cached", details, details.notes, log)
        self._known[ref] = image
        return image

    def _attempt(self, outcome: _Outcome, work: Any) -> None:
        """Do the work, again after a failure as often as allowed, and note how it ended for the other workers."""
        if outcome.failure is not None:
            raise ImageError(**outcome.failure, log=outcome.log)
        for attempt in range(1, self._retries + 2):
            log = outcome.directory / f"log-{attempt}.txt"
            try:
                work(log)
            except ImageError as error:
                if attempt > self._retries:
                    outcome.finish(log, {"fact": error.fact, "cure": error.cure})
                    raise
            else:
                outcome.finish(log, None)
                return

    @contextlib.contextmanager
    def _once(self, kind: str, ref: str) -> Iterator[_Outcome]:
        """Hold the lock of an image across processes and runs, and give what this run already knows of it."""
        name = f"{kind}-{ref.replace('/', '_').replace(':', '_')}"
        if len(name) > 100:
            name = f"{kind}-{hashlib.sha256(ref.encode()).hexdigest()[:24]}"
        directory = self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        locks = _lock_directory()
        with FileLock(locks / f"{self._backend.engine_id}-{name}.lock").acquire(poll_interval=0.05):
            yield _Outcome(directory)


class _Outcome:
    """How a build or pull ended in this run, kept in a file so that no other worker tries in vain."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / "outcome.json"
        self.log: Path | None = None
        self.failure: dict[str, str] | None = None
        self.succeeded = False
        with contextlib.suppress(OSError, ValueError, KeyError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            self.log, self.failure = directory / kept["log"], kept["failure"]
            self.succeeded = self.failure is None

    def finish(self, log: Path, failure: dict[str, str] | None) -> None:
        self.log, self.failure, self.succeeded = log, failure, failure is None
        self._file.write_text(json.dumps({"log": log.name, "failure": failure}), encoding="utf-8")


def _lock_directory() -> Path:
    """Return a directory that all runs of one user on one machine share."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    try:
        directory = Path(base) / "pytest-harbor" / "locks"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        directory = Path(tempfile.gettempdir()) / f"pytest-harbor-{os.getuid()}" / "locks"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory

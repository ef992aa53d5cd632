"""The lock that has an image made once, however many workers and runs want it, and what came of it in this run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from pytest_harbor.errors import ImageError


class Outcome:
    """How making an image ended in this run, kept in a file so that no other worker tries in vain.

    Args:
        directory: where outcome and logs are.

    """

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

    def attempt(self, work: Callable[[Path], None], retries: int) -> None:
        """Do the work, again after a failure as often as allowed, and note how it ended for the other workers.

        Raises:
            ImageError: it failed every time, or had failed already.

        """
        if self.failure is not None:
            raise ImageError(**self.failure, log=self.log)
        for attempt in range(1, retries + 2):
            log = self.directory / f"log-{attempt}.txt"
            try:
                work(log)
            except ImageError as error:
                if attempt > retries:
                    self._finish(log, {"fact": error.fact, "fix": error.fix})
                    raise
            else:
                self._finish(log, None)
                return

    def _finish(self, log: Path, failure: dict[str, str] | None) -> None:
        self.log, self.failure, self.succeeded = log, failure, failure is None
        self._file.write_text(json.dumps({"log": log.name, "failure": failure}), encoding="utf-8")


@contextlib.contextmanager
def once(directory: Path, engine: str, kind: str, ref: str) -> Iterator[Outcome]:
    """Hold the lock of an image across processes and runs, and give what this run already knows of it.

    Args:
        directory: the run's directory of logs of images.
        engine: names the place where the image will be.
        kind: what is done, such as `build`.
        ref: the name of the image.

    """
    name = f"{kind}-{ref.replace('/', '_').replace(':', '_')}"
    if len(name) > 100:
        name = f"{kind}-{hashlib.sha256(ref.encode()).hexdigest()[:24]}"
    place = directory / name
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock_directory() / f"{engine}-{name}.lock").acquire(poll_interval=0.05):
        yield Outcome(place)


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

"""The lock around building or pulling an image, and the record of how that ended in this run.

It makes an image once, however many workers and runs ask for it at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from pytest_harbor._util.files import write_atomically
from pytest_harbor.errors import ImageError


class BuildRecord:
    """How a build or pull ended in this run, kept in a file so that other workers do not repeat a failure.

    Args:
        directory: holds the record and the logs.

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
        """Do the work, retry it if it fails, and record the result for the other workers.

        Raises:
            ImageError: every attempt failed, or another worker's attempts already had.

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
        write_atomically(self._file, json.dumps({"log": log.name, "failure": failure}))


@contextlib.contextmanager
def build_lock(directory: Path, engine: str, kind: str, ref: str) -> Iterator[BuildRecord]:
    """Hold an image's lock, across processes and runs, and yield this run's record of it.

    Args:
        directory: the run's directory for image logs.
        engine: id of the engine that will hold the image.
        kind: the work to do, such as `build`.
        ref: the image's name.

    """
    name = f"{kind}-{ref.replace('/', '_').replace(':', '_')}"
    if len(name) > 100:
        name = f"{kind}-{hashlib.sha256(ref.encode()).hexdigest()[:24]}"
    record_directory = directory / name
    record_directory.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock_directory() / f"{engine}-{name}.lock").acquire(poll_interval=0.05):
        yield BuildRecord(record_directory)


def _lock_directory() -> Path:
    """Return the directory for locks, shared by all runs of this user on this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    try:
        directory = Path(base) / "pytest-harbor" / "locks"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        directory = Path(tempfile.gettempdir()) / f"pytest-harbor-{os.getuid()}" / "locks"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory

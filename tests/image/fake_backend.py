"""An image backend without an engine, and helpers for tests of the store."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from pytest_harbor.errors import EngineUnavailable, ImageError, ImageMissing, RegistryUnavailable
from pytest_harbor.image import BuildContext, ImageDetails
from pytest_harbor.task import Task

NAMED = '[environment]\ndocker_image = "org/named:1"\n'


def built_ref(task: Task) -> str:
    return f"pytest-harbor:{BuildContext(task.path / 'environment').digest[:24]}"


def words(backend) -> list[str]:
    return [line.split()[0] for line in backend.work()]


class FakeBackend:
    """An engine that keeps its images as files, so that processes can share it."""

    engine_id = "fake"
    architecture = "mips"

    def __init__(self, directory: Path, remote=(), failures: int = 0, away: bool = False) -> None:
        self.has_registries = True
        self.adapts = False
        self.registry_away = False
        self.contexts = {}
        self.dockerfiles = {}
        self.directory = directory
        self.remote = set(remote)
        self.failures = failures
        self.away = away
        directory.mkdir(exist_ok=True)

    def _file(self, ref: str) -> Path:
        return self.directory / ref.replace("/", "%")

    def add(self, ref: str) -> None:
        self._file(ref).touch()

    def work(self) -> list[str]:
        log = self.directory / "work.log"
        return log.read_text().splitlines() if log.exists() else []

    def _do(self, what: str, log: Path) -> None:
        with (self.directory / "work.log").open("a") as file:
            file.write(what + "\n")
        log.write_text(f"log of {what}")
        if self.away:
            raise EngineUnavailable("nobody there")
        if self.failures > 0:
            self.failures -= 1
            raise ImageError(f"{what.split()[0]} failed", "try harder", log=log)

    def find_image(self, ref):
        return ImageDetails(id=f"sha256:{ref}") if self._file(ref).exists() else None

    def pull_image(self, ref, *, log, timeout):
        self._do(f"pull {ref} {timeout:g}", log)
        if self.registry_away:
            raise RegistryUnavailable("cannot be pulled", log=log, detail="it is down")
        if ref not in self.remote:
            raise ImageMissing(f"no {ref} anywhere", log=log)
        self.add(ref)

    def push_image(self, ref, *, log, timeout):
        self._do(f"push {ref} {timeout:g}", log)
        self.remote.add(ref)

    def tag_image(self, ref, name):
        self.add(name)

    def import_image(self, ref, archive):
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            assert "logs/agent" in files.getnames()
        self._do(f"import {ref}", self.directory / "import.log")
        self.add(ref)

    def build_image(self, context, ref, *, log, timeout):
        self._do(f"build {ref} {timeout:g}", log)
        self.contexts[ref] = context
        # The context's directory may be removed after the build.
        self.dockerfiles[ref] = context.dockerfile.read_text()
        self.add(ref)

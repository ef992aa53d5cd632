"""No layer of a task's image contains its tests or solution."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker
import pytest
from harbor_runs import REPOSITORY, Harbor, Unique

from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.image import ImageStore
from pytest_harbor.task import Dataset, Task


class Stream:
    """A forward-only file over chunks of bytes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts = [self._rest]
        available = len(self._rest)
        while available < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            available += len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]


def layer_files(client: docker.DockerClient, images: Sequence[str]) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Yield path, size and content of every file in every layer of some images; shared layers appear once."""
    saved = client.api.get(f"{client.api.base_url}/images/get", params={"names": list(images)}, stream=True)
    saved.raise_for_status()
    layers = 0
    with tarfile.open(fileobj=Stream(saved.iter_content(1 << 20)), mode="r|") as archive:
        for member in archive:
            # Older engines name a layer layer.tar; newer ones store it among blobs that are not archives.
            if not member.isfile() or not (member.name.endswith("/layer.tar") or member.name.startswith("blobs/")):
                continue
            try:
                layer = tarfile.open(fileobj=archive.extractfile(member), mode="r|*")  # noqa: SIM115 - closed below
            except tarfile.ReadError:
                continue
            layers += 1
            with layer:
                for entry in layer:
                    if entry.isfile():
                        file = layer.extractfile(entry)
                        assert file
                        yield "/" + entry.name, entry.size, iter(lambda f=file: f.read(1 << 20), b"")
    assert layers > len(images)


def leaked_files(client: docker.DockerClient, images: Sequence[str], folders: Sequence[Path]) -> set[Path]:
    """Return the files of some folders that a layer contains, found by content or by path in the folder."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    names = {f"/{file.relative_to(folder.parent)}": file for folder in folders for file in folder.rglob("*")}
    contents = {(file.stat().st_size, hashlib.sha256(file.read_bytes()).digest()): file for file in files}
    sizes = {size for size, _ in contents if size}
    found = set()
    for path, size, content in layer_files(client, images):
        found |= {file for name, file in names.items() if path.endswith(name)}
        if size in sizes:
            total = hashlib.sha256()
            for part in content:
                total.update(part)
            if file := contents.get((size, total.digest())):
                found.add(file)
    return found


@pytest.fixture
def tasks(harbor: Harbor, unique: Unique) -> list[Task]:
    """The examples, and a task that copies its whole context."""
    files = unique("COPY . /app/", **{"data/nested.txt": "of the environment"})
    more = {"tests/expected/answer.txt": "what the tests expect", "solution/notes.txt": "how it is done"}
    greedy = harbor.task("greedy", image=None, solve="echo solved\n", files={**files, **more})
    return [*Dataset(REPOSITORY / "examples/tasks"), Task.load(greedy)]


def test_no_layer_holds_tests_or_solutions(harbor: Harbor, tasks: list[Task], tmp_path: Path, hud_layer: str) -> None:
    provider = DockerProvider()
    lean, hud = (ImageStore(provider, tmp_path / mode, adapt=mode) for mode in ("lean", "hud"))
    images = {lean.ensure(task).ref for task in tasks} | {hud.ensure(tasks[-1]).ref}
    provider.close()
    hidden = [task.path / folder for task in tasks for folder in ("tests", "solution")]
    assert len([file for folder in hidden for file in folder.rglob("*")]) > len(tasks)
    greedy = tasks[-1].path / "environment"
    assert leaked_files(harbor.client, sorted(images), [*hidden, greedy]) == {
        greedy / "Dockerfile",
        greedy / "data/nested.txt",
    }

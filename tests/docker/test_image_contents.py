"""What graders keep to themselves is in no layer of an image that an agent can run in."""

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
    """Chunks of bytes as a file that can only be read onwards."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts = [self._rest]
        had = len(self._rest)
        while had < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            had += len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]


def unpacked(client: docker.DockerClient, images: Sequence[str]) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """All files in all layers of images, layers that they share once: path, size, and content for who asks for it."""
    saved = client.api.get(f"{client.api.base_url}/images/get", params={"names": list(images)}, stream=True)
    saved.raise_for_status()
    layers = 0
    with tarfile.open(fileobj=Stream(saved.iter_content(1 << 20)), mode="r|") as archive:
        for member in archive:
            # Where engines put layers: the older beside their names, the newer among all else, which is no archive.
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


def traces(client: docker.DockerClient, images: Sequence[str], folders: Sequence[Path]) -> set[Path]:
    """The files of some folders that are in some layer of an image: their content, or their name in such a folder."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    names = {f"/{file.relative_to(folder.parent)}": file for folder in folders for file in folder.rglob("*")}
    contents = {(file.stat().st_size, hashlib.sha256(file.read_bytes()).digest()): file for file in files}
    sizes = {size for size, _ in contents if size}
    found = set()
    for path, size, content in unpacked(client, images):
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
    """The examples, and a task that takes all that it can get."""
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
    assert traces(harbor.client, sorted(images), [*hidden, greedy]) == {
        greedy / "Dockerfile",
        greedy / "data/nested.txt",
    }

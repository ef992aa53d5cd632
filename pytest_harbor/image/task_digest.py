"""The digest by which results of a task are paired; it is here because only images know what a Dockerfile.hud was."""

from __future__ import annotations

from pytest_harbor._util.files import Digest
from pytest_harbor.image.restore import restore
from pytest_harbor.image.words import DockerfileError
from pytest_harbor.task import Task, TaskError
from pytest_harbor.task.files import file_kind


def task_digest(task: Task) -> str:
    """Return the SHA-256, in hex, of everything that a trial of a task depends on: its files and its Dockerfile.

    A task and what it was converted to have the same digest. Task.files_digest says what does not matter.

    Raises:
        TaskError: a file cannot be read.

    """
    digest = Digest()
    digest.add(task.files_digest)
    dockerfile = task.dockerfile
    if dockerfile is not None:
        try:
            content = dockerfile.read_bytes()
            if task.converted:
                content = restore(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            digest.add(file_kind(dockerfile.stat().st_mode), content)
        except (OSError, DockerfileError) as error:
            raise TaskError(dockerfile, f"cannot be read: {error}") from error
    return digest.hex()

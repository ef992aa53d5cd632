"""The list of files that a conversion writes."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_harbor.hud.convert.plan import ConvertedEnvironment, taskset_json
from pytest_harbor.image import BuildContext
from pytest_harbor.image.env_py import env_py
from pytest_harbor.image.layers import pyproject
from pytest_harbor.task import Task
from pytest_harbor.task.converted import DOCKERFILE, ENV_PY, PYPROJECT, TASKS, TASKSET
from pytest_harbor.task.files import IGNORED_NAMES, walk

_EXCLUDED = {"environment", "solution", "tests", *IGNORED_NAMES}
_EXCEPTIONS = (ENV_PY, PYPROJECT, TASKS, f"{TASKS}/**")


@dataclass(frozen=True)
class OutputFile:
    """A file, link or directory to write.

    Attributes:
        path: path in the output directory.
        content: bytes; or the path of a file, link or directory on the host to copy with its mode; or None for a new
            directory.
        mode: permission bits, unless the content is a path on the host.

    """

    path: PurePosixPath
    content: bytes | Path | None
    mode: int = 0o644


def _environment_files(environment: ConvertedEnvironment) -> list[OutputFile]:
    """Return the files of an environment, parent directories first.

    Raises:
        TaskError: a file cannot be read.

    """
    top = PurePosixPath(environment.name)
    found = [
        OutputFile(top, None, 0o755),
        OutputFile(top / DOCKERFILE, environment.dockerfile.content, environment.dockerfile.mode),
        OutputFile(top / ENV_PY, env_py(environment.name, [task.name for task in environment.tasks]).encode()),
        OutputFile(top / PYPROJECT, pyproject(environment.name).encode()),
    ]
    for entry in environment.context:
        if str(entry.path) != "Dockerfile" or environment.representative.dockerfile is None:
            found.append(OutputFile(top / entry.path, entry.host))
    found.append(OutputFile(top / TASKS, None, 0o755))
    for task in environment.tasks:
        found.append(OutputFile(top / TASKS / task.name, task.path.resolve()))
        found += (OutputFile(top / TASKS / task.name / path, host) for path, host in _task_files(task))
    ignore = _ignore_file(environment, [file.path.relative_to(top) for file in found])
    if ignore is not None:
        found.append(OutputFile(top / f"{DOCKERFILE}.dockerignore", ignore))
    return found


def _task_files(task: Task) -> Iterator[tuple[PurePosixPath, Path]]:
    """Yield the files of a task without environment/ and solution/, and only the tests that a trial would upload."""

    def keep(path: PurePosixPath, mode: int) -> bool:
        plain = stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)
        return plain and path.name not in IGNORED_NAMES and path.parts[0] not in _EXCLUDED

    for path, host, _mode in sorted(walk(task.path, PurePosixPath(), keep)):
        # These two may be links, but their targets are not copied.
        yield path, host.resolve() if str(path) in ("task.toml", "instruction.md") else host
    tests = task.upload_files("tests")
    if tests:
        yield PurePosixPath("tests"), task.tests_dir.resolve()
        for path, host in tests:
            yield PurePosixPath("tests") / path, host


def _ignore_file(environment: ConvertedEnvironment, paths: list[PurePosixPath]) -> bytes | None:
    """Return an ignore file for Dockerfile.hud; None if the Dockerfile's own works for it too."""
    context = BuildContext(environment.representative.environment_dir)
    own, common = (context.path / name for name in context.ignore_files)
    source = own if own.is_file() else common
    if not source.is_file() or not (own.is_file() or _hides(context, paths)):
        return None
    text = source.read_bytes()
    lines = "".join(f"!{path}\n" for path in _EXCEPTIONS)
    return text + (b"" if text.endswith(b"\n") else b"\n") + f"# Added by the conversion.\n{lines}".encode()


def _hides(context: BuildContext, paths: list[PurePosixPath]) -> bool:
    """Return True if a context's ignore patterns would exclude generated files from the build."""
    generated = [str(path) for path in paths if path.parts and path.parts[0] in (ENV_PY, PYPROJECT, TASKS)]
    return any(context.ignored.excludes(path) for path in generated)


def all_files(environments: Sequence[ConvertedEnvironment]) -> Iterator[OutputFile]:
    """Yield all files of a conversion, parent directories first.

    Raises:
        TaskError: a file cannot be read.

    """
    for environment in environments:
        yield from _environment_files(environment)
    yield OutputFile(PurePosixPath(TASKSET), taskset_json(environments).encode())

"""The files of a conversion: what each folder holds, before anything is written."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_harbor.hud.convert.plan import Environment, rows
from pytest_harbor.image import BuildContext
from pytest_harbor.image.env_py import env_py
from pytest_harbor.image.layers import pyproject
from pytest_harbor.task import Task
from pytest_harbor.task.converted import DOCKERFILE, ENV_PY, PYPROJECT, TASKS, TASKSET
from pytest_harbor.task.files import IGNORED_NAMES, walk

_LEFT_OUT = {"environment", "solution", "tests", *IGNORED_NAMES}
_EXCEPTIONS = (ENV_PY, PYPROJECT, TASKS, f"{TASKS}/**")


@dataclass(frozen=True)
class File:
    """Something to be written.

    Attributes:
        path: below the folder of the conversion.
        content: the bytes; or a file, link or directory of the host that is copied with its mode; None for a directory.
        mode: permission bits of bytes, or of a directory that is none of the host's.

    """

    path: PurePosixPath
    content: bytes | Path | None
    mode: int = 0o644


def files(environment: Environment) -> list[File]:
    """Return everything of an environment, parents before what they hold.

    Raises:
        TaskError: a file cannot be read.

    """
    top = PurePosixPath(environment.name)
    found = [
        File(top, None, 0o755),
        File(top / DOCKERFILE, environment.recipe.dockerfile, environment.recipe.mode),
        File(top / ENV_PY, env_py(environment.name, [task.name for task in environment.tasks]).encode()),
        File(top / PYPROJECT, pyproject(environment.name).encode()),
    ]
    for entry in environment.context:
        if str(entry.path) != "Dockerfile" or environment.model.dockerfile is None:
            found.append(File(top / entry.path, entry.host))
    found.append(File(top / TASKS, None, 0o755))
    for task in environment.tasks:
        found.append(File(top / TASKS / task.name, task.path.resolve()))
        found += (File(top / TASKS / task.name / path, host) for path, host in _task_files(task))
    ignore = _ignore_file(environment, [file.path.relative_to(top) for file in found])
    if ignore is not None:
        found.append(File(top / f"{DOCKERFILE}.dockerignore", ignore))
    return found


def _task_files(task: Task) -> Iterator[tuple[PurePosixPath, Path]]:
    """Yield what an environment keeps of a task: neither environment nor solution; of its tests what is uploaded."""

    def keep(path: PurePosixPath, mode: int) -> bool:
        plain = stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)
        return plain and path.name not in IGNORED_NAMES and path.parts[0] not in _LEFT_OUT

    for path, host, _mode in sorted(walk(task.path, PurePosixPath(), keep)):
        # These two are read wherever they are; the link itself would lead to nowhere.
        yield path, host.resolve() if str(path) in ("task.toml", "instruction.md") else host
    tests = task.upload_files("tests")
    if tests:
        yield PurePosixPath("tests"), task.tests_dir.resolve()
        for path, host in tests:
            yield PurePosixPath("tests") / path, host


def _ignore_file(environment: Environment, paths: list[PurePosixPath]) -> bytes | None:
    """Return an ignore file for Dockerfile.hud alone, where that of the Dockerfile does not do."""
    context = BuildContext(environment.model.environment_dir)
    own, common = (context.path / name for name in context.ignore_files)
    source = own if own.is_file() else common
    if not source.is_file() or not (own.is_file() or _hides(context, paths)):
        return None
    text = source.read_bytes()
    lines = "".join(f"!{path}\n" for path in _EXCEPTIONS)
    return text + (b"" if text.endswith(b"\n") else b"\n") + f"# What the conversion adds.\n{lines}".encode()


def _hides(context: BuildContext, paths: list[PurePosixPath]) -> bool:
    """Tell whether a context's patterns would keep generated files from a build."""
    from docker.utils.build import PatternMatcher

    matcher = PatternMatcher(context.ignore_patterns)
    generated = [str(path) for path in paths if path.parts and path.parts[0] in (ENV_PY, PYPROJECT, TASKS)]
    return any(matcher.matches(path) for path in generated)  # type: ignore[arg-type]


def all_files(environments: Sequence[Environment]) -> Iterator[File]:
    """Yield everything of a conversion.

    Raises:
        TaskError: a file cannot be read.

    """
    for environment in environments:
        yield from files(environment)
    yield File(PurePosixPath(TASKSET), rows(environments).encode())

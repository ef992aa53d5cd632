"""One Harbor task: a directory with a task.toml."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pytest_harbor.task import converted
from pytest_harbor.task.canary import strip_canary
from pytest_harbor.task.document import json_values, read_text, read_toml
from pytest_harbor.task.errors import DatasetError, TaskError
from pytest_harbor.task.files import content_digest, upload_list
from pytest_harbor.task.taskset import TasksetCache

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_harbor.task.schema import TaskConfig

MULTI_STEP = "multi-step tasks are not supported yet"
COMPOSE = "docker-compose environments are not supported yet"
OTHER_OS = "{os} environments are not supported"
SEPARATE_VERIFIER = "separate verifier environments are not supported yet"
NETWORK_POLICY = "network policies are not supported yet"


@dataclass(frozen=True)
class Task:
    """A Harbor task directory; its files are read when needed, and task.toml only once.

    Attributes:
        path: the absolute task directory; links in it are kept, so that one task can be in two datasets.
        dataset: the name of its dataset; the name of the parent directory by default.
        converted: the environment folder of a converted task, which contains its build context; None for other tasks.
        config_override: used in place of task.toml; see with_changes.
        instruction_override: used in place of instruction.md; see with_changes.

    """

    path: Path
    dataset: str = ""
    converted: Path | None = None
    # A configuration contains dictionaries, so it has no hash.
    config_override: TaskConfig | None = field(default=None, repr=False, hash=False)
    instruction_override: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # Not Path.resolve(), which follows links, nor Path.absolute(), which keeps "..".
        path = Path(os.path.abspath(self.path))  # noqa: PTH100
        object.__setattr__(self, "path", path)
        if not self.dataset:
            # The root directory has no name, and in a container a task may be directly below it.
            object.__setattr__(self, "dataset", path.parent.name or "tasks")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the task of a directory.

        Raises:
            DatasetError: the directory has no task.toml, or the taskset.json of a converted task is broken.

        """
        task = cls(Path(path))
        if environment := converted.environment_folder(str(task.path)):
            dataset = TasksetCache().dataset_parts(str(task.path), environment)[-1]
            task = cls(task.path, dataset, Path(environment))
        if not os.path.lexists(task.toml_path):
            raise DatasetError(f"{task.path} is not a task: it has no task.toml; give a task directory")
        return task

    @property
    def name(self) -> str:
        """The directory's name; ``[task].name`` of task.toml is only recorded."""
        return self.path.name

    @property
    def id(self) -> str:
        """The id in results and baselines: ``<dataset>/<name>``."""
        return f"{self.dataset}/{self.name}"

    @property
    def toml_path(self) -> Path:
        """The path of task.toml."""
        return self.path / "task.toml"

    @property
    def instruction_path(self) -> Path:
        """The path of instruction.md."""
        return self.path / "instruction.md"

    @property
    def environment_dir(self) -> Path:
        """The build context; that of a converted task also contains generated files."""
        return self.converted or self.path / "environment"

    @property
    def parent_dir(self) -> Path:
        """The directory that contains the task, or the environment folder of a converted task."""
        return (self.converted or self.path).parent

    @property
    def tests_dir(self) -> Path:
        """The directory that the verifier uploads."""
        return self.path / "tests"

    @property
    def solution_dir(self) -> Path:
        """The directory that the oracle uploads."""
        return self.path / "solution"

    @property
    def dockerfile(self) -> Path | None:
        """environment/Dockerfile, or None; for a converted task, the Dockerfile.hud that contains the Dockerfile.

        Raises:
            TaskError: Dockerfile.hud cannot be read.

        """
        path = self.environment_dir / (converted.DOCKERFILE if self.converted else "Dockerfile")
        try:
            there = path.is_file() and not (self.converted and not converted.has_own_dockerfile(str(path)))
        except OSError as error:
            raise TaskError(path, f"cannot be read: {error.strerror or error}") from error
        return path if there else None

    @property
    def has_solution(self) -> bool:
        """Whether the oracle has a solution/solve.sh to run."""
        return (self.solution_dir / "solve.sh").is_file()

    @cached_property
    def _read(self) -> tuple[dict[str, Any], TaskConfig] | TaskError:
        from pytest_harbor.task.validation import parse_config

        # The error is cached like a result, so that a broken file is read only once too.
        try:
            document = read_toml(self.toml_path)
            return document, parse_config(document, self.toml_path)
        except TaskError as error:
            return error

    def _loaded(self) -> tuple[dict[str, Any], TaskConfig]:
        read = self._read
        if isinstance(read, TaskError):
            # A new error each time, because one object would accumulate a traceback with each raise.
            raise TaskError(read.path, read.reason)
        return read

    @property
    def document(self) -> dict[str, Any]:
        """The raw task.toml, including unknown keys; dates are datetime objects.

        Raises:
            TaskError: task.toml is broken.

        """
        return self._loaded()[0]

    @property
    def config(self) -> TaskConfig:
        """The parsed task.toml.

        Raises:
            TaskError: task.toml is broken.

        """
        return self._loaded()[1] if self.config_override is None else self.config_override

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about task.toml: what is ignored, or what Harbor would reject.

        Raises:
            TaskError: task.toml is broken.

        """
        from pytest_harbor.task.validation import config_warnings

        return tuple(config_warnings(*self._loaded()))

    @cached_property
    def instruction(self) -> str:
        """The text of instruction.md without leading canary lines, as Harbor shows it to agents.

        Raises:
            TaskError: instruction.md is missing, unreadable or not UTF-8.

        """
        if self.instruction_override is not None:
            return self.instruction_override
        return strip_canary(read_text(self.instruction_path))

    @property
    def _multi_step(self) -> bool:
        return bool(self.config.steps) or (
            (self.path / "steps").is_dir() and self.instruction_override is None and not self.instruction_path.exists()
        )

    @property
    def _network(self) -> str:
        environment = self.config.environment
        return (environment.network_mode or "public") if environment.allow_internet else "no-network"

    @property
    def has_network(self) -> bool:
        """Whether the task's environment has a network besides its loopback interface.

        Raises:
            TaskError: task.toml is broken.

        """
        return self._network != "no-network"

    @property
    def unsupported(self) -> str | None:
        """Why this version cannot run the task, or None; the texts are stable, because users filter skips by them.

        Raises:
            TaskError: task.toml is broken.

        """
        config = self.config
        environment, agent, verifier = config.environment, config.agent, config.verifier
        if self._multi_step:
            return MULTI_STEP
        # Harbor reads only this file name; a docker-compose.yml is just a file of the task.
        if (self.environment_dir / "docker-compose.yaml").exists():
            return COMPOSE
        if environment.os.lower() != "linux":
            return OTHER_OS.format(os=environment.os)
        if verifier.separate:
            return SEPARATE_VERIFIER
        # A trial has one network or none: no allowlists, and no separate policy for a phase.
        own = [table.network_mode or self._network for table in (agent, verifier)]
        if any(mode != self._network for mode in own) or any(
            table.network_mode == "allowlist" or table.allowed_hosts for table in (environment, agent, verifier)
        ):
            return NETWORK_POLICY
        return None

    @cached_property
    def files_digest(self) -> str:
        """SHA-256, in hex, of the files on disk apart from the Dockerfile: paths, kinds, execute bits, contents, links.

        It is equal for a task and what it was converted to. What no trial depends on does not matter: the solution,
        READMEs, tests that are not uploaded, times, ``__pycache__``, ``.git``, ``.DS_Store``; nor does with_changes.

        Raises:
            TaskError: a file cannot be read.

        """
        exclude = converted.GENERATED if self.converted else ()
        if self.dockerfile is not None:
            exclude = (*exclude, "Dockerfile")
        return content_digest(self.path, self.environment_dir, exclude)

    @property
    def difficulty(self) -> str | None:
        """``[metadata].difficulty`` as text, or None."""
        return _text(self.config.metadata.get("difficulty"))

    @property
    def category(self) -> str | None:
        """``[metadata].category`` as text, or None."""
        return _text(self.config.metadata.get("category"))

    @property
    def tags(self) -> tuple[str, ...]:
        """``[metadata].tags`` as text; a single value counts as a list of one, and tables in a list are ignored."""
        value = self.config.metadata.get("tags")
        texts = [_text(item) for item in (value if isinstance(value, list) else [value])]
        return tuple(text for text in texts if text is not None)

    def check(self) -> None:
        """Check that the task can be graded.

        Raises:
            TaskError: the first problem: task.toml, then instruction.md, tests/test.sh and a misplaced Dockerfile.

        """
        if self._multi_step:
            return
        if self.instruction_override is None:
            read_text(self.instruction_path)
        test = self.tests_dir / "test.sh"
        if not self.config.verifier.separate and not test.is_file():
            raise TaskError(test, "is not a file" if os.path.lexists(test) else "the file is missing")
        if not (self.converted or self.dockerfile or self.config.environment.docker_image or self.unsupported):
            self._refuse_stray_dockerfile()

    def _refuse_stray_dockerfile(self) -> None:
        """Refuse a Dockerfile that Harbor would ignore, instead of running the task in an image without it."""
        with contextlib.suppress(OSError):
            for directory in (self.environment_dir, self.path):
                for file in sorted(directory.iterdir()) if directory.is_dir() else ():
                    if file.name.lower() in ("dockerfile", "containerfile") and file.is_file():
                        raise TaskError(file, "would be ignored; Harbor builds environment/Dockerfile, so rename it")

    def with_changes(self, *, config: TaskConfig | None = None, instruction: str | None = None) -> Self:
        """Return a copy with another configuration or instruction; None keeps the current one."""
        return replace(
            self,
            config_override=self.config_override if config is None else config,
            instruction_override=self.instruction_override if instruction is None else instruction,
        )

    def upload_files(self, folder: Literal["tests", "solution"]) -> list[tuple[PurePosixPath, Path]]:
        """Return the directories, files and links to upload from a folder, each as relative path and host path.

        Parents come before their children. A link is listed as a link and never followed. As in Harbor, entries that
        the task's .harborignore (gitignore syntax, relative to the task directory) matches are excluded.

        Raises:
            TaskError: .harborignore or the folder cannot be read.

        """
        return upload_list(self.path, folder)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, (dict, list)):
        return None
    try:
        return str(json_values(value))
    except ValueError:  # an integer with more digits than Python prints
        return None

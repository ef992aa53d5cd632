"""The places where pytest looks for tests, and the Harbor tasks in them.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest.nodes import FSCollector

from pytest_harbor._util.text import printable_name
from pytest_harbor.plugin.options.config import AGENT_KEYS, typed_options

if TYPE_CHECKING:
    from pytest_harbor.plugin.options.table import HarborConfig

_TASK_FILES = ("instruction.md", "tests/test.sh", "environment", "steps")

# What only Harbor's task.toml has, for tasks whose other files are missing.
_TASK_TABLE = re.compile(rb"^\s*(schema_version\s*=|\[(verifier|environment|agent)\])", re.MULTILINE)

# The tables of pytest's configuration files that may list agents.
_AGENT_TABLE = re.compile(r"^\s*\[\[?\s*(tool\s*\.\s*)?[\"']?pytest-harbor\b", re.MULTILINE)


def is_task(directory: Path) -> bool:
    """Return True if a directory that nobody called a dataset is surely a Harbor task.

    A task.toml alone may be anything.
    """
    toml = directory / "task.toml"
    if not toml.is_file():
        return False
    if any((directory / name).exists() for name in _TASK_FILES):
        return True
    try:
        return bool(_TASK_TABLE.search(toml.read_bytes()))
    except OSError:
        return False


def is_converted(directory: Path) -> bool:
    """Return True for the directory of a converted environment; all in it but tasks/ is for its image."""
    return (directory / "Dockerfile.hud").is_file() and any((directory / "tasks").glob("*/task.toml"))


def outside_tasks(path: Path) -> Path:
    """Return the nearest path, from a path upwards, that is neither in a task nor in a converted environment.

    A directory with a task.toml counts as a task if the path is that directory or that file.
    """
    if path.name == "task.toml":
        path = path.parent
    if (path / "task.toml").is_file():
        path = path.parent
    outermost = [place for place in (path, *path.parents) if is_task(place) or is_converted(place)]
    if outermost:
        return outermost[-1].parent
    return path.parent if task_around(path) else path


def task_around(path: Path) -> Path | None:
    """Return the task or the converted environment that a path is in, other than its own tasks and their task.toml."""
    # A link may lead into a task.
    for directory in dict.fromkeys((*path.parents, *path.resolve().parents)):
        if is_task(directory):
            return None if path == directory / "task.toml" else directory
        if is_converted(directory) and path.is_relative_to(directory):
            inside = path.relative_to(directory).parts
            return None if inside[0] == "tasks" and len(inside) <= 2 else directory
    return None


class Places:
    """Where pytest looks for tests in this run.

    Args:
        config: pytest's configuration.
        options: the plugin's options.

    Attributes:
        given: the paths of pytest's arguments, its testpaths, or the current directory.
        named: whether the command line names them.
        found: the tasks that node ids name, and, with an agent, those below the directories.
        found_nothing: whether an agent was chosen on the command line, and there is no task.
        used: the datasets of the options that are part of this run.
        unused: those that are not, since the command line names other paths.

    """

    def __init__(self, config: pytest.Config, options: HarborConfig) -> None:
        self._config = config
        self._never = (*config.getini("norecursedirs"), "__pycache__")
        base = config.invocation_params.dir
        self.named = config.args_source is pytest.Config.ArgsSource.ARGS
        # The links stay in all paths.
        paths = (os.path.abspath(base / str(arg).partition("::")[0]) for arg in config.args)  # noqa: PTH100
        self.given = [path for path in dict.fromkeys(map(Path, paths)) if path.exists()]
        by_flag = not self.named and _named_on_command_line(config)
        if by_flag:
            self.given = []
        self.used = [path for path in options.datasets if not self.named or self._covers(path)]
        self.unused = [path for path in options.datasets if path not in self.used]
        config.args = [_printable_id(arg) for arg in config.args]
        self._refuse_files_of_tasks()
        self._refuse_missing_tasks(options.datasets)
        self.found = [path.parent for path in self.given if path.name == "task.toml"]
        if not options.taskset and self._has_agent(options):
            self.found += self._search(options.datasets)
        chosen = any(config.getoption(key) for key in AGENT_KEYS) and not self.found and not options.datasets
        typed = typed_options(config) if chosen else None
        self.found_nothing = typed is not None and any(getattr(typed, key) for key in AGENT_KEYS)

    def add_datasets(self) -> None:
        """Let pytest collect the datasets too, unless the command line names the paths to collect.

        pytest-xdist workers need this too, since they parse the command line again.
        """
        if self.named or not self.used:
            return
        config = self._config
        tops = [path for path in self.used if not self._ignored(path)]
        # A directory below another is collected with it; older versions of pytest fail if given both.
        tops = [path for path in tops if not _below(path, [other for other in tops if other != path])]
        if not self.given:
            config.args = [str(path) for path in tops]
            config.args_source = pytest.Config.ArgsSource.ARGS
            return
        kept = [arg for arg, path in self._arguments() if path is None or not _below(path, tops)]
        config.args = kept + [str(path) for path in tops if not self.include(path)]

    def include(self, path: Path) -> bool:
        """Return True if a path is one of the places, or below one."""
        return path in self.given or _below(path, self.given)

    def cover(self, directory: Path) -> bool:
        """Return True if pytest itself looks for tests in a directory."""
        return any(not any(map(self.skip, way)) for way in self._ways(directory))

    def skipped_way(self, directory: Path) -> list[Path]:
        """Return the part of a directory's path that pytest would not enter, if it looks for tests above it."""
        if self.cover(directory):
            return []
        ways = [
            [place for n, place in enumerate(way) if any(map(self.skip, way[: n + 1]))] for way in self._ways(directory)
        ]
        return min(ways, key=len, default=[])

    def skip(self, directory: Path) -> bool:
        """Return True if pytest does not look for tests in directories with such a name."""
        return any(fnmatch(directory.name, pattern) for pattern in self._never) or _is_virtual_environment(directory)

    def _ways(self, directory: Path) -> Iterator[list[Path]]:
        """Yield, for each place above a directory, the directories on the way there."""
        above = [directory, *directory.parents]
        for place in self.given:
            if place in above:
                yield above[: above.index(place)][::-1]

    def _arguments(self) -> Iterator[tuple[str, Path | None]]:
        for arg in self._config.args:
            path = Path(os.path.abspath(self._config.invocation_params.dir / str(arg)))  # noqa: PTH100
            yield arg, path if path.exists() else None

    def _covers(self, dataset: Path) -> bool:
        """Return True if one of the arguments is a dataset, leads to it, or is a part of it."""
        for path in self.given:
            if path == dataset or path in dataset.parents:
                return True
            if dataset in path.parents and (path.is_dir() or path.name == "task.toml"):
                return True
        return False

    def _ignored(self, path: Path) -> bool:
        base = self._config.invocation_params.dir
        ignored = [os.path.abspath(base / given) for given in self._config.getoption("ignore") or ()]  # noqa: PTH100
        return str(path) in ignored

    def _refuse_files_of_tasks(self) -> None:
        for path in self.given:
            task = task_around(path)
            if task is not None:
                base = self._config.invocation_params.dir
                raise pytest.UsageError(
                    f"{shown(path, base)} belongs to the Harbor task {shown(task, base)}, whose files run in its "
                    f"environment and never on this host; give {shown(task, base)} and --harbor-agent=AGENT to run "
                    "the task, or -p no:harbor to run its files as ordinary tests"
                )

    def _refuse_missing_tasks(self, datasets: Sequence[Path]) -> None:
        """Refuse the node id of a task that is elsewhere, and say where it is."""
        base = self._config.invocation_params.dir
        for arg in self._config.args if self.named else ():
            file, colons, name = str(arg).partition("::")
            if os.path.basename(file) != "task.toml" or os.path.lexists(base / file):  # noqa: PTH119
                continue
            wanted = Path(file).parent.name
            tops = [top for top in (*datasets, self._config.rootpath) if top.is_dir()]
            tasks = list(dict.fromkeys(task for top in tops for task in self._tasks_below(top)))
            same = [task for task in tasks if task.name == wanted]
            near = difflib.get_close_matches(wanted, sorted({task.name for task in tasks}), n=1)
            for task in same or [task for task in tasks if task.name in near]:
                # The rest of the node id begins with the task's name.
                rest = name.replace(wanted, task.name, 1)
                guess = f"{shown(task / 'task.toml', base)}{colons}{rest}"
                raise pytest.UsageError(f"{file} does not exist; did you mean {guess}?")
            raise pytest.UsageError(f"{file} does not exist; give the path of a task, relative to {base}")

    def _has_agent(self, options: HarborConfig) -> bool:
        if options.agent or options.agents or self._config.hook.pytest_harbor_agent.get_hookimpls():
            return True
        inipath = self._config.inipath
        if inipath is None or inipath.suffix != ".toml":
            return False
        try:
            return bool(_AGENT_TABLE.search(inipath.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return False

    def _search(self, datasets: Sequence[Path]) -> list[Path]:
        """Return the tasks below the given directories, except for directories in which a dataset was chosen."""
        tops = [path for path in self.given if path.is_dir() and not (datasets and not self.named)]
        tops = [top for top in tops if not any(_related(top, dataset) for dataset in datasets)]
        return list(dict.fromkeys(task for top in tops for task in self._tasks_below(top)))

    def _tasks_below(self, top: Path) -> list[Path]:
        """Return the task directories where pytest would look for tests below a directory, sorted."""
        found = []
        for directory, names, files in os.walk(top):
            path = Path(directory)
            if "task.toml" in files and is_task(path):
                found.append(path)
                names.clear()
            elif is_converted(path):
                names[:] = ["tasks"]
            else:
                names[:] = [name for name in names if not self.skip(path / name)]
        return sorted(found)


def _named_on_command_line(config: pytest.Config) -> bool:
    """Return True if datasets are named on the command line itself rather than in `addopts` or an ini key."""
    if not config.getoption("harbor_dataset") and not config.getoption("harbor_taskset"):
        return False
    typed = typed_options(config)
    return bool(typed.harbor_dataset or typed.harbor_taskset)


def _is_virtual_environment(directory: Path) -> bool:
    return (directory / "pyvenv.cfg").is_file()


def _below(path: Path, tops: Iterable[Path]) -> bool:
    return any(top in path.parents for top in tops)


def _related(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def shown(path: Path, base: Path) -> str:
    """Return a path as people write it on the command line."""
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def _printable_id(arg: str) -> str:
    """Return a task's node id with its name as the item has it."""
    path, colons, name = arg.partition("::")
    return f"{path}{colons}{printable_name(name)}" if path.endswith("task.toml") else arg


class UncollectedTask(FSCollector):
    """A task in a run that does not run it. Nothing in it is collected, since its files are for its environment."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Collect nothing."""
        return []


def guard(path: Path, parent: pytest.Collector, guarded: list[Path]) -> pytest.Collector | None:
    """Return an empty node for a task or a converted environment, so that pytest stays out of it.

    Args:
        path: a directory.
        parent: the parent of the node.
        guarded: a task is added to these.

    """
    if is_task(path):
        guarded.append(path)
    elif not is_converted(path):
        return None
    node: UncollectedTask = UncollectedTask.from_parent(parent, path=path)
    return node

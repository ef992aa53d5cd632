"""Limits by control groups, version 1 or 2, where this process may make some."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pytest_harbor.environment.base import Resources
from pytest_harbor.environment.namespace.inside.cleanup import remove_group

# As for containers: more than any honest task has, fewer than would take the machine down with a fork bomb.
PROCESS_LIMIT = 4096
PERIOD = 100_000


def make_groups(name: str, resources: Resources) -> tuple[list[str], list[str]]:
    """Make the groups of an environment.

    Returns:
        The groups' directories, and notes of what cannot be limited.

    """
    wanted: dict[str, str] = {"pids": str(PROCESS_LIMIT)}
    notes = []
    if resources.memory_mb:
        wanted["memory"] = str(resources.memory_mb * 1024 * 1024)
    if resources.cpus:
        there = os.cpu_count() or 1
        if resources.cpus > there:
            notes.append(f"the task wants {resources.cpus:g} CPUs and the machine has {there}")
        wanted["cpu"] = str(int(min(resources.cpus, there) * PERIOD))
    made: list[str] = []
    missing = []
    for controller, value in wanted.items():
        group = next(_made(controller, name, value, made), None)
        if group is None:
            missing.append(controller)
        elif group not in made:
            made.append(group)
    asked = [controller for controller in missing if controller != "pids"]
    if asked:
        notes.append(f"no limit of {' and '.join(asked)}: this process may not make control groups for it")
    return made, notes


def _made(controller: str, name: str, value: str, made: list[str]) -> Iterator[str]:
    """Make a group that limits something, wherever that works."""
    for parent, version in _places(controller):
        group = parent / f"pytest-harbor-{name}"
        try:
            if version == 2:
                with contextlib.suppress(OSError):
                    (parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
            group.mkdir(exist_ok=True)
            _limit(group, controller, value, version)
        except OSError:
            if str(group) not in made:
                remove_group(str(group))
            continue
        yield str(group)


def _limit(group: Path, controller: str, value: str, version: int) -> None:
    def write(file: str, text: str) -> None:
        (group / file).write_text(text, encoding="ascii")

    if controller == "pids":
        write("pids.max", value)
    elif controller == "memory":
        write("memory.max" if version == 2 else "memory.limit_in_bytes", value)
        # Without swap accounting there is no such file.
        with contextlib.suppress(OSError):
            write(*(("memory.swap.max", "0") if version == 2 else ("memory.memsw.limit_in_bytes", value)))
    elif version == 2:
        write("cpu.max", f"{value} {PERIOD}")
    else:
        write("cpu.cfs_period_us", str(PERIOD))
        write("cpu.cfs_quota_us", value)


def _places(controller: str) -> Iterator[tuple[Path, int]]:
    """Yield directories in which a group with a controller may be made, and their version."""
    own: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            for each in controllers.split(","):
                own[each] = path.lstrip("/")
    for mount, kind, options in _mounts():
        if kind == "cgroup2":
            # Processes are only in leaves: beside this process's own group, or at the root, which is exempt.
            for parent in dict.fromkeys((mount, (mount / own.get("", "")).parent)):
                if mount in (parent, *parent.parents) and os.access(parent, os.W_OK):
                    yield parent, 2
        elif kind == "cgroup" and controller in options:
            yield mount / own.get(controller, ""), 1


def _mounts() -> Iterator[tuple[Path, str, list[str]]]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(" ")
            yield Path(fields[1]), fields[2], fields[3].split(",")

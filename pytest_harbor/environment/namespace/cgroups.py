"""Resource limits by control groups, version 1 or 2, as far as this process may create them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pytest_harbor.environment.base import Resources
from pytest_harbor.environment.namespace.inside.cleanup import remove_group

# The same as for containers: more than any honest task needs, and few enough to stop a fork bomb.
PROCESS_LIMIT = 4096
PERIOD = 100_000  # microseconds


def create_groups(name: str, resources: Resources) -> tuple[list[str], list[str]]:
    """Create the control groups of an environment.

    Returns:
        The directories of the groups, and notes on what cannot be limited.

    """
    limits: dict[str, str] = {"pids": str(PROCESS_LIMIT)}
    notes = []
    if resources.memory_mb:
        limits["memory"] = str(resources.memory_mb * 1024 * 1024)
    if resources.cpus:
        available = os.cpu_count() or 1
        if resources.cpus > available:
            notes.append(f"the task requests {resources.cpus:g} CPUs, but the machine has {available}")
        limits["cpu"] = str(int(min(resources.cpus, available) * PERIOD))
    groups: list[str] = []
    unlimited = []
    for controller, value in limits.items():
        group = _create_group(controller, name, value, groups)
        if group is None:
            unlimited.append(controller)
        elif group not in groups:
            groups.append(group)
    # The limit of processes is not the task's wish, so its absence is not worth a note.
    requested = [controller for controller in unlimited if controller != "pids"]
    if requested:
        notes.append(f"no {' or '.join(requested)} limit: this process may not create control groups for it")
    return groups, notes


def _create_group(controller: str, name: str, value: str, existing: list[str]) -> str | None:
    """Create a group with a limit at the first place that allows it."""
    for parent, version in _parents(controller):
        group = parent / f"pytest-harbor-{name}"
        try:
            if version == 2:
                with contextlib.suppress(OSError):
                    (parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
            group.mkdir(exist_ok=True)
            _set_limit(group, controller, value, version)
        except OSError:
            if str(group) not in existing:
                remove_group(str(group))
            continue
        return str(group)
    return None


def _set_limit(group: Path, controller: str, value: str, version: int) -> None:
    def write(file: str, text: str) -> None:
        (group / file).write_text(text, encoding="ascii")

    if controller == "pids":
        write("pids.max", value)
    elif controller == "memory":
        write("memory.max" if version == 2 else "memory.limit_in_bytes", value)
        # This file does not exist without swap accounting.
        with contextlib.suppress(OSError):
            write(*(("memory.swap.max", "0") if version == 2 else ("memory.memsw.limit_in_bytes", value)))
    elif version == 2:
        write("cpu.max", f"{value} {PERIOD}")
    else:
        write("cpu.cfs_period_us", str(PERIOD))
        write("cpu.cfs_quota_us", value)


def _parents(controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the directories in which a group with a controller may be created, each with its cgroup version."""
    own: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            for each in controllers.split(","):
                own[each] = path.lstrip("/")
    for mount, kind, options in _mounts():
        if kind == "cgroup2":
            # Only leaf groups may contain processes: so use a sibling of this process's group, or the exempt root.
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

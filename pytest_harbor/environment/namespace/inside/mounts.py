"""The file system of an environment: overlays over host directories, and the /proc, /dev and /sys that programs need.

Runs in the environment's first process, before it gives up the host's root.
"""

from __future__ import annotations

import os

from pytest_harbor.environment.namespace.inside.syscalls import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}

# Hidden by container engines, too: through these, root could change the machine or read its memory.
_PROC_READ_ONLY = ("sys", "irq", "bus", "fs", "sysrq-trigger")
_PROC_HIDDEN = ("acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "sched_debug", "scsi", "kmsg")


def build_root(config: dict[str, Any]) -> str:
    """Mount the root of an environment and everything below it.

    Args:
        config: `directory` (what relative paths are relative to), `root` (the mount point), `overlays` (each with its
            `target` below the root, `lower`, `upper` and `work`) and `options` (mount options of every overlay).

    Returns:
        The absolute path of the root.

    """
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    # Use relative paths: every process in the environment can read the options of its mounts.
    os.chdir(config["directory"])
    root = os.path.abspath(str(config["root"]))
    for overlay in config["overlays"]:
        target = config["root"] + ("/" + overlay["target"] if overlay["target"] else "")
        os.makedirs(target, exist_ok=True)
        _mount_overlay(target, overlay, config["options"])
    _mount_proc(root)
    _mount_dev(root)
    _mount_tmpfs(root + "/sys", MS_RDONLY)
    return root


def _mount_overlay(target: str, overlay: dict[str, Any], options: str) -> None:
    directories = f"lowerdir={':'.join(overlay['lower'])},upperdir={overlay['upper']},workdir={overlay['work']}"
    data = ",".join(part for part in (directories, options) if part)
    if len(data) > 4000:
        raise OSError(f"{len(overlay['lower'])} layers over /{overlay['target']} are too many for one mount")
    try:
        # Nothing here needs to survive a crash, so never wait for the disk; needs Linux 5.10.
        mount("overlay", target, "overlay", MS_NODEV, f"{data},volatile")
    except OSError:
        mount("overlay", target, "overlay", MS_NODEV, data)


def _mount_proc(root: str) -> None:
    proc = root + "/proc"
    os.makedirs(proc, exist_ok=True)
    guarded = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("proc", proc, "proc", guarded)
    for name in _PROC_READ_ONLY:
        path = f"{proc}/{name}"
        if os.path.exists(path):
            mount(path, path, flags=MS_BIND | MS_REC)
            mount("", path, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | guarded)
    for name in _PROC_HIDDEN:
        path = f"{proc}/{name}"
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", MS_RDONLY | guarded)
        elif os.path.exists(path):
            mount("/dev/null", path, flags=MS_BIND)


def _mount_dev(root: str) -> None:
    dev = root + "/dev"
    _mount_tmpfs(dev, 0, "mode=755,size=1m")
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            # A user namespace cannot create device nodes, so bind-mount the host's.
            mount(f"/dev/{name}", f"{dev}/{name}", flags=MS_BIND)
    for name, target in LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    os.mkdir(f"{dev}/pts")
    mount("devpts", f"{dev}/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    _mount_tmpfs(f"{dev}/shm", MS_NODEV, "mode=1777,size=64m")


def _mount_tmpfs(path: str, flags: int, data: str = "mode=755") -> None:
    os.makedirs(path, exist_ok=True)
    mount("tmpfs", path, "tmpfs", MS_NOSUID | flags, data)

"""Process identity: which process owns an environment, and whether it still runs or has left the environment behind."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

from pytest_harbor._util.unpatched import call


@cache
def machine_id() -> str:
    """Return an id for the host or container in which this process's ids are valid."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a kernel object, not a path
    except OSError:
        namespace = ""
    name = f"{platform.node()}|{namespace}"
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            name += Path(file).read_text(encoding="ascii").strip()
            break
        except (OSError, UnicodeDecodeError):
            continue
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def process_token(pid: int | None = None) -> str:
    """Return a token for a process (by default this one) that no other process on this machine will ever have."""
    pid = os.getpid() if pid is None else pid
    return f"{pid}.{_start_time(pid)}"


def is_alive(token: str) -> bool:
    """Return True if the process with this token, of this machine, still runs."""
    pid, _, started = token.partition(".")
    return pid.isdigit() and started != "" and _start_time(int(pid)) == started


def _start_time(pid: int) -> str:
    """Return the start time of a process as an opaque word; empty if the process does not exist or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        if fields[0] in "ZX":
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot[:8]}-{fields[19]}"
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        return ""
    # Without /proc (macOS), ask ps.
    output = call(["ps", "-o", "lstart=", "-p", str(pid)])[1]
    return "".join(character for character in output.decode("ascii", "replace") if character.isalnum())

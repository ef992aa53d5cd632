"""Who owns an environment, and whether that process still lives: what tells leftovers from work in progress."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from pathlib import Path


@cache
def machine_id() -> str:
    """Return a name for the place in which process ids mean something: this host, or this container."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path, a kernel object
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
    """Return a token of a process (this one by default) that no other process will ever have on this machine."""
    pid = os.getpid() if pid is None else pid
    return f"{pid}.{_started(pid)}"


def is_alive(token: str) -> bool:
    """Tell whether the process of a token of this machine is still that process."""
    pid, _, started = token.partition(".")
    return pid.isdigit() and started != "" and _started(int(pid)) == started


def _started(pid: int) -> str:
    """Return when a process started, as an opaque word; empty when there is none."""
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
    # No /proc (macOS): ps knows the same.
    said = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "".join(character for character in said.stdout if character.isalnum())

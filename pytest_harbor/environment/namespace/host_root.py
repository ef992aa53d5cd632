"""The part of the host that environments see: its operating system, and nothing else.

This module lists what is visible rather than what is hidden, so that nothing shows up by oversight. Below visible
directories, the base layer hides whatever is not world-readable.
"""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_harbor._util.files import Digest, file_digest

# Increase this when the content of base layers changes.
VERSION = "3"

SYSTEM_DIRECTORIES = (
    "usr",
    "etc",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    # The package manager's database, without which nothing can be installed.
    "var/lib/dpkg",
    "var/lib/rpm",
    "var/lib/pacman",
)


@dataclass(frozen=True)
class HostRoot:
    """The host's root file system, as far as environments see it.

    Attributes:
        visible: directories, relative to the root, over which environments have overlays.
        links: symbolic links at the root, such as bin, with their targets.
        hidden: absolute paths below visible directories that stay hidden, such as the project.
        user_namespace: whether environments run in user namespaces, because this process is not root.

    """

    visible: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    hidden: tuple[Path, ...]
    user_namespace: bool

    @classmethod
    def inspect(cls, hidden: tuple[Path, ...], *, user_namespace: bool) -> HostRoot:
        """Return this host's root file system."""
        visible, links = [], []
        for name in SYSTEM_DIRECTORIES:
            path = Path("/") / name
            if path.is_symlink():
                links.append((name, str(path.readlink())))
            elif path.is_dir():
                visible.append(name)
        if not any(Path(f"/usr/{directory}/python3").exists() for directory in ("bin", "local/bin")):
            # The machine has no Python but the one that runs this, in somebody's home.
            visible.append(str(Path(sys.base_prefix).resolve()).lstrip("/"))
        resolved = {path.resolve() for path in hidden}
        return cls(
            tuple(visible),
            tuple(links),
            tuple(sorted(path for path in resolved if any(is_below(path, name) for name in visible))),
            user_namespace,
        )

    @property
    def description(self) -> str:
        """The name of the operating system."""
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return "Linux"

    def fingerprint(self) -> str:
        """Return an id of the host's current state, because an image is of no use over a different system."""
        digest = Digest()
        digest.add(VERSION, repr(self))
        watched = ["/etc/os-release", "/var/lib/dpkg/status", "/var/lib/rpm", "/lib/apk/db/installed"]
        for name in [*watched, *(f"/{name}" for name in self.visible), "/usr/bin", "/usr/lib", "/usr/local/bin"]:
            try:
                digest.add(name, str(Path(name).stat().st_mtime_ns))
            except OSError:
                continue
        for path, status in self.private_files():
            digest.add(str(path), f"{status.st_mode} {status.st_uid} {status.st_gid}")
        for file in (Path("/etc/passwd"), Path("/etc/group")):
            digest.add(file_digest(file) if file.exists() else b"")
        return digest.hex()[:12]

    def private_files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield each file and directory below /etc that is not world-readable."""
        pending = [Path("/etc")]
        while pending:
            try:
                entries = sorted(pending.pop().iterdir())
            except OSError:
                continue
            for path in entries:
                status = path.lstat()
                if stat.S_ISDIR(status.st_mode):
                    if status.st_mode & 0o005 == 0o005:
                        pending.append(path)
                        continue
                elif not stat.S_ISREG(status.st_mode) or status.st_mode & 0o004:
                    continue
                yield path, status


def overlay_name(visible: str) -> str:
    """Return the name of a visible directory's overlay within layers."""
    return visible.replace("/", "-") or "root"


def is_below(path: Path, visible: str) -> bool:
    """Return True if an absolute path is below a visible directory, which is relative to the root."""
    top = Path("/") / visible
    return path != top and top in path.parents

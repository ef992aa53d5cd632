"""The configuration of a sandbox."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.host_root import HostRoot, overlay_name
from pytest_harbor.environment.namespace.inside.cleanup import remove_group, remove_tree
from pytest_harbor.environment.namespace.launcher import Launcher


@dataclass(frozen=True)
class SandboxConfig:
    """The configuration of a sandbox.

    Attributes:
        launcher: starts the sandbox.
        cache: the provider's directory.
        host: the host's root.
        layers: ids of layers, topmost first; the last is the base layer, which hides what is private to the host.
        directory: the sandbox's own directory, below the cache; what is written goes to `u` in it.
        hostname: the host name inside.
        groups: control groups that all of its processes join.
        network: whether it shares the host's network; otherwise it has only a loopback interface of its own.
        remove: whether `directory` is removed with the sandbox, whatever happens to this process.

    """

    launcher: Launcher
    cache: Cache
    host: HostRoot
    layers: Sequence[str]
    directory: Path
    hostname: str = "harbor"
    groups: Sequence[str] = field(default_factory=list)
    network: bool = True
    remove: bool = True

    def prepare(self) -> dict[str, Any]:
        """Create the sandbox's directories and return the configuration for its init process."""
        relative = self.directory.relative_to(self.cache.root)
        (self.directory / "root").mkdir(exist_ok=True)
        overlays = []
        for target in ("", *self.host.visible):
            name = overlay_name(target)
            upper, work = self.directory / "u" / name, self.directory / "w" / name
            if not upper.exists():
                upper.mkdir(parents=True)
                _copy_attributes(Path("/") / target, upper, owner=not self.host.user_namespace)
            work.mkdir(parents=True, exist_ok=True)
            lower = [f"l/{layer}/{name}" for layer in self.layers if (self.cache.layers / layer / name).is_dir()]
            if target:
                lower.append(f"/{target}")
            overlays.append(
                {"target": target, "lower": lower, "upper": f"{relative}/u/{name}", "work": f"{relative}/w/{name}"}
            )
        etc = self.directory / "u" / "etc"
        for file, text in network_files(self.hostname).items():
            (etc / file).write_text(text, encoding="utf-8")
            (etc / file).chmod(0o644)
        return {
            "user_namespace": self.host.user_namespace,
            "directory": str(self.cache.root),
            "root": f"{relative}/root",
            "overlays": overlays,
            "options": "userxattr" if self.host.user_namespace else "index=off,metacopy=off,redirect_dir=off",
            "hostname": self.hostname,
            "groups": list(self.groups),
            "network": self.network,
            "remove": str(self.directory) if self.remove else "",
        }

    def remove_all(self) -> None:
        """Remove what is left of the sandbox: its directory and its control groups."""
        for group in self.groups:
            remove_group(group)
        remove_tree(str(self.directory))


def network_files(hostname: str) -> dict[str, str]:
    """Return the name resolution files of /etc, by name; every environment gets its own."""
    resolver = ""
    with contextlib.suppress(OSError):
        resolver = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    hosts = f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return {"resolv.conf": resolver, "hosts": hosts, "hostname": f"{hostname}\n"}


def _copy_attributes(source: Path, target: Path, *, owner: bool) -> None:
    status = source.stat()
    if owner:
        os.chown(target, status.st_uid, status.st_gid)
    target.chmod(0o755 if str(source) == "/" else status.st_mode & 0o7777)

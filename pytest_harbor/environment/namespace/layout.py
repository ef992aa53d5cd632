"""What a sandbox is made of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.hostroot import HostRoot, slug
from pytest_harbor.environment.namespace.inside.cleanup import remove_group, remove_tree
from pytest_harbor.environment.namespace.launcher import Launcher


@dataclass(frozen=True)
class Layout:
    """What a sandbox is made of.

    Attributes:
        launcher: what starts it.
        cache: the provider's directory.
        host: the host's root.
        layers: ids of layers, topmost first; the last hides what is private.
        place: directory of the sandbox itself, below the cache; what is written goes to `u` in it.
        hostname: name of the machine that it seems to be.
        groups: control groups that everything in it joins.
        network: whether it shares the host's network; else it has a loopback of its own and nothing more.
        remove: whether `place` goes with it, whatever happens to this process.

    """

    launcher: Launcher
    cache: Cache
    host: HostRoot
    layers: Sequence[str]
    place: Path
    hostname: str = "harbor"
    groups: Sequence[str] = field(default_factory=list)
    network: bool = True
    remove: bool = True

    def prepare(self) -> dict[str, Any]:
        """Make the directories and return what the first process must know."""
        at = self.place.relative_to(self.cache.root)
        (self.place / "root").mkdir(exist_ok=True)
        overlays = []
        for target in ("", *self.host.visible):
            name = slug(target)
            upper, work = self.place / "u" / name, self.place / "w" / name
            if not upper.exists():
                upper.mkdir(parents=True)
                _copy_directory(Path("/") / target, upper, owner=not self.host.user_namespace)
            work.mkdir(parents=True, exist_ok=True)
            lower = [f"l/{layer}/{name}" for layer in self.layers if (self.cache.layers / layer / name).is_dir()]
            if target:
                lower.append(f"/{target}")
            overlays.append({"target": target, "lower": lower, "upper": f"{at}/u/{name}", "work": f"{at}/w/{name}"})
        etc = self.place / "u" / "etc"
        for file, text in network_files(self.hostname).items():
            (etc / file).write_text(text, encoding="utf-8")
            (etc / file).chmod(0o644)
        return {
            "user_namespace": self.host.user_namespace,
            "directory": str(self.cache.root),
            "root": f"{at}/root",
            "overlays": overlays,
            "options": "userxattr" if self.host.user_namespace else "index=off,metacopy=off,redirect_dir=off",
            "hostname": self.hostname,
            "groups": list(self.groups),
            "network": self.network,
            "remove": str(self.place) if self.remove else "",
        }

    def remove_all(self) -> None:
        """Remove what is left of the sandbox: its directory and its control groups."""
        for group in self.groups:
            remove_group(group)
        remove_tree(str(self.place))


def network_files(hostname: str) -> dict[str, str]:
    """Return the files of /etc that say where names are resolved, as every environment gets them anew."""
    resolver = ""
    with contextlib.suppress(OSError):
        resolver = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    hosts = f"127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    return {"resolv.conf": resolver, "hosts": hosts, "hostname": f"{hostname}\n"}


def _copy_directory(source: Path, target: Path, *, owner: bool) -> None:
    status = source.stat()
    if owner:
        os.chown(target, status.st_uid, status.st_gid)
    target.chmod(0o755 if str(source) == "/" else status.st_mode & 0o7777)

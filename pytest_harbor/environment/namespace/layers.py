"""Layers: what one instruction wrote, kept under a name that tells what it was written on top of and by what."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_harbor._util.process import process_token
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.hostroot import HostRoot
from pytest_harbor.environment.namespace.inside.cleanup import remove_tree
from pytest_harbor.environment.namespace.launcher import Launcher
from pytest_harbor.environment.namespace.layout import Layout, network_files
from pytest_harbor.environment.namespace.sandbox import Sandbox


@dataclass(frozen=True)
class Stack:
    """A stack of layers over the host's root.

    Attributes:
        launcher: what starts sandboxes.
        cache: the provider's directory.
        host: the host's root.
        base: the layer that hides what is private.
        layers: the layers above it, lowest first.
        chain: digest over everything that led here.

    """

    launcher: Launcher
    cache: Cache
    host: HostRoot
    base: str
    layers: tuple[str, ...] = ()
    chain: str = ""

    def sandbox(self, place: Path) -> Sandbox:
        """Make a sandbox that sees this stack and writes to `u` in a directory, which is made."""
        place.mkdir()
        top = [*reversed(self.layers), self.base]
        return Sandbox(Layout(self.launcher, self.cache, self.host, top, place, hostname="build", remove=False))

    def scratch(self, kind: str) -> Path:
        """Return a directory that does not exist; a later run removes it when this process has died."""
        return self.cache.layers / f"{kind}.{process_token()}"

    def then(self, parts: tuple[str, ...], work: Callable[[Sandbox], None]) -> tuple[Stack, bool]:
        """Add a layer.

        Args:
            parts: everything that decides what is written.
            work: writes it, unless that was done before.

        Returns:
            The stack with the layer, and whether it was there already.

        """
        digest = hashlib.sha256((self.chain or self.base).encode())
        for part in parts:
            data = part.encode("utf-8", "surrogateescape")
            digest.update(len(data).to_bytes(8, "big") + data)
        name = digest.hexdigest()[:16]
        stack = replace(self, layers=(*self.layers, name), chain=digest.hexdigest())
        if (self.cache.layers / name).is_dir():
            return stack, True
        making = self.scratch(name)
        with contextlib.ExitStack() as cleaning:
            cleaning.callback(remove_tree, str(making))
            sandbox = self.sandbox(making)
            try:
                work(sandbox)
            finally:
                sandbox.close()
            self._keep(making / "u", self.cache.layers / name)
        return stack, False

    @staticmethod
    def _keep(written: Path, target: Path) -> None:
        """Make what was written a layer; another process may have been faster."""
        # Every environment gets these anew.
        for file in network_files(""):
            (written / "etc" / file).unlink(missing_ok=True)
        for each in list(written.iterdir()):
            # An empty one changes nothing, and every one makes looking a file up slower.
            with contextlib.suppress(OSError):
                each.rmdir()
        with contextlib.suppress(OSError):
            written.rename(target)

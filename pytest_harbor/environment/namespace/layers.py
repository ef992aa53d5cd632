"""Layers: what one instruction wrote, under a name derived from the layers below and from the instruction itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_harbor._util.files import Digest
from pytest_harbor._util.process import process_token
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.host_root import HostRoot
from pytest_harbor.environment.namespace.inside.cleanup import remove_tree
from pytest_harbor.environment.namespace.launcher import Launcher
from pytest_harbor.environment.namespace.sandbox import Sandbox
from pytest_harbor.environment.namespace.sandbox_config import SandboxConfig, network_files


@dataclass(frozen=True)
class LayerStack:
    """A stack of layers over the host's root.

    Attributes:
        launcher: starts sandboxes.
        cache: the provider's directory.
        host: the host's root.
        base: the id of the base layer, which hides what is private to the host.
        layers: the ids of the layers above it, lowest first.
        chain: digest of everything that led to the topmost layer; empty without layers.

    """

    launcher: Launcher
    cache: Cache
    host: HostRoot
    base: str
    layers: tuple[str, ...] = ()
    chain: str = ""

    @property
    def id(self) -> str:
        """The identity of the stack's content."""
        return self.chain or self.base

    def start_sandbox(self, directory: Path) -> Sandbox:
        """Start a sandbox over this stack that writes to `u` in a directory, which must not exist yet."""
        directory.mkdir()
        layers = [*reversed(self.layers), self.base]
        return Sandbox(
            SandboxConfig(self.launcher, self.cache, self.host, layers, directory, hostname="build", remove=False)
        )

    def scratch_directory(self, name: str) -> Path:
        """Return the path of a temporary directory; if this process dies, a later run removes it."""
        return self.cache.layers / f"{name}.{process_token()}"

    def add_layer(self, key: tuple[str, ...], write: Callable[[Sandbox], None]) -> tuple[LayerStack, bool]:
        """Add a layer.

        Args:
            key: everything that determines the layer's content, apart from the layers below.
            write: writes the content in a sandbox; not called if the layer is cached.

        Returns:
            The stack with the layer, and whether the layer was cached.

        """
        digest = Digest()
        digest.add(self.id, *key)
        name = digest.hex()[:16]
        stack = replace(self, layers=(*self.layers, name), chain=digest.hex())
        if (self.cache.layers / name).is_dir():
            return stack, True
        scratch = self.scratch_directory(name)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(remove_tree, str(scratch))
            sandbox = self.start_sandbox(scratch)
            try:
                write(sandbox)
            finally:
                sandbox.close()
            self._store(scratch / "u", self.cache.layers / name)
        return stack, False

    @staticmethod
    def _store(written: Path, layer: Path) -> None:
        """Make a layer of what was written; another process may have been faster."""
        # Every environment gets its own copies of these files.
        for file in network_files(""):
            (written / "etc" / file).unlink(missing_ok=True)
        for directory in list(written.iterdir()):
            # Drop empty directories: they change nothing, but each one slows down every lookup.
            with contextlib.suppress(OSError):
                directory.rmdir()
        with contextlib.suppress(OSError):
            written.rename(layer)

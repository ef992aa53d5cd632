"""The distribution of tests to pytest-xdist's workers where the user names none: no task waits behind a slow one.

A worker of pytest-xdist starts a test only once it knows the next one, so each has a test that waits behind the running
one, and none of xdist's own distributions can take that test away again. Here, a worker that runs out of tests is also
given those that wait behind the running tests of others, and whoever gets to a test first claims it with a file.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScheduling

from pytest_harbor.plugin.omitted import omit


class Claims:
    """The tests that workers have begun, by position: a file each in a directory of this machine.

    Args:
        directory: the directory.

    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def create(cls) -> Claims:
        """Return claims in a new directory."""
        return cls(Path(tempfile.mkdtemp(prefix="pytest-harbor-")))

    def take(self, position: int) -> bool:
        """Return True if nobody has claimed a test before."""
        try:
            (self.directory / str(position)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def release(self, position: int) -> None:
        """Let a test run once more."""
        with contextlib.suppress(OSError):
            (self.directory / str(position)).unlink()

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.directory, ignore_errors=True)


class QueueScheduling(LoadScheduling):  # type: ignore[misc]
    """Gives each worker one test ahead, and those that run out the tests that wait behind others' running ones.

    Args:
        config: pytest's configuration.
        log: xdist's log.
        claims: the tests that workers have begun.

    """

    collection: list[str] | None
    pending: list[int]

    def __init__(self, config: pytest.Config, log: Any, claims: Claims) -> None:
        super().__init__(config, log)
        self._claims = claims

    def schedule(self) -> None:
        """Distribute the first tests, or those that are left when a worker was replaced."""
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            self.collection = next(iter(self.node2collection.values()))
            self.pending[:] = range(len(self.collection))
            if not self.collection:
                return
            for node in self.nodes:
                self._send_tests(node, 1)
        for node in self.nodes:
            self.check_schedule(node)

    def check_schedule(self, node: Any, duration: float = 0) -> None:
        """Give a worker its next test."""
        if node.shutting_down:
            return
        self._send_tests(node, max(2 - len(self.node2pending[node]), 0))
        if not self.pending:
            self._share(node)
            # The worker runs its last test only once it knows that no other follows.
            node.shutdown()

    def _share(self, node: Any) -> None:
        own = self.node2pending[node]
        others = [position for other in self.nodes if other is not node for position in self.node2pending[other][1:]]
        if waiting := [position for position in dict.fromkeys(others) if position not in own]:
            own.extend(waiting)
            node.send_runtest_some(waiting)

    def mark_test_pending(self, item: str) -> None:
        """Run a test once more, after its worker crashed for example."""
        assert self.collection is not None
        self._claims.release(self.collection.index(item))
        super().mark_test_pending(item)


def run_unless_claimed(item: pytest.Item, nextitem: pytest.Item | None, claims: Claims, position: int) -> bool | None:
    """Claim a test, and return None if pytest should run it, or True if another worker does."""
    if claims.take(position):
        return None
    return omit(item, nextitem)


def may_queue(config: pytest.Config, own: object) -> bool:
    """Return True if neither the user nor another plugin chose a distribution, and all workers are on this machine.

    Args:
        config: pytest's configuration.
        own: the plugin that would choose one.

    """
    known: Any = config.known_args_namespace
    named = getattr(known, "dist", "no") != "no" or getattr(known, "distload", False)
    remote = any("popen" not in spec or "python=" in spec for spec in config.getoption("tx", None) or ())
    xdist = config.pluginmanager.get_plugin("dsession")
    choosing = {impl.plugin for impl in config.hook.pytest_xdist_make_scheduler.get_hookimpls()}
    return config.getoption("dist", "no") == "load" and not named and not remote and choosing <= {own, xdist}

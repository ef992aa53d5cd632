"""The process that starts sandboxes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest_harbor
from pytest_harbor.errors import StartError

NOTHING = Path(os.devnull)

# Nothing of the package but what runs inside is loaded there, nor anything that is installed beside it: it must be
# quick, and the files of what is not yet loaded are gone when the host's root is.
BOOTSTRAP = """
import sys, types
name, path = "", sys.argv[2]
for part in ("pytest_harbor", "environment", "namespace"):
    name = f"{name}.{part}" if name else part
    path += "/" + part
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module
from pytest_harbor.environment.namespace.inside.init import main
main()
"""


class Launcher:
    """A process that has loaded what sandboxes need, and starts each with a fork: quicker than an interpreter each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, *descriptors: int) -> None:
        """Start a sandbox that is spoken to through the first descriptor, and holds the others.

        Raises:
            StartError: no process can be started.

        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._begin()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"!"], descriptors)
            except OSError as error:
                raise StartError(f"no process can be started for an environment ({error.strerror})") from error

    def _begin(self) -> None:
        self._end()
        self._control, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        package = Path(pytest_harbor.__file__).parent.parent
        with inner, NOTHING.open("r+b") as nothing:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BOOTSTRAP, str(inner.fileno()), str(package)],
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                env={},
                cwd="/",
                pass_fds=[inner.fileno()],
                # A terminal's Ctrl-C is for pytest, which ends its sandboxes itself.
                start_new_session=True,
            )

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.wait()
        self._control = self._process = None

    def close(self) -> None:
        """End the process; sandboxes are not touched."""
        with self._lock:
            self._end()

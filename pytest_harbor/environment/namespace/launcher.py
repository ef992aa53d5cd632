"""The process that starts sandboxes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from pytest_harbor._util.unpatched import Popen, socketpair
from pytest_harbor.errors import StartError

NULL = Path(os.devnull)
# The directory above the package.
_IMPORT_ROOT = Path(__file__).parents[3]

# Load only what runs inside, and nothing installed next to it: start-up must be fast, and what is not loaded now can
# no longer be found once the host's root is gone. So the packages on the way are empty stand-ins.
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
    """A process that has loaded what sandboxes need and forks each of them: faster than one interpreter for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, *descriptors: int) -> None:
        """Start a sandbox that is controlled through the first descriptor and keeps the others open.

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
        self._control, inner = socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with inner, NULL.open("r+b") as null:
            self._process = Popen(
                [sys.executable, "-I", "-S", "-c", BOOTSTRAP, str(inner.fileno()), str(_IMPORT_ROOT)],
                stdin=null,
                stdout=null,
                stderr=null,
                env={},
                cwd="/",
                pass_fds=[inner.fileno()],
                # Ctrl-C in a terminal is for pytest, which then stops its sandboxes itself.
                start_new_session=True,
            )

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.wait()
        self._control = self._process = None

    def close(self) -> None:
        """End the process; sandboxes keep running."""
        with self._lock:
            self._end()

"""Functions of the standard library as they are before a test replaces them, and which of them it has replaced.

Tests freeze time, forbid sockets and mock subprocesses, and our trials run in the middle of that. Import this module
before the first test.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from pytest_harbor._util.text import listed


class _Real:
    """The functions, as attributes of a class: freezegun also replaces those that are attributes of modules."""

    # Not time.monotonic(), which more libraries replace. Both read the same clock.
    clock = time.perf_counter
    sleep = time.sleep
    now = datetime.now


def monotonic() -> float:
    """Return the seconds of a clock that no test stops or turns."""
    return _Real.clock()


def sleep(seconds: float) -> None:
    """Wait a number of seconds."""
    _Real.sleep(seconds)


def utc_now() -> datetime:
    """Return the time."""
    return _Real.now(timezone.utc)


Popen = subprocess.Popen


def wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait for a process and return its exit code; unlike Popen.wait(), measure the time with monotonic().

    Raises:
        subprocess.TimeoutExpired: it has not ended in time.

    """
    deadline = monotonic() + seconds
    pause = 0.001
    while (code := process.poll()) is None:
        left = deadline - monotonic()
        if left <= 0:
            raise subprocess.TimeoutExpired(process.args, seconds)
        sleep(min(pause, left))
        pause = min(2 * pause, 0.05)
    return code


def call(command: Sequence[str], variables: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Run a program and return its exit code and output."""
    with Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=variables
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
    return process.returncode, output


class Socket(socket.socket):
    """A socket whose accept() does not use socket.socket, which a test may have replaced."""

    def accept(self) -> tuple[Socket, Any]:
        """Accept a connection."""
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        connection = Socket(self.family, self.type, self.proto, fileno=descriptor)
        if self.gettimeout():
            connection.setblocking(True)
        return connection, address


def socketpair(family: int = socket.AF_UNIX, kind: int = socket.SOCK_STREAM) -> tuple[Socket, Socket]:
    """Return two sockets that are connected to each other."""
    first, second = _Pair.make(family, kind)
    return (
        Socket(family, kind, fileno=first.detach()),
        Socket(family, kind, fileno=second.detach()),
    )


class _Pair:
    make: Callable[..., Any] = staticmethod(sys.modules["_socket"].socketpair)


_OS = ("getpid", "kill", "listdir", "makedirs", "mkdir", "remove", "rename", "replace", "scandir", "unlink")
_PATH = ("exists", "is_dir", "is_file", "mkdir", "open", "read_bytes", "read_text", "stat", "write_bytes", "write_text")
_TEMPFILE = ("NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "TemporaryFile", "mkdtemp", "mkstemp")
_WATCHED: dict[str, Callable[[], Any]] = {
    "open": lambda: builtins.open,
    "io.open": lambda: io.open,
    "os.open": lambda: os.open,
    "os.stat": lambda: os.stat,
    "os.getcwd": lambda: os.getcwd,
    "os.environ": lambda: type(os.environ),
    **{f"os.{name}": partial(getattr, os, name) for name in _OS},
    **{f"pathlib.Path.{name}": partial(getattr, Path, name) for name in _PATH},
    **{f"tempfile.{name}": partial(getattr, tempfile, name) for name in _TEMPFILE},
    "json.dumps": lambda: json.dumps,
    "json.loads": lambda: json.loads,
    "threading.Thread": lambda: threading.Thread,
    "time.time": lambda: time.time,
    "time.sleep": lambda: time.sleep,
    "time.monotonic": lambda: time.monotonic,
    "socket.socket": lambda: socket.socket,
    "socket.getaddrinfo": lambda: socket.getaddrinfo,
    "subprocess.Popen": lambda: subprocess.Popen,
    "subprocess.run": lambda: subprocess.run,
    "requests.Session.request": lambda: _attribute("requests.sessions", "Session", "request"),
    "requests.Session.get_adapter": lambda: _attribute("requests.sessions", "Session", "get_adapter"),
    "requests.adapters.HTTPAdapter.send": lambda: _attribute("requests.adapters", "HTTPAdapter", "send"),
    "urllib3.HTTPConnectionPool.urlopen": lambda: _attribute("urllib3.connectionpool", "HTTPConnectionPool", "urlopen"),
}
_originals: dict[str, Any] = {}


def remember() -> None:
    """Remember what replaced_fix() compares with; the first call for each library that is loaded counts."""
    for name, find in _WATCHED.items():
        if (found := find()) is not None:
            _originals.setdefault(name, found)


def replaced_fix() -> str:
    """Return what replaces functions right now, and how to keep it off tasks; empty if nothing does."""
    by_origin: dict[str, list[str]] = {}
    for name, original in _originals.items():
        current = _WATCHED[name]()
        if current is not original:
            module = getattr(current, "__module__", None) or type(current).__module__
            origin = "a fixture" if current is None else str(module).partition(".")[0]
            by_origin.setdefault(origin, []).append(name)
    if not by_origin:
        return ""
    who = " and ".join(f"{origin} replaces {listed(names, 3)}" for origin, names in by_origin.items())
    return (
        f"while this test runs, {who}: keep that off tasks, for example by overriding the fixture with an empty one "
        "in a conftest.py next to the dataset"
    )


def _attribute(module: str, owner: str, name: str) -> Any:
    return getattr(getattr(sys.modules.get(module), owner, None), name, None)

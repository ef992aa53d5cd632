"""The standard input and output of a container that was attached to."""

from __future__ import annotations

import select
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pytest_harbor.environment.docker.exec_stream import Deadline, ExecStream

CHUNK = 1 << 16
# How long to wait for the other side, in seconds, before asking TLS again: it may have moved on by itself.
PAUSE = 1.0

_Result = TypeVar("_Result")


class AttachStream(ExecStream):
    """One thread may receive while another sends.

    Args:
        raw: what `APIClient.attach_socket()` returned.

    """

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        # A TLS connection is for one thread at a time, so nobody may wait while it has it.
        self._tls = isinstance(self._socket, ssl.SSLSocket)
        self._lock = threading.Lock()

    def first_line(self, seconds: float) -> bytes:
        """Return the first line, or what there is of it when a number of seconds has passed or nothing more comes.

        Afterwards, receive() and send() have no deadline.

        """
        said = b""
        deadline = Deadline(seconds)
        while b"\n" not in said and not deadline.passed:
            data = self.read(deadline.left)
            if data is None:
                break
            said += data
        line, _, self._rest = said.partition(b"\n")
        self._socket.settimeout(0 if self._tls else None)
        return line

    def receive(self) -> bytes:
        """Return the next output; b"" at its end.

        Raises:
            OSError: the connection is lost.

        """
        output, self._rest = self._rest, b""
        while not output:
            data = self._use(lambda: bytes(self._socket.recv(CHUNK)), select.POLLIN)
            if not data:
                return b""
            output = self._frames.feed(data)
        return output

    def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            OSError: the connection is lost.

        """
        while data:
            piece = data
            data = data[self._use(lambda: int(self._socket.send(piece)), select.POLLOUT) :]  # noqa: B023 - used at once

    def _use(self, call: Callable[[], _Result], events: int) -> _Result:
        if not self._tls:
            return call()
        while True:
            try:
                with self._lock:
                    return call()
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            poll = select.poll()
            poll.register(self._socket, wanted)
            poll.poll(PAUSE * 1000)

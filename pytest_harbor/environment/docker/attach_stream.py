"""The standard input and output of an attached container."""

from __future__ import annotations

import select
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pytest_harbor.environment.docker.exec_stream import Deadline, ExecStream

CHUNK = 1 << 16
# How long to wait for the socket, in seconds, before asking TLS again, which may be ready by itself.
RETRY_INTERVAL = 1.0

_Result = TypeVar("_Result")


class AttachStream(ExecStream):
    """A stream on which one thread may receive while another sends.

    Args:
        raw: the return value of `APIClient.attach_socket()`.

    """

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        # Only one thread at a time may use a TLS connection, so no thread may block in it.
        self._tls = isinstance(self._socket, ssl.SSLSocket)
        self._lock = threading.Lock()

    def first_line(self, seconds: float) -> bytes:
        """Return the first line, or the part of it that arrived within a number of seconds or before the stream ended.

        Afterwards, receive() and send() have no deadline.

        """
        received = b""
        deadline = Deadline(seconds)
        while b"\n" not in received and not deadline.passed:
            data = self.read(deadline.left)
            if data is None:
                break
            received += data
        line, _, self._rest = received.partition(b"\n")
        self._socket.settimeout(0 if self._tls else None)
        return line

    def receive(self) -> bytes:
        """Return the next output, or b"" at the end.

        Raises:
            OSError: the connection is lost.

        """
        output, self._rest = self._rest, b""
        while not output:
            data = self._call(lambda: bytes(self._socket.recv(CHUNK)))
            if not data:
                return b""
            output = self._frames.feed(data)
        return output

    def send(self, data: bytes) -> None:
        """Send all of the data.

        Raises:
            OSError: the connection is lost.

        """
        while data:
            piece = data
            data = data[self._call(lambda: int(self._socket.send(piece))) :]  # noqa: B023 - used at once

    def _call(self, call: Callable[[], _Result]) -> _Result:
        if not self._tls:
            return call()
        while True:
            try:
                with self._lock:
                    return call()
            except ssl.SSLWantReadError:
                events = select.POLLIN
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            poll = select.poll()
            poll.register(self._socket, events)
            poll.poll(RETRY_INTERVAL * 1000)

"""The output of a command, read from the Engine with a deadline."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

from pytest_harbor._util.unpatched import monotonic

HEADER = struct.Struct(">BxxxL")

# How long one read waits, in seconds. Between reads, the caller checks whether the command has ended although a process
# still holds its output open.
READ_INTERVAL = 0.05


class FrameDecoder:
    """Decodes the Engine's multiplexed stream: 8 bytes with kind and length, then that many bytes of output."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return the output in the next bytes of the connection, of both streams in the order they arrived."""
        self._buffer += data
        out = bytearray()
        while self._buffer:
            if self._left == 0:
                if len(self._buffer) < HEADER.size:
                    break
                _, self._left = HEADER.unpack_from(self._buffer)
                del self._buffer[: HEADER.size]
                continue
            part = self._buffer[: self._left]
            del self._buffer[: len(part)]
            self._left -= len(part)
            out += part
        return bytes(out)


class ExecStream:
    """The hijacked connection of an exec.

    Args:
        raw: the return value of `APIClient.exec_start(socket=True)`.

    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        # A plain connection is wrapped in a SocketIO; a TLS or SSH connection is not.
        self._socket: Any = getattr(raw, "_sock", raw)
        self._frames = FrameDecoder()
        self._read_ahead = self._take_read_ahead()

    def _take_read_ahead(self) -> bytes:
        """Return output that the HTTP layer read together with the headers: it is no longer on the socket."""
        response = getattr(self._raw, "_response", None)
        buffered = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
        if buffered is None or not hasattr(buffered, "peek"):
            return b""
        self._socket.settimeout(0)
        try:
            return bytes(buffered.peek() or b"")
        except (BlockingIOError, ValueError, OSError):
            return b""

    def read(self, timeout: float | None) -> bytes | None:
        """Return the next output, b"" if none comes within min(timeout, READ_INTERVAL) seconds, or None at the end."""
        if self._read_ahead:
            data, self._read_ahead = self._read_ahead, b""
            return self._frames.feed(data)
        self._socket.settimeout(READ_INTERVAL if timeout is None else min(max(timeout, 0.001), READ_INTERVAL))
        try:
            data = self._socket.recv(1 << 18)
        except (socket.timeout, TimeoutError, BlockingIOError):  # noqa: UP041 - distinct on 3.10's SSL sockets
            return b""
        except OSError:
            return None
        if not data:
            return None
        return self._frames.feed(data)

    def close(self) -> None:
        """Close the connection; the command keeps running."""
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)
        # Close from the outside in: an HTTP response whose file is already closed complains when garbage-collected.
        response: Any = getattr(self._raw, "_response", None)
        layers: list[Any] = [getattr(getattr(response, "raw", None), "_fp", None), response, self._raw, self._socket]
        for layer in layers:
            with contextlib.suppress(Exception):
                layer.close()


class Deadline:
    """A point in time in the future, or never."""

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds left, at least 0; None if there is no deadline."""
        return None if self._at is None else max(0.0, self._at - monotonic())

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self._at is not None and monotonic() >= self._at

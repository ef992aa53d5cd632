"""The output of one command, read from the Engine's connection with a deadline."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Any

HEADER = struct.Struct(">BxxxL")

# How long one read waits before it looks whether the command has ended while something still holds its output.
TICK = 0.05


class FrameDecoder:
    """Takes the Engine's multiplexed stream apart: 8 bytes of kind and length, then that many of output."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Return the output in the next bytes of the connection, both streams in the order in which they came."""
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
        raw: what `APIClient.exec_start(socket=True)` returned.

    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        # Plain connections come wrapped in a SocketIO, TLS and SSH ones do not.
        self._socket: Any = getattr(raw, "_sock", raw)
        self._frames = FrameDecoder()
        self._early = self._read_ahead()

    def _read_ahead(self) -> bytes:
        """Return what the HTTP layer read of the output while it read its headers: it is not on the socket any more."""
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
        """Return the next output, b"" where nothing came within min(timeout, TICK) seconds, None at its end."""
        if self._early:
            data, self._early = self._early, b""
            return self._frames.feed(data)
        self._socket.settimeout(TICK if timeout is None else min(max(timeout, 0.001), TICK))
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
        """Close the connection; the command goes on."""
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)
        # From the outside in: an HTTP response whose file was closed under it complains when it is collected.
        response: Any = getattr(self._raw, "_response", None)
        layers: list[Any] = [getattr(getattr(response, "raw", None), "_fp", None), response, self._raw, self._socket]
        for layer in layers:
            with contextlib.suppress(Exception):
                layer.close()


class Deadline:
    """A moment in the future, or never."""

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds left, not below 0; None when there is no end."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return self._at is not None and time.monotonic() >= self._at

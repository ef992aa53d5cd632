"""Many connections over one stream of bytes each way, and the program that has them in a container.

The same at both ends of the stream. The end in the container listens and tells of each connection, the end at pytest
hands each on. This file's text is what runs there: it has the standard library and nothing else.

A frame is its kind, the number of a connection, a size, and for DATA so many bytes. What has been sent of a
connection's data and not yet been written at the other end is bounded, so that one that nobody reads holds up itself
alone.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable

GREETING = b"harbor-relay "

HEADER = struct.Struct(">BII")
# A new connection; bytes of it; no more bytes will come; it is over; so many bytes have been written.
OPEN, DATA, END, CLOSE, WRITTEN = range(1, 6)

# How many bytes of one connection may be on their way in one direction.
WINDOW = 1 << 18
# How many bytes a frame has at most.
PIECE = 1 << 15
# How many bytes may wait for the stream before no more are read for it.
WAITING = 1 << 20


class BrokenStream(Exception):
    """What came is no frame."""


class _Connection:
    def __init__(self, number: int, end: socket.socket) -> None:
        end.setblocking(False)
        self.number = number
        self.end = end
        # How many bytes the other side takes; how many were written since it was told.
        self.credit = WINDOW
        self.written = 0
        self.waiting = bytearray()
        # No more is read of it here; nobody here reads what comes for it; no more comes for it; its end was handed on.
        self.read = False
        self.deaf = False
        self.ending = False
        self.ended = False


class Multiplexer:
    """Carries connections over a stream until it ends; then all of them are closed.

    Args:
        source: descriptor of what comes from the other side.
        sink: descriptor of what goes there.
        listener: where connections are made, at the one end.
        limit: how many there are at a time; further ones wait.
        take: takes connections, at the other end.

    """

    def __init__(
        self,
        source: int,
        sink: int,
        *,
        listener: socket.socket | None = None,
        limit: int = 0,
        take: Callable[[socket.socket], None] | None = None,
    ) -> None:
        for descriptor in (source, sink):
            os.set_blocking(descriptor, False)
        self._source = source
        self._sink = sink
        self._listener = listener
        self._limit = limit
        self._take = take
        self._last = 0
        self._in = bytearray()
        self._out = bytearray()
        self._connections: dict[int, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._wanted: dict[int, int] = {}

    def run(self) -> None:
        """Carry on until the stream ends.

        Raises:
            BrokenStream: it is none.
            OSError: the other side is gone.

        """
        try:
            while self._turn():
                pass
        finally:
            for connection in self._connections.values():
                connection.end.close()
            self._selector.close()

    def _turn(self) -> bool:
        self._want(self._source, selectors.EVENT_READ, "source")
        self._want(self._sink, selectors.EVENT_WRITE if self._out else 0, "sink")
        if self._listener is not None:
            room = len(self._connections) < self._limit
            self._want(self._listener.fileno(), selectors.EVENT_READ if room else 0, "listener")
        for connection in self._connections.values():
            reads = not connection.read and connection.credit > 0 and len(self._out) < WAITING
            events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if connection.waiting else 0)
            self._want(connection.end.fileno(), events, connection)
        for key, events in self._selector.select():
            what = key.data
            if what == "source":
                data = self._receive()
                if data == b"":
                    return False
                self._feed(data or b"")
            elif what == "listener":
                self._accept()
            elif isinstance(what, _Connection):
                if events & selectors.EVENT_WRITE and self._has(what):
                    self._write(what)
                if events & selectors.EVENT_READ and self._has(what) and not what.read:
                    self._read(what)
        self._flush()
        return True

    def _want(self, descriptor: int, events: int, what: str | _Connection) -> None:
        before = self._wanted.get(descriptor, 0)
        if events == before:
            return
        if not before:
            self._selector.register(descriptor, events, what)
        elif not events:
            self._selector.unregister(descriptor)
        else:
            self._selector.modify(descriptor, events, what)
        self._wanted[descriptor] = events

    def _has(self, connection: _Connection) -> bool:
        return self._connections.get(connection.number) is connection

    def _drop(self, connection: _Connection) -> None:
        self._want(connection.end.fileno(), 0, connection)
        connection.end.close()
        self._connections.pop(connection.number, None)

    def _close(self, connection: _Connection) -> None:
        self._send(CLOSE, connection.number)
        self._drop(connection)

    # The stream.

    def _send(self, kind: int, number: int, size: int = 0, data: bytes = b"") -> None:
        self._out += HEADER.pack(kind, number, size)
        self._out += data

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                del self._out[: os.write(self._sink, self._out[: 1 << 16])]

    def _receive(self) -> bytes | None:
        try:
            return os.read(self._source, 1 << 16)
        except BlockingIOError:
            return None

    def _feed(self, data: bytes) -> None:
        self._in += data
        while len(self._in) >= HEADER.size:
            kind, number, size = HEADER.unpack_from(self._in)
            if not OPEN <= kind <= WRITTEN or size > WINDOW or (kind == OPEN and self._take is None):
                raise BrokenStream(f"kind {kind}, size {size}")
            end = HEADER.size + (size if kind == DATA else 0)
            if len(self._in) < end:
                return
            body = bytes(self._in[HEADER.size : end])
            del self._in[:end]
            if kind == OPEN:
                self._open(number)
            elif number in self._connections:
                self._come(self._connections[number], kind, size, body)

    def _come(self, connection: _Connection, kind: int, size: int, body: bytes) -> None:
        if kind == WRITTEN:
            connection.credit += size
            return
        if kind == DATA:
            if len(connection.waiting) + size > WINDOW:
                raise BrokenStream("more data than was asked for")
            connection.waiting += body
        else:
            connection.ending = True
            # What is over at the other side is read by nobody there.
            connection.read = connection.read or kind == CLOSE
        self._write(connection)

    def _open(self, number: int) -> None:
        try:
            near, far = socket.socketpair()
        except OSError:
            self._send(CLOSE, number)
            return
        connection = self._connections[number] = _Connection(number, near)
        try:
            assert self._take is not None
            self._take(far)
        except Exception:
            far.close()
            self._close(connection)

    # The connections.

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            end, _ = self._listener.accept()
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._last += 1
            self._connections[self._last] = _Connection(self._last, end)
            self._send(OPEN, self._last)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.end.recv(min(PIECE, connection.credit))
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if data:
            connection.credit -= len(data)
            self._send(DATA, connection.number, len(data), data)
        elif connection.deaf:
            self._close(connection)
        else:
            connection.read = True
            self._send(END, connection.number)
            self._settle(connection)

    def _write(self, connection: _Connection) -> None:
        size = 0
        try:
            while connection.waiting and not connection.deaf:
                count = connection.end.send(connection.waiting[:PIECE])
                del connection.waiting[:count]
                size += count
        except BlockingIOError:
            pass
        except OSError:
            # What it has sent before may still be there to be read.
            connection.deaf = True
        if connection.deaf:
            size += len(connection.waiting)
            connection.waiting.clear()
        connection.written += size
        if connection.written >= WINDOW // 4 and not connection.ending:
            self._send(WRITTEN, connection.number, connection.written)
            connection.written = 0
        self._settle(connection)

    def _settle(self, connection: _Connection) -> None:
        """Do what comes after the last byte in a direction, and in both."""
        if connection.deaf and connection.read:
            self._close(connection)
        elif connection.ending and not connection.waiting:
            if not connection.ended:
                connection.ended = True
                with contextlib.suppress(OSError):
                    connection.end.shutdown(socket.SHUT_WR)
            if connection.read:
                self._drop(connection)


def main() -> None:
    """Listen at the loopback, say where, and carry what comes over standard input and output."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    listener.setblocking(False)
    os.write(1, GREETING + b"%d\n" % listener.getsockname()[1])
    # The other side going away is how this ends.
    with contextlib.suppress(OSError):
        Multiplexer(0, 1, listener=listener, limit=int(sys.argv[1])).run()


if __name__ == "__main__":
    main()

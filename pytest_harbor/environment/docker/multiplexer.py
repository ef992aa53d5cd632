"""Many connections over one pair of byte streams; also the program that runs in the relay container.

Both ends run the same code. The end in the container listens and announces each connection; the end at pytest passes
each on. The text of this file is what runs in the container, so it uses the standard library only.

A frame is its kind, the number of a connection and a size, and for DATA that many bytes. The data of a connection that
was sent but not yet written at the other end is bounded, so a connection that nobody reads blocks only itself.
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
# OPEN: a new connection. DATA: bytes of it. END: no more bytes will come. CLOSE: it is closed. WRITTEN: the number of
# bytes that were written, so that as many may follow.
OPEN, DATA, END, CLOSE, WRITTEN = range(1, 6)

# Maximum number of unwritten bytes per connection and direction.
WINDOW = 1 << 18
# Maximum number of data bytes in a frame.
MAX_FRAME_DATA = 1 << 15
# While more bytes than this wait to be sent, no connection is read.
MAX_OUTGOING = 1 << 20


class BrokenStream(Exception):
    """The stream contains something that is not a valid frame."""


class _Connection:
    def __init__(self, number: int, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.number = number
        self.socket = connection
        # Bytes that the other end still accepts.
        self.credit = WINDOW
        # Bytes written here that were not yet reported to the other end.
        self.unreported = 0
        self.pending = bytearray()
        # Nothing more is read from the socket.
        self.read_done = False
        # The socket's peer reads nothing more, so data for it is dropped.
        self.write_failed = False
        # The other end sends no more data.
        self.remote_done = False
        # The end of the data was passed on to the peer.
        self.shut_down = False


class Multiplexer:
    """Carries connections over a pair of streams until they end, then closes the connections.

    Args:
        source: descriptor to read from the other end.
        sink: descriptor to write to the other end.
        listener: listening socket of the end that accepts connections.
        limit: maximum number of open connections; further ones wait.
        on_connection: called with each connection, at the end that does not listen.

    """

    def __init__(
        self,
        source: int,
        sink: int,
        *,
        listener: socket.socket | None = None,
        limit: int = 0,
        on_connection: Callable[[socket.socket], None] | None = None,
    ) -> None:
        for descriptor in (source, sink):
            os.set_blocking(descriptor, False)
        self._source = source
        self._sink = sink
        self._listener = listener
        self._limit = limit
        self._on_connection = on_connection
        self._last_number = 0
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._connections: dict[int, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}

    def run(self) -> None:
        """Carry connections until the stream ends.

        Raises:
            BrokenStream: a frame is invalid.
            OSError: the other end is gone.

        """
        try:
            while self._step():
                pass
        finally:
            for connection in self._connections.values():
                connection.socket.close()
            self._selector.close()

    def _step(self) -> bool:
        """Wait for events and handle them; return False at the end of the stream."""
        self._watch_all()
        for key, events in self._selector.select():
            target = key.data
            if target == "source":
                data = self._receive()
                if data == b"":
                    return False
                self._feed(data or b"")
            elif target == "listener":
                self._accept()
            elif isinstance(target, _Connection):
                if events & selectors.EVENT_WRITE and self._is_open(target):
                    self._write(target)
                if events & selectors.EVENT_READ and self._is_open(target) and not target.read_done:
                    self._read(target)
        self._flush()
        return True

    def _watch_all(self) -> None:
        self._watch(self._source, selectors.EVENT_READ, "source")
        self._watch(self._sink, selectors.EVENT_WRITE if self._outgoing else 0, "sink")
        if self._listener is not None:
            has_room = len(self._connections) < self._limit
            self._watch(self._listener.fileno(), selectors.EVENT_READ if has_room else 0, "listener")
        for connection in self._connections.values():
            reads = not connection.read_done and connection.credit > 0 and len(self._outgoing) < MAX_OUTGOING
            events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if connection.pending else 0)
            self._watch(connection.socket.fileno(), events, connection)

    def _watch(self, descriptor: int, events: int, target: str | _Connection) -> None:
        before = self._watched.get(descriptor, 0)
        if events == before:
            return
        if not before:
            self._selector.register(descriptor, events, target)
        elif not events:
            self._selector.unregister(descriptor)
        else:
            self._selector.modify(descriptor, events, target)
        self._watched[descriptor] = events

    def _is_open(self, connection: _Connection) -> bool:
        return self._connections.get(connection.number) is connection

    def _drop(self, connection: _Connection) -> None:
        self._watch(connection.socket.fileno(), 0, connection)
        connection.socket.close()
        self._connections.pop(connection.number, None)

    def _close(self, connection: _Connection) -> None:
        self._send(CLOSE, connection.number)
        self._drop(connection)

    # The stream.

    def _send(self, kind: int, number: int, size: int = 0, data: bytes = b"") -> None:
        self._outgoing += HEADER.pack(kind, number, size)
        self._outgoing += data

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._outgoing:
                del self._outgoing[: os.write(self._sink, self._outgoing[: 1 << 16])]

    def _receive(self) -> bytes | None:
        try:
            return os.read(self._source, 1 << 16)
        except BlockingIOError:
            return None

    def _feed(self, data: bytes) -> None:
        self._incoming += data
        while len(self._incoming) >= HEADER.size:
            kind, number, size = HEADER.unpack_from(self._incoming)
            if not OPEN <= kind <= WRITTEN or size > WINDOW or (kind == OPEN and self._on_connection is None):
                raise BrokenStream(f"kind {kind}, size {size}")
            end = HEADER.size + (size if kind == DATA else 0)
            if len(self._incoming) < end:
                return
            data = bytes(self._incoming[HEADER.size : end])
            del self._incoming[:end]
            if kind == OPEN:
                self._open(number)
            elif number in self._connections:
                self._handle_frame(self._connections[number], kind, size, data)

    def _handle_frame(self, connection: _Connection, kind: int, size: int, data: bytes) -> None:
        if kind == WRITTEN:
            connection.credit += size
            return
        if kind == DATA:
            if len(connection.pending) + size > WINDOW:
                raise BrokenStream("more data than the window allows")
            connection.pending += data
        else:
            connection.remote_done = True
            # After CLOSE, nobody at the other end reads what would be sent.
            connection.read_done = connection.read_done or kind == CLOSE
        self._write(connection)

    def _open(self, number: int) -> None:
        try:
            near, far = socket.socketpair()
        except OSError:
            self._send(CLOSE, number)
            return
        connection = self._connections[number] = _Connection(number, near)
        try:
            assert self._on_connection is not None
            self._on_connection(far)
        except Exception:
            far.close()
            self._close(connection)

    # The connections.

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            accepted, _ = self._listener.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._last_number += 1
            self._connections[self._last_number] = _Connection(self._last_number, accepted)
            self._send(OPEN, self._last_number)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(min(MAX_FRAME_DATA, connection.credit))
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if data:
            connection.credit -= len(data)
            self._send(DATA, connection.number, len(data), data)
        elif connection.write_failed:
            self._close(connection)
        else:
            connection.read_done = True
            self._send(END, connection.number)
            self._finish(connection)

    def _write(self, connection: _Connection) -> None:
        size = 0
        try:
            while connection.pending and not connection.write_failed:
                count = connection.socket.send(connection.pending[:MAX_FRAME_DATA])
                del connection.pending[:count]
                size += count
        except BlockingIOError:
            pass
        except OSError:
            # Data that the peer sent before may still be readable.
            connection.write_failed = True
        if connection.write_failed:
            size += len(connection.pending)
            connection.pending.clear()
        connection.unreported += size
        if connection.unreported >= WINDOW // 4 and not connection.remote_done:
            self._send(WRITTEN, connection.number, connection.unreported)
            connection.unreported = 0
        self._finish(connection)

    def _finish(self, connection: _Connection) -> None:
        """Close the directions of a connection that are done, and the connection if both are."""
        if connection.write_failed and connection.read_done:
            self._close(connection)
        elif connection.remote_done and not connection.pending:
            if not connection.shut_down:
                connection.shut_down = True
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_WR)
            if connection.read_done:
                self._drop(connection)


def main() -> None:
    """Listen on the loopback address, print the port, and carry connections over standard input and output."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    listener.setblocking(False)
    os.write(1, GREETING + b"%d\n" % listener.getsockname()[1])
    # The program ends when the other end goes away.
    with contextlib.suppress(OSError):
        Multiplexer(0, 1, listener=listener, limit=int(sys.argv[1])).run()


if __name__ == "__main__":
    main()

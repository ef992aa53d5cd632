"""Connections of an environment's programs: taken as they come, handed on, and cut in the end."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from weakref import WeakSet

ConnectionHandler = Callable[[socket.socket], None]

MAX_CONNECTIONS = 128
"""How many connections of an environment there are at a time, so that no agent uses up this process's descriptors."""

# How long to wait, in seconds, before looking whether there is room again, or after an error.
PAUSE = 0.05


def listen_on(host: str) -> socket.socket:
    """Listen at an unused port of an address.

    Raises:
        OSError: it is no address of this machine.

    """
    listener = socket.socket()
    try:
        listener.bind((host, 0))
        listener.listen(MAX_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port that a socket listens at."""
    return int(listener.getsockname()[1])


@contextlib.contextmanager
def accept_connections(
    listener: socket.socket,
    take: ConnectionHandler,
    admits: Callable[[str], bool] = lambda _: True,
    limit: float = MAX_CONNECTIONS,
) -> Iterator[None]:
    """Accept connections; when this is left, the listener is closed and every connection that is still open is cut.

    Args:
        listener: what they come in at; it is closed here.
        take: takes each of them; called in a thread of its own.
        admits: tells whether an address may connect.
        limit: how many there are at a time; further ones wait.

    """
    acceptor = _Acceptor(listener, take, admits, limit)
    thread = threading.Thread(target=acceptor.run, name="harbor-listen", daemon=True)
    thread.start()
    try:
        yield
    finally:
        acceptor.stop()
        thread.join()
        acceptor.cut()


class _Acceptor:
    def __init__(
        self, listener: socket.socket, take: ConnectionHandler, admits: Callable[[str], bool], limit: float
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._take = take
        self._admits = admits
        self._limit = limit
        # The very objects that were handed on: with descriptors of our own, their end would never reach the other side.
        self._open: WeakSet[socket.socket] = WeakSet()
        self._end, self._ended = socket.socketpair()

    def run(self) -> None:
        while not self._wait():
            # An error is that of one connection, or of this process for a moment: too many open files.
            with contextlib.suppress(Exception):
                self._accept()

    def _wait(self) -> bool:
        """Wait for the next connection; True when it is over."""
        while self._full():
            if self._over(PAUSE):
                return True
        poll = select.poll()
        for one in (self._ended, self._listener):
            poll.register(one, select.POLLIN)
        return self._ended.fileno() in dict(poll.poll())

    def _over(self, seconds: float) -> bool:
        """Wait a number of seconds, or until it is over."""
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _full(self) -> bool:
        return sum(connection.fileno() >= 0 for connection in list(self._open)) >= self._limit

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:
            # Whatever it is, it is likely to be so still.
            self._over(PAUSE)
            return
        try:
            if not self._admits(address[0]):
                connection.close()
                return
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            self._take(connection)
        except BaseException:
            connection.close()
            raise

    def stop(self) -> None:
        self._end.close()

    def cut(self) -> None:
        self._listener.close()
        self._ended.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

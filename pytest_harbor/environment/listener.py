"""A listener for connections from an environment: accepts them, passes them on, and cuts them at the end."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from weakref import WeakSet

from pytest_harbor._util.unpatched import Socket, socketpair

ConnectionHandler = Callable[[socket.socket], None]

MAX_CONNECTIONS = 128
"""Maximum number of open connections per environment, so that no agent can exhaust this process's descriptors."""

# How long to wait, in seconds, after an error or while all connections are in use.
PAUSE = 0.05


def listen_on(host: str) -> socket.socket:
    """Listen on an unused port of an address.

    Raises:
        OSError: the address is not one of this machine's.

    """
    listener = Socket()
    try:
        listener.bind((host, 0))
        listener.listen(MAX_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port that a socket listens on."""
    return int(listener.getsockname()[1])


@contextlib.contextmanager
def accept_connections(
    listener: socket.socket,
    on_connection: ConnectionHandler,
    is_allowed: Callable[[str], bool] = lambda _: True,
    limit: float = MAX_CONNECTIONS,
) -> Iterator[None]:
    """Accept connections; on exit, close the listener and cut the connections that are still open.

    Args:
        listener: the listening socket; closed on exit.
        on_connection: called with each connection, in the accepting thread.
        is_allowed: returns True if an address may connect.
        limit: maximum number of open connections; further ones wait.

    """
    acceptor = _Acceptor(listener, on_connection, is_allowed, limit)
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
        self, listener: socket.socket, on_connection: ConnectionHandler, is_allowed: Callable[[str], bool], limit: float
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._on_connection = on_connection
        self._is_allowed = is_allowed
        self._limit = limit
        # The very objects passed on: if this class kept duplicate descriptors, closing one would not reach the peer.
        self._open: WeakSet[socket.socket] = WeakSet()
        self._stop_sender, self._stop_signal = socketpair()

    def run(self) -> None:
        while self._wait_for_connection():
            # An error concerns one connection, or passes soon, such as too many open files.
            with contextlib.suppress(Exception):
                self._accept()

    def _wait_for_connection(self) -> bool:
        """Wait for the next connection; return False if stop() was called."""
        while self._is_full():
            if self._wait_for_stop(PAUSE):
                return False
        poll = select.poll()
        for source in (self._stop_signal, self._listener):
            poll.register(source, select.POLLIN)
        return self._stop_signal.fileno() not in dict(poll.poll())

    def _wait_for_stop(self, seconds: float) -> bool:
        """Wait up to a number of seconds for stop(); return True if it was called."""
        poll = select.poll()
        poll.register(self._stop_signal, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _is_full(self) -> bool:
        return sum(connection.fileno() >= 0 for connection in list(self._open)) >= self._limit

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:
            # The cause is likely to persist for a moment.
            self._wait_for_stop(PAUSE)
            return
        try:
            if not self._is_allowed(address[0]):
                connection.close()
                return
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            self._on_connection(connection)
        except BaseException:
            connection.close()
            raise

    def stop(self) -> None:
        self._stop_sender.close()

    def cut(self) -> None:
        self._listener.close()
        self._stop_signal.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

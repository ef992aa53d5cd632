"""Many connections over one stream, without a container."""

import contextlib
import os
import random
import socket
import threading

import pytest

from pytest_harbor.environment.docker.multiplexer import DATA, HEADER, OPEN, WINDOW, BrokenStream, Multiplexer


def carry(multiplexer, *descriptors):
    with contextlib.suppress(OSError, BrokenStream):
        multiplexer.run()
    for descriptor in descriptors:
        os.close(descriptor)


class Pair:
    """Both ends; connections to `address` reach `on_connection`."""

    def __init__(self, on_connection, limit=128):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        there, here = os.pipe(), os.pipe()
        far = Multiplexer(there[0], here[1], listener=self._listener, limit=limit)
        near = Multiplexer(here[0], there[1], on_connection=on_connection)
        self._threads = [
            threading.Thread(target=carry, args=(far, there[0], here[1])),
            threading.Thread(target=carry, args=(near, here[0], there[1])),
        ]
        # Closing it ends the stream.
        self._stream = os.dup(here[1])
        for thread in self._threads:
            thread.start()

    def connect(self):
        return socket.create_connection(self.address, 10)

    def send(self, data):
        """Write to the end that does not listen."""
        os.write(self._stream, data)

    def close(self):
        with contextlib.suppress(OSError):
            # An invalid frame.
            os.write(self._stream, bytes(HEADER.size))
        os.close(self._stream)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        assert not any(thread.is_alive() for thread in self._threads)


@pytest.fixture
def pair():
    pairs = []

    def create(on_connection, **options):
        pairs.append(Pair(on_connection, **options))
        return pairs[-1]

    yield create
    for created in pairs:
        created.close()


def read_all(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))


def serve(answer):
    def on_connection(connection):
        def run():
            with connection, contextlib.suppress(OSError):
                answer(connection)

        threading.Thread(target=run).start()

    return on_connection


def test_many_connections(pair):
    ends = pair(serve(lambda connection: connection.sendall(read_all(connection)[::-1])))
    matches = []

    def exchange(number):
        sent = random.Random(number).randbytes(number * 20_000)
        with ends.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            matches.append(read_all(connection) == sent[::-1])

    threads = [threading.Thread(target=exchange, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert matches == [True] * 40


def test_unread_data_is_bounded(pair):
    sizes, full = [], threading.Event()

    def answer(connection):
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                sizes.append(connection.send(bytes(65536)))
        full.set()

    with pair(serve(answer)).connect() as connection:
        assert full.wait(30)
        # The window, and the kernel's buffers of two sockets.
        assert sum(sizes) < WINDOW + 12_000_000
        assert len(read_all(connection)) == sum(sizes)


def test_handler_that_raises(pair):
    def on_connection(connection):
        raise RuntimeError("no")

    ends = pair(on_connection)
    for _ in range(2):
        with ends.connect() as connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "noise", [b"garbage garbage garbage", HEADER.pack(OPEN, 7, 0) + HEADER.pack(DATA, 7, WINDOW + 1)]
)
def test_invalid_frame_ends_all_connections(pair, noise):
    connected = threading.Event()
    ended = threading.Event()

    def answer(connection):
        connected.set()
        read_all(connection)
        ended.set()

    ends = pair(serve(answer))
    with ends.connect() as connection:
        assert connected.wait(10)
        ends.send(noise)
        assert connection.recv(1) == b""
        assert ended.wait(10)

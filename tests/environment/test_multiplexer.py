"""Many connections over one stream, without a container at one of its ends."""

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
    """Both ends; connections to `address` come out at `take`."""

    def __init__(self, take, limit=128):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        there, here = os.pipe(), os.pipe()
        far = Multiplexer(there[0], here[1], listener=self._listener, limit=limit)
        near = Multiplexer(here[0], there[1], on_connection=take)
        self._threads = [
            threading.Thread(target=carry, args=(far, there[0], here[1])),
            threading.Thread(target=carry, args=(near, here[0], there[1])),
        ]
        # What ends all of it, as the end of a program's standard input does.
        self._end = os.dup(here[1])
        for thread in self._threads:
            thread.start()

    def connect(self):
        return socket.create_connection(self.address, 10)

    def send(self, data):
        """Say something to the end that takes connections."""
        os.write(self._end, data)

    def close(self):
        with contextlib.suppress(OSError):
            # No frame at all.
            os.write(self._end, bytes(HEADER.size))
        os.close(self._end)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        assert not any(thread.is_alive() for thread in self._threads)


@pytest.fixture
def pair():
    made = []

    def make(take, **how):
        made.append(Pair(take, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def everything(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))


def serve(answer):
    def take(connection):
        def run():
            with connection, contextlib.suppress(OSError):
                answer(connection)

        threading.Thread(target=run).start()

    return take


def test_every_byte_of_many_connections(pair):
    both = pair(serve(lambda connection: connection.sendall(everything(connection)[::-1])))
    same = []

    def talk(number):
        sent = random.Random(number).randbytes(number * 20_000)
        with both.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            same.append(everything(connection) == sent[::-1])

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 40


def test_what_nobody_reads_is_bounded(pair):
    sizes, go = [], threading.Event()

    def answer(connection):
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                sizes.append(connection.send(bytes(65536)))
        go.set()

    with pair(serve(answer)).connect() as connection:
        assert go.wait(30)
        # Besides the window, what the kernel keeps for two sockets.
        assert sum(sizes) < WINDOW + 12_000_000
        assert len(everything(connection)) == sum(sizes)


def test_a_taker_that_raises(pair):
    def take(connection):
        raise RuntimeError("no")

    both = pair(take)
    for _ in range(2):
        with both.connect() as connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "noise", [b"garbage garbage garbage", HEADER.pack(OPEN, 7, 0) + HEADER.pack(DATA, 7, WINDOW + 1)]
)
def test_a_stream_that_is_none_ends_all_connections(pair, noise):
    came = threading.Event()
    ended = threading.Event()

    def answer(connection):
        came.set()
        everything(connection)
        ended.set()

    both = pair(serve(answer))
    with both.connect() as connection:
        assert came.wait(10)
        both.send(noise)
        assert connection.recv(1) == b""
        assert ended.wait(10)

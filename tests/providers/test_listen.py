"""Host ports that programs in an environment can reach, with and without a network."""

import contextlib
import secrets
import socket
import threading

import pytest

from pytest_harbor.environment import StartRequest
from pytest_harbor.errors import EnvironmentLost, InfrastructureError

# The start of every client program.
CLIENT = """
import hashlib, socket, sys, threading
def connect():
    host, _, port = sys.argv[1].rpartition(":")
    return socket.create_connection((host, int(port)), 30)
def everything(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))
"""


class Server:
    """A server that handles each connection in its own thread."""

    def __init__(self, serve):
        self._serve = serve
        self._threads = []

    def take(self, connection):
        thread = threading.Thread(target=self._run, args=(connection,))
        self._threads.append(thread)
        thread.start()

    def _run(self, connection):
        with connection, contextlib.suppress(OSError):
            self._serve(connection)

    def join(self):
        for thread in self._threads:
            thread.join(30)
        return not any(thread.is_alive() for thread in self._threads)


def pieces(connection):
    while data := connection.recv(65536):
        yield data


def echo(connection):
    for data in pieces(connection):
        connection.sendall(data)


def client(environment, address, code, *arguments):
    result = environment.exec(["python3", "-c", CLIENT + code, address, *arguments], timeout=60)
    assert result.exit_code == 0, result.output
    return result.output


def output_of_echo_client(running, code):
    """Return a client's output about an echo server, after the server ended."""
    server = Server(echo)
    with running.listen(server.take) as address:
        received = client(running, address, code)
    assert server.join()
    return received


@pytest.fixture(scope="module", params=["network", "no network"])
def running(request, provider, plain_image):
    """Yield a running environment."""
    name = f"harbor-test-{secrets.token_hex(5)}"
    started = StartRequest(name=name, task="tests/task", run="run", network=request.param == "network")
    environment = provider.start(plain_image, started)
    yield environment
    environment.stop()


def test_half_closed_connection(running):
    server = Server(lambda connection: connection.sendall(b"".join(pieces(connection))[::-1]))
    code = """
connection = connect()
connection.sendall(b"!olleh")
connection.shutdown(socket.SHUT_WR)
print(everything(connection).decode())
"""
    with running.listen(server.take) as address:
        assert client(running, address, code) == "hello!\n"
        # A second connection works like the first.
        assert client(running, address, code) == "hello!\n"
    assert server.join()


def test_pieces_arrive_one_by_one(running):
    code = """
connection = connect()
for number in range(300):
    connection.sendall(b"%d" % number)
    assert connection.recv(100) == b"%d" % number
print("in step")
"""
    assert output_of_echo_client(running, code) == "in step\n"


def test_many_connections_at_once(running):
    code = """
def talk(number):
    connection = connect()
    begin.wait()
    sent = bytes([number]) * 500_000 + hashlib.sha256(b"%d" % number).digest() * 17_000
    threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR))).start()
    same[number] = everything(connection) == sent
same, begin = {}, threading.Barrier(64)
threads = [threading.Thread(target=talk, args=(number,)) for number in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(same), all(same.values()))
"""
    assert output_of_echo_client(running, code) == "64 True\n"


def test_connections_beyond_the_limit_take_turns(running):
    code = """
first = [connect() for _ in range(150)]
for connection in first:
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    connection.close()
print("all")
"""
    assert output_of_echo_client(running, code) == "all\n"


def test_unread_connection_does_not_block_others(running):
    def serve(connection):
        if connection.recv(1) == b"m":
            connection.sendall(bytes(20_000_000))
        else:
            echo(connection)

    code = """
lazy = connect()
lazy.sendall(b"m")
lazy.recv(1)
other = connect()
other.sendall(b"-hello")
assert other.recv(100) == b"hello"
print(1 + len(everything(lazy)))
"""
    server = Server(serve)
    with running.listen(server.take) as address:
        assert client(running, address, code) == "20000000\n"
    assert server.join()


def test_refused_and_cut_connections_end(running):
    taken = []

    def take(connection):
        taken.append(connection)
        if len(taken) == 1:
            raise RuntimeError("not this one")
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    code = """
for _ in range(2):
    try:
        assert connect().recv(1) == b""
    except ConnectionError:
        pass
print("ended")
"""
    with running.listen(take) as address:
        assert client(running, address, code) == "ended\n"
    assert len(taken) == 2


def test_client_disconnect_is_noticed(running):
    ended = threading.Event()

    def serve(connection):
        echo(connection)
        ended.set()

    server = Server(serve)
    with running.listen(server.take) as address:
        client(running, address, "connection = connect(); connection.sendall(b'x'); connection.recv(1)")
        assert ended.wait(10)
    assert server.join()


def test_closing_ends_connections_and_threads(running):
    came, ended, received = threading.Event(), threading.Event(), []

    def serve(connection):
        received.append(connection.recv(100))
        came.set()
        received.append(connection.recv(100))
        ended.set()

    code = """
connection = connect()
connection.sendall(b"hello")
try:
    assert connection.recv(1) == b""
except ConnectionError:
    pass
print("ended")
"""
    server = Server(serve)
    outputs = []
    with running.listen(server.take) as address:
        program = threading.Thread(target=lambda: outputs.append(client(running, address, code)))
        program.start()
        assert came.wait(30)
    assert ended.wait(10)
    assert received == [b"hello", b""]
    program.join(30)
    assert outputs == ["ended\n"]
    assert server.join()
    code = """
try:
    connect()
except ConnectionRefusedError:
    print("refused")
"""
    assert client(running, address, code) == "refused\n"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("harbor-listen", "harbor-relay"))]


def test_two_listeners_have_separate_ports(running):
    one, other = (
        Server(lambda connection: connection.sendall(b"1")),
        Server(lambda connection: connection.sendall(b"2")),
    )
    with running.listen(one.take) as first, running.listen(other.take) as second:
        assert client(running, first, "print(everything(connect()))") == "b'1'\n"
        assert client(running, second, "print(everything(connect()))") == "b'2'\n"
    assert one.join()
    assert other.join()


def test_no_network_leaves_only_the_listener(start, plain_image):
    environment = start(plain_image, network=False)
    server = Server(echo)
    code = """
others = [("127.0.0.1", int(sys.argv[2])), ("192.0.2.1", 80), ("172.17.0.1", 22)]
for other in others:
    try:
        socket.create_connection(other, 5)
    except OSError as error:
        print(error.strerror)
# Every listening socket, by its local address and port.
rows = [row.split() for row in open("/proc/net/tcp").readlines()[1:]]
print([row[1] for row in rows if row[3] == "0A"] == ["0100007F:%04X" % int(sys.argv[1].rpartition(":")[2])])
print([line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]])
"""
    refused = "Connection refused\nNetwork is unreachable\nNetwork is unreachable\n"
    with socket.create_server(("127.0.0.1", 0)) as host, environment.listen(server.take) as address:
        assert client(environment, address, code, str(host.getsockname()[1])) == f"{refused}True\n['lo']\n"


@pytest.mark.parametrize("network", [True, False])
def test_environment_ends_during_a_connection(start, plain_image, network):
    environment = start(plain_image, network=network)
    came, ended = threading.Event(), threading.Event()

    def serve(connection):
        connection.recv(1)
        came.set()
        echo(connection)
        ended.set()

    server = Server(serve)
    code = "connection = connect(); connection.sendall(b'x'); connection.recv(1)"
    with environment.listen(server.take) as address:
        command = ["python3", "-c", CLIENT + code, address]
        program = threading.Thread(target=_exec_until_killed, args=(environment, command))
        program.start()
        assert came.wait(30)
        # Kill everything, as an agent might.
        _exec_until_killed(environment, ["sh", "-c", "kill -9 -1"])
        assert ended.wait(20)
        program.join(30)
        if not environment.is_running():
            environment.restart()
        environment.stop()
    assert server.join()
    with pytest.raises(EnvironmentLost), environment.listen(server.take):
        pass


def _exec_until_killed(environment, command):
    with contextlib.suppress(InfrastructureError):
        environment.exec(command, timeout=60)

"""Connections from containers to this process through a relay, if they can reach no address of this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from harbor_runs import wait_for

from pytest_harbor.environment import StartRequest
from pytest_harbor.environment.docker import DockerProvider, relay
from pytest_harbor.environment.docker.environment import DockerEnvironment
from pytest_harbor.environment.docker.labels import remove_container
from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.image import Image

# The environments need Python too.
IMAGE = relay.IMAGE

ECHO = """
import socket, sys, threading
host, _, port = sys.argv[1].rpartition(":")
connection = socket.create_connection((host, int(port)), 30)
sent = bytes(range(256)) * 8192
threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR))).start()
print(host, b"".join(iter(lambda: connection.recv(65536), b"")) == sent)
"""
WAITING = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1].rpartition(":")[2])), 30)
connection.sendall(b"x")
connection.recv(1)
try:
    print("more" if connection.recv(1) else "ended")
except ConnectionError:
    print("ended")
"""


def echo(connection: socket.socket) -> None:
    def run() -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    threading.Thread(target=run).start()


def start_one(provider: DockerProvider, *, network: bool) -> DockerEnvironment:
    with tempfile.TemporaryDirectory() as scratch:
        if provider.find_image(IMAGE) is None:
            provider.pull_image(IMAGE, log=Path(scratch) / "log.txt", timeout=300)
    details = provider.find_image(IMAGE)
    assert details is not None
    name = f"harbor-test-{secrets.token_hex(5)}"
    request = StartRequest(name=name, task="tests/task", run="run", network=network)
    return provider.start(Image(IMAGE, "present", details), request)


@pytest.fixture
def provider(engine: docker.DockerClient) -> Iterator[DockerProvider]:
    with contextlib.closing(DockerProvider()) as created:
        yield created


@pytest.fixture
def start(provider: DockerProvider) -> Iterator[Callable[..., DockerEnvironment]]:
    started = []

    def start(*, network: bool = False) -> DockerEnvironment:
        started.append(start_one(provider, network=network))
        return started[-1]

    yield start
    for environment in started:
        environment.stop()


def relays(engine: docker.DockerClient, name: str) -> list[str]:
    return [found["Id"] for found in engine.api.containers(all=True, filters={"name": f"{name}-relay-"})]


def test_relay_is_confined_and_removed(engine: docker.DockerClient, start: Callable[..., DockerEnvironment]) -> None:
    environment = start()
    with environment.listen(echo) as address:
        [found] = relays(engine, environment.name)
        container = engine.containers.get(found)
        assert environment.exec(["python3", "-c", ECHO, address]).output == "127.0.0.1 True\n"
        # Root in the environment cannot see the relay.
        output = environment.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls /proc/[0-9]*/root/", user="0").output
        assert "harbor-relay" not in output
        host = container.attrs["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Binds"]) == (True, ["ALL"], None)
        assert host["LogConfig"]["Type"] == "none"
        assert container.attrs["Config"]["User"] == "65534:65534"
        assert "no-new-privileges" in host["SecurityOpt"]
        own = engine.containers.get(environment.id).labels
        assert {label: container.labels[label] for label in own} == own
    assert relays(engine, environment.name) == []


@pytest.mark.parametrize("victim", ["relay", "environment"])
def test_relay_or_environment_is_removed_while_connected(
    engine: docker.DockerClient, start: Callable[..., DockerEnvironment], victim: str
) -> None:
    environment = start()
    connected, ended, outputs = threading.Event(), threading.Event(), []

    def on_connection(connection: socket.socket) -> None:
        def run() -> None:
            with connection:
                connection.sendall(connection.recv(1))
                connected.set()
                assert connection.recv(1) == b""
                ended.set()

        threading.Thread(target=run).start()

    def work(address: str) -> None:
        with contextlib.suppress(Exception):
            outputs.append(environment.exec(["python3", "-c", WAITING, address], timeout=60).output)

    with environment.listen(on_connection) as address:
        program = threading.Thread(target=work, args=(address,))
        program.start()
        assert connected.wait(30)
        if victim == "relay":
            engine.api.kill(relays(engine, environment.name)[0])
            assert ended.wait(30)
            program.join(30)
            assert outputs == ["ended\n"]
        else:
            environment.stop()
            program.join(30)
    assert ended.wait(30)
    assert not program.is_alive()
    assert relays(engine, environment.name) == []


HOLDER = """
import sys, time
sys.path[:0] = sys.argv[1:]
from test_relay import DockerProvider, echo, start_one
environment = start_one(DockerProvider(), network=False)
with environment.listen(echo):
    print(environment.name, flush=True)
    time.sleep(600)
"""


def test_relay_ends_with_its_process(engine: docker.DockerClient, provider: DockerProvider) -> None:
    command = [sys.executable, "-c", HOLDER, *map(str, Path(__file__).parents[:2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        try:
            assert len(relays(engine, name)) == 1
            process.send_signal(signal.SIGKILL)
            process.wait()
            # No other run removes it.
            wait_for(lambda: relays(engine, name) == [], "the relay to end by itself")
        finally:
            process.kill()
            remove_container(engine.api, name)


def test_relay_image_is_not_available(start: Callable[..., DockerEnvironment], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "IMAGE", "127.0.0.1:1/harbor/no-such-image:1")
    environment = start()
    message = r"helper container.*no-such-image.*docker load"
    with pytest.raises(UnmetRequirement, match=message), environment.listen(echo):
        pass


# A remote engine: only its API connects the two machines.

FORWARD = """
import asyncio, contextlib, ssl, sys

async def copy(source, target):
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()

async def forward(reader, writer):
    engine = await asyncio.open_unix_connection(sys.argv[1])
    await asyncio.gather(copy(reader, engine[1]), copy(engine[0], writer))

async def main():
    context = None
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[2:])
    server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture(params=["tcp", "tls"])
def remote_engine(
    request: pytest.FixtureRequest, engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Serve the engine on a TCP port, with or without TLS."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not address.startswith("unix://"):
        pytest.skip(f"the engine is already remote: {address}")
    files: list[str] = []
    if request.param == "tls":
        files = _certificate(tmp_path)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        # These would override the engine's certificate.
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    command = [sys.executable, "-c", FORWARD, address.removeprefix("unix://"), *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{process.stdout.readline().strip()}")
        yield
        process.kill()


def _certificate(directory: Path) -> list[str]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    files = [str(directory / "cert.pem"), str(directory / "key.pem")]
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=engine", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    shutil.copy(files[0], directory / "ca.pem")
    return files


@pytest.mark.usefixtures("remote_engine")
def test_remote_engine() -> None:
    with contextlib.closing(DockerProvider()) as provider:
        environment = start_one(provider, network=True)
        try:
            with environment.listen(echo) as address:
                for _ in range(3):
                    assert environment.exec(["python3", "-c", ECHO, address]).output == "127.0.0.1 True\n"
        finally:
            environment.stop()

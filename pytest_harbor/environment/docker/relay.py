"""A helper container that carries connections from a trial's container to this process.

It shares the container's network and listens on its loopback address. All data passes through its standard input and
output, so nothing but the Engine's API is needed between the two machines.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from docker import APIClient
from docker.types import LogConfig

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor._util.text import one_line
from pytest_harbor.environment.docker import multiplexer
from pytest_harbor.environment.docker.attach_stream import AttachStream
from pytest_harbor.environment.docker.errors import engine_errors
from pytest_harbor.environment.docker.labels import CONTAINER_LABELS, remove_container
from pytest_harbor.environment.listener import MAX_CONNECTIONS, ConnectionHandler
from pytest_harbor.errors import InfrastructureError

# It contains Python, and many engines already have it.
IMAGE = DEFAULT_IMAGE

# How long the relay may take to start, in seconds.
START_TIMEOUT = 60.0

_NOBODY = "65534:65534"
_MEMORY = 128 << 20
# More than the relay needs: the container runtime counts its own threads while it starts the relay.
_PROCESSES = 64


@contextlib.contextmanager
def run_relay(client: APIClient, container: Mapping[str, Any], on_connection: ConnectionHandler) -> Iterator[str]:
    """Listen in the network of a container.

    Args:
        client: the engine's client.
        container: the engine's description of the container.
        on_connection: called with each connection, in the relay's thread.

    Yields:
        The address as `host:port`.

    Raises:
        InfrastructureError: the relay does not start.

    """
    action = f"starting the relay of {container['Name'].lstrip('/')}"
    with contextlib.ExitStack() as stack:
        with engine_errors(action):
            relay = _create(client, container)
            stack.callback(_remove, client, relay)
            raw = client.attach_socket(relay, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            stream = stack.enter_context(contextlib.closing(AttachStream(raw)))
            client.start(relay)
        line = stream.first_line(START_TIMEOUT)
        if not line.startswith(multiplexer.GREETING):
            output = one_line(line.decode("utf-8", "replace"), 400)
            raise InfrastructureError(f"{action}: it does not listen ({output or 'no output'})")
        stack.enter_context(_carry_connections(stream, on_connection))
        yield f"127.0.0.1:{int(line.removeprefix(multiplexer.GREETING))}"


def _create(client: APIClient, container: Mapping[str, Any]) -> str:
    labels = container["Config"].get("Labels") or {}
    # The relay ends when its standard input closes, and the engine then removes it, even if this process was killed.
    limits = client.create_host_config(
        network_mode=f"container:{container['Id']}",
        auto_remove=True,
        init=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=_PROCESSES,
        mem_limit=_MEMORY,
        # Otherwise the engine would log all data that passes through.
        log_config=LogConfig(type="none"),
    )
    created = client.create_container(
        IMAGE,
        entrypoint=["python3", "-I", "-S", "-B", "-c", inspect.getsource(multiplexer)],
        command=[str(MAX_CONNECTIONS)],
        name=f"{container['Name'].lstrip('/')}-relay-{secrets.token_hex(3)}",
        user=_NOBODY,
        working_dir="/",
        stdin_open=True,
        labels={label: labels[label] for label in CONTAINER_LABELS if label in labels},
        host_config=limits,
    )
    return str(created["Id"])


def _remove(client: APIClient, relay: str) -> None:
    # If the engine does not answer now, it removes the relay later, as no client is attached anymore.
    with contextlib.suppress(InfrastructureError):
        remove_container(client, relay)


@contextlib.contextmanager
def _carry_connections(stream: AttachStream, on_connection: ConnectionHandler) -> Iterator[None]:
    """Carry connections over a stream. On exit, or when the stream ends, close all of them."""
    source, received = os.pipe()
    to_send, sink = os.pipe()
    threads = [
        threading.Thread(target=_receive, args=(stream, received), name="harbor-relay-in", daemon=True),
        threading.Thread(target=_carry, args=(source, sink, on_connection), name="harbor-relay", daemon=True),
        threading.Thread(target=_send, args=(stream, to_send), name="harbor-relay-out", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        # The end of each thread ends the next.
        stream.close()
        for thread in threads:
            thread.join()


def _receive(stream: AttachStream, received: int) -> None:
    # ValueError: another thread closed the connection, so its descriptor is invalid.
    with os.fdopen(received, "wb", buffering=0) as pipe, contextlib.suppress(OSError, ValueError):
        while data := stream.receive():
            pipe.write(data)


def _carry(source: int, sink: int, on_connection: ConnectionHandler) -> None:
    with os.fdopen(source, "rb"), os.fdopen(sink, "wb"), contextlib.suppress(OSError, multiplexer.BrokenStream):
        multiplexer.Multiplexer(source, sink, on_connection=on_connection).run()


def _send(stream: AttachStream, to_send: int) -> None:
    with (
        os.fdopen(to_send, "rb", buffering=0) as pipe,
        contextlib.closing(stream),
        contextlib.suppress(OSError, ValueError),
    ):
        while data := pipe.read(1 << 16):
            stream.send(data)

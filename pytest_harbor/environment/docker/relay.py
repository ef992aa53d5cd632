"""A helper container in the network of a trial's container, and connections through it to this process.

It listens at the loopback that both share, and everything goes over its standard input and output: nothing but the
Engine's API is needed between there and here.
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
from pytest_harbor._util.text import printable
from pytest_harbor.environment.docker import multiplexer as relaying
from pytest_harbor.environment.docker.attach_stream import AttachStream
from pytest_harbor.environment.docker.errors import engine_errors
from pytest_harbor.environment.docker.labels import LABELS, remove
from pytest_harbor.environment.listener import MAX_CONNECTIONS, ConnectionHandler
from pytest_harbor.errors import InfrastructureError

# It has a Python, and many engines have it already.
IMAGE = DEFAULT_IMAGE

# How long it may take to begin, in seconds.
PATIENCE = 60.0

_NOBODY = "65534:65534"
_MEMORY = 128 << 20
# More than it needs, as the container runtime starts it from threads of its own.
_PROCESSES = 64


@contextlib.contextmanager
def relayed(client: APIClient, container: Mapping[str, Any], take: ConnectionHandler) -> Iterator[str]:
    """Listen in the network of a container.

    Args:
        client: the engine's.
        container: what the engine says of it.
        take: takes each connection; called in a thread of its own.

    Returns:
        A context manager that gives `host:port`.

    Raises:
        InfrastructureError: the relay does not start.

    """
    doing = f"starting the relay of {container['Name'].lstrip('/')}"
    with contextlib.ExitStack() as stack:
        with engine_errors(doing):
            relay = _create(client, container)
            stack.callback(_remove, client, relay)
            raw = client.attach_socket(relay, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            stream = stack.enter_context(contextlib.closing(AttachStream(raw)))
            client.start(relay)
        line = stream.first_line(PATIENCE)
        if not line.startswith(relaying.GREETING):
            said = printable(line.decode("utf-8", "replace")).strip()
            raise InfrastructureError(f"{doing}: it does not listen ({said[:400] or 'it says nothing'})")
        stack.enter_context(_carrying(stream, take))
        yield f"127.0.0.1:{int(line.removeprefix(relaying.GREETING))}"


def _create(client: APIClient, container: Mapping[str, Any]) -> str:
    labels = container["Config"].get("Labels") or {}
    # It ends with its standard input, and is removed then even where this process was killed.
    limits = client.create_host_config(
        network_mode=f"container:{container['Id']}",
        auto_remove=True,
        init=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=_PROCESSES,
        mem_limit=_MEMORY,
        # Else the engine would write down all that goes through it.
        log_config=LogConfig(type="none"),
    )
    created = client.create_container(
        IMAGE,
        entrypoint=["python3", "-I", "-S", "-B", "-c", inspect.getsource(relaying)],
        command=[str(MAX_CONNECTIONS)],
        name=f"{container['Name'].lstrip('/')}-relay-{secrets.token_hex(3)}",
        user=_NOBODY,
        working_dir="/",
        stdin_open=True,
        labels={label: labels[label] for label in LABELS if label in labels},
        host_config=limits,
    )
    return str(created["Id"])


def _remove(client: APIClient, relay: str) -> None:
    # An engine that does not answer removes it by itself: nobody is attached to it any more.
    with contextlib.suppress(InfrastructureError):
        remove(client, relay)


@contextlib.contextmanager
def _carrying(stream: AttachStream, take: ConnectionHandler) -> Iterator[None]:
    """Carry connections over a stream; when this is left, or the stream ends, all of them are closed."""
    source, arriving = os.pipe()
    leaving, sink = os.pipe()
    threads = [
        threading.Thread(target=_receive, args=(stream, arriving), name="harbor-relay-in", daemon=True),
        threading.Thread(target=_carry, args=(source, sink, take), name="harbor-relay", daemon=True),
        threading.Thread(target=_send, args=(stream, leaving), name="harbor-relay-out", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        # Each ends the next.
        stream.close()
        for thread in threads:
            thread.join()


def _receive(stream: AttachStream, arriving: int) -> None:
    # A connection that was closed by another thread is no descriptor any more.
    with os.fdopen(arriving, "wb", buffering=0) as pipe, contextlib.suppress(OSError, ValueError):
        while data := stream.receive():
            pipe.write(data)


def _carry(source: int, sink: int, take: ConnectionHandler) -> None:
    with os.fdopen(source, "rb"), os.fdopen(sink, "wb"), contextlib.suppress(OSError, relaying.BrokenStream):
        relaying.Multiplexer(source, sink, take=take).run()


def _send(stream: AttachStream, leaving: int) -> None:
    with (
        os.fdopen(leaving, "rb", buffering=0) as pipe,
        contextlib.closing(stream),
        contextlib.suppress(OSError, ValueError),
    ):
        while data := pipe.read(1 << 16):
            stream.send(data)

"""How programs of a container reach this process: at the gateway of their network, else through a relay."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient

from pytest_harbor.environment.docker import relay
from pytest_harbor.environment.docker.errors import engine_errors
from pytest_harbor.environment.listener import ConnectionHandler, accept_connections, listen_on, port_of
from pytest_harbor.environment.shell_environment import ShellEnvironment
from pytest_harbor.environment.shell_scripts import SYSTEM_PATH
from pytest_harbor.errors import EnvironmentLost, ImageError, InfrastructureError, UnmetRequirement
from pytest_harbor.image import ImageBackend

DESKTOP = "Docker Desktop"
LOCAL = "http+docker://localhost"

PULL_TIMEOUT = 600.0

# How long a firewall may keep a program waiting before it is taken to be one, in seconds.
PROBE_PATIENCE = 4.0
NO_PROGRAM = 64
# With whatever the image has; how it ends does not matter, as the connection is seen here.
PROBE = f"""
if command -v bash; then exec bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$@"; fi
if command -v python3; then exec python3 -I -c 'import socket, sys; socket.create_connection(sys.argv[1:])' "$@"; fi
if command -v curl; then exec curl --silent --max-time 1 "http://$1:$2/"; fi
if command -v nc; then exec nc -w 1 "$1" "$2" </dev/null; fi
exit {NO_PROGRAM}
"""


@dataclass(frozen=True)
class Gateway:
    """A way to this machine without a relay.

    Attributes:
        network: id of the network that it belongs to.
        host: what programs of the container call this machine.
        bind: the address of this machine at which they come in.
        peers: the addresses that they come from; any when empty.

    """

    network: str
    host: str
    bind: str
    peers: frozenset[str]

    def admits(self, peer: str) -> bool:
        """Tell whether an address may connect."""
        return not self.peers or peer in self.peers


class HostAccess:
    """Makes ports for containers of one engine.

    Args:
        client: the engine's.
        info: returns what the engine says of itself.
        images: gets the relay's image.

    """

    def __init__(self, client: APIClient, info: Callable[[], Mapping[str, Any]], images: ImageBackend) -> None:
        self._client = client
        self._info = info
        self._images = images
        self._open: dict[str, bool] = {}

    @contextlib.contextmanager
    def listen(self, environment: ShellEnvironment, container: str, take: ConnectionHandler) -> Iterator[str]:
        """Listen for programs of a container; see pytest_harbor.environment.Environment.listen."""
        with engine_errors(f"looking at {environment.name}"):
            found = self._client.inspect_container(container)
        if not found["State"]["Running"]:
            raise EnvironmentLost(f"the container {environment.name} does not run")
        gateway = self._gateway(found)
        listener = None if gateway is None else self._listener(gateway, environment)
        if gateway is not None and listener is not None:
            with accept_connections(listener, take, gateway.admits):
                yield f"{gateway.host}:{port_of(listener)}"
        else:
            self._ensure_image(environment.name)
            with relay.relayed(self._client, found, take) as address:
                yield address

    def _gateway(self, container: Mapping[str, Any]) -> Gateway | None:
        if self._client.base_url != LOCAL or "name=rootless" in (self._info().get("SecurityOptions") or ()):
            return None
        for network in (container["NetworkSettings"].get("Networks") or {}).values():
            gateway, address = network.get("Gateway"), network.get("IPAddress")
            if not gateway or not address:
                continue
            if self._info().get("OperatingSystem") == DESKTOP:
                return Gateway(network["NetworkID"], "host.docker.internal", "127.0.0.1", frozenset())
            if _is_here(container):
                return Gateway(network["NetworkID"], gateway, gateway, frozenset((address,)))
        return None

    def _listener(self, gateway: Gateway, environment: ShellEnvironment) -> socket.socket | None:
        """Listen at a gateway; None where that is impossible, or something keeps the environment from it."""
        if self._open.get(gateway.network) is False:
            return None
        try:
            listener = listen_on(gateway.bind)
        except OSError:
            # The network is that of another name space, as with a rootless engine.
            return None
        try:
            open_ = self._open.get(gateway.network) or self._probe(gateway, listener, environment)
        except BaseException:
            listener.close()
            raise
        if open_ is not None:
            self._open[gateway.network] = open_
        if open_ is False:
            listener.close()
            return None
        return listener

    def _probe(self, gateway: Gateway, listener: socket.socket, environment: ShellEnvironment) -> bool | None:
        """Have a program of the environment connect, as a firewall may drop that; None where no program can."""
        command = ["sh", "-c", PROBE, "sh", gateway.host, str(port_of(listener))]
        try:
            said = environment.exec(command, user="0", cwd="/", env={"PATH": SYSTEM_PATH}, timeout=PROBE_PATIENCE)
        except InfrastructureError:
            return None
        listener.setblocking(False)
        came = False
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listener.accept()
                connection.close()
                came = came or gateway.admits(peer[0])
        return None if said.exit_code == NO_PROGRAM else came

    def _ensure_image(self, name: str) -> None:
        if self._images.find_image(relay.IMAGE) is not None:
            return
        try:
            with tempfile.TemporaryDirectory() as scratch:
                self._images.pull_image(relay.IMAGE, log=Path(scratch) / "log.txt", timeout=PULL_TIMEOUT)
        except ImageError as error:
            raise UnmetRequirement(
                f"programs of {name} reach this machine through a helper container only, and {error.fact}",
                f"have {relay.IMAGE} on the engine (`docker pull` or `docker load`)",
            ) from error


def _is_here(container: Mapping[str, Any]) -> bool:
    """Tell whether a container is on this very machine, and not on one whose engine is forwarded to here."""
    try:
        groups = Path(f"/proc/{container['State']['Pid']}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return container["Id"] in groups

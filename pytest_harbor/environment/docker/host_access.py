"""Access from containers to this process: on the gateway of their network, else through a relay."""

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
# The SDK's base URL for a unix socket.
LOCAL = "http+docker://localhost"

PULL_TIMEOUT = 600.0

# How long the probe may wait, in seconds, before a firewall is assumed to drop its connection.
PROBE_TIMEOUT = 4.0
NO_PROGRAM = 64
# Connects with whichever program the image has. Its result does not matter, as the connection is seen on this side.
PROBE = f"""
if command -v bash; then exec bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$@"; fi
if command -v python3; then exec python3 -I -c 'import socket, sys; socket.create_connection(sys.argv[1:])' "$@"; fi
if command -v curl; then exec curl --silent --max-time 1 "http://$1:$2/"; fi
if command -v nc; then exec nc -w 1 "$1" "$2" </dev/null; fi
exit {NO_PROGRAM}
"""


@dataclass(frozen=True)
class Gateway:
    """A route from a container to this machine that needs no relay.

    Attributes:
        network: id of the container's network.
        host: the container's name for this machine.
        bind: the address of this machine at which connections arrive.
        peers: the addresses they come from; empty means any.

    """

    network: str
    host: str
    bind: str
    peers: frozenset[str]

    def allows(self, peer: str) -> bool:
        """Return True if an address may connect."""
        return not self.peers or peer in self.peers


class HostAccess:
    """Ports on this machine for the containers of one engine.

    Args:
        client: the engine's client.
        info: returns the engine's description of itself.
        images: provides the relay's image.

    """

    def __init__(self, client: APIClient, info: Callable[[], Mapping[str, Any]], images: ImageBackend) -> None:
        self._client = client
        self._info = info
        self._images = images
        self._reachable: dict[str, bool] = {}

    @contextlib.contextmanager
    def listen(self, environment: ShellEnvironment, container: str, on_connection: ConnectionHandler) -> Iterator[str]:
        """Listen for connections from a container; see pytest_harbor.environment.Environment.listen."""
        with engine_errors(f"inspecting {environment.name}"):
            details = self._client.inspect_container(container)
        if not details["State"]["Running"]:
            raise EnvironmentLost(f"container {environment.name} is not running")
        gateway = self._gateway(details)
        listener = None if gateway is None else self._open_listener(gateway, environment)
        if gateway is not None and listener is not None:
            with accept_connections(listener, on_connection, gateway.allows):
                yield f"{gateway.host}:{port_of(listener)}"
        else:
            self._ensure_image(environment.name)
            with relay.run_relay(self._client, details, on_connection) as address:
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
            if _is_local(container):
                return Gateway(network["NetworkID"], gateway, gateway, frozenset((address,)))
        return None

    def _open_listener(self, gateway: Gateway, environment: ShellEnvironment) -> socket.socket | None:
        """Listen on a gateway; return None if that is impossible or connections from the environment are blocked."""
        if self._reachable.get(gateway.network) is False:
            return None
        try:
            listener = listen_on(gateway.bind)
        except OSError:
            # The network is in another namespace, as with a rootless engine.
            return None
        try:
            reachable = self._reachable.get(gateway.network) or self._probe(gateway, listener, environment)
        except BaseException:
            listener.close()
            raise
        if reachable is not None:
            self._reachable[gateway.network] = reachable
        if reachable is False:
            listener.close()
            return None
        return listener

    def _probe(self, gateway: Gateway, listener: socket.socket, environment: ShellEnvironment) -> bool | None:
        """Return True if the environment can connect, as a firewall may drop that; None if it has no program to try."""
        command = ["sh", "-c", PROBE, "sh", gateway.host, str(port_of(listener))]
        try:
            result = environment.exec(command, user="0", cwd="/", env={"PATH": SYSTEM_PATH}, timeout=PROBE_TIMEOUT)
        except InfrastructureError:
            return None
        listener.setblocking(False)
        connected = False
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listener.accept()
                connection.close()
                connected = connected or gateway.allows(peer[0])
        return None if result.exit_code == NO_PROGRAM else connected

    def _ensure_image(self, name: str) -> None:
        if self._images.find_image(relay.IMAGE) is not None:
            return
        try:
            with tempfile.TemporaryDirectory() as scratch:
                self._images.pull_image(relay.IMAGE, log=Path(scratch) / "log.txt", timeout=PULL_TIMEOUT)
        except ImageError as error:
            raise UnmetRequirement(
                f"programs in {name} can reach this machine only through a helper container, and {error.fact}",
                f"add {relay.IMAGE} to the engine (`docker pull` or `docker load`)",
            ) from error


def _is_local(container: Mapping[str, Any]) -> bool:
    """Return True if a container runs on this machine, not on one whose engine is forwarded to here."""
    try:
        groups = Path(f"/proc/{container['State']['Pid']}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return container["Id"] in groups

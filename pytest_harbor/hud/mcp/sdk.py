"""An adapter for the official MCP library, version 1.x (which most agents still need) or 2.x.

Only this module deals with the differences between the two, and keeps the library from changing this process's logging.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Literal

from pytest_harbor.errors import InfrastructureError, UnmetRequirement

# Not the extra, which has another name in a checkout than once the package is published.
FIX = 'install it: pip install "mcp<3"'
# Maximum size of a request in bytes: larger than any file that the tools write.
REQUEST_LIMIT = 64 * 1024 * 1024
# Seconds to wait for a server to stop.
STOP_TIMEOUT = 30.0


def check_installed() -> None:
    """Check that the library is installed.

    Raises:
        UnmetRequirement: it is not.

    """
    for name in ("mcp", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UnmetRequirement(f"an agent's MCP server requires the package {name}, which is not installed", FIX)


def new_server(name: str, instructions: str) -> Any:
    """Return a server without tools, with the decorators and methods that both versions have."""
    with _without_side_effects():
        return _server_class()(name, instructions=instructions)


def client_error(kind: Literal["ToolError", "ResourceError"], message: str) -> Exception:
    """Return an exception whose message is sent to the client; version 2.x hides the messages of all others."""
    errors = import_module(_server_class().__module__.rpartition(".")[0] + ".exceptions")
    error: Exception = getattr(errors, kind)(message)
    return error


def invalid_argument(message: str) -> Exception:
    """Return an exception for an invalid argument of a prompt."""
    try:
        from mcp.shared.exceptions import MCPError
    except ImportError:
        return ValueError(message)
    error: Exception = MCPError(-32602, message)
    return error


def image_content(data: bytes, mime: str) -> Any:
    """Return an image as the result of a tool."""
    import base64

    from mcp.types import ImageContent

    values = {"type": "image", "data": base64.b64encode(data).decode(), "mimeType": mime}
    return ImageContent.model_validate(values)


class HttpServer:
    """Serves on a free port of 127.0.0.1, in a thread with its own event loop.

    Args:
        server: the result of new_server().
        path: the path of the URL; keep it secret, as it is the only protection.

    Attributes:
        url: the server's URL.

    """

    def __init__(self, server: Any, path: str) -> None:
        import uvicorn

        self._socket = socket.create_server(("127.0.0.1", 0))
        port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{path}"
        config = uvicorn.Config(
            _application(server, path, port),
            log_config=None,
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="harbor-mcp", daemon=True)

    def start(self) -> None:
        """Start serving; requests sent from now on wait until they are answered."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and wait for the thread to end.

        Raises:
            InfrastructureError: the server failed, or does not stop.

        """
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT)
        self._socket.close()
        if self._error is not None:
            raise InfrastructureError(f"the MCP server failed: {self._error}")
        if self._thread.is_alive():
            raise InfrastructureError(f"the MCP server did not stop within {STOP_TIMEOUT:g} s")

    def _serve(self) -> None:
        import asyncio

        try:
            asyncio.run(self._server.serve(sockets=[self._socket]))
        except BaseException as error:
            self._error = error


def _server_class() -> Callable[..., Any]:
    try:
        from mcp.server.mcpserver import MCPServer
    except ModuleNotFoundError:
        from mcp.server.fastmcp import FastMCP

        return FastMCP  # type: ignore[no-any-return]
    return MCPServer  # type: ignore[no-any-return]


def _application(server: Any, path: str, port: int) -> Any:
    """Return a server's ASGI application, which only answers requests for this host and port."""
    from mcp.server.transport_security import TransportSecuritySettings

    hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
    options = {
        "streamable_http_path": path,
        "max_request_body_size": REQUEST_LIMIT,
        # An agent may be idle for as long as its task allows.
        "session_idle_timeout": None,
        "transport_security": TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=hosts,
            allowed_origins=[f"http://{host}" for host in hosts],
        ),
    }
    known = inspect.signature(server.streamable_http_app).parameters
    if not known:
        # In version 1.x, these are settings of the server.
        for name, value in options.items():
            if hasattr(server.settings, name):
                setattr(server.settings, name, value)
    with _without_side_effects():
        return server.streamable_http_app(**{name: value for name, value in options.items() if name in known})


@contextlib.contextmanager
def _without_side_effects() -> Iterator[None]:
    """Keep the library from adding a handler to a root logger without one, and silence warnings about its own code."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(handler)

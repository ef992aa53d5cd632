"""The official MCP library, whichever of its two lines is installed: 1.x, which most agents still need, or 2.x.

What differs between them, and how one is kept from changing the logging of the process it runs in, is known here alone.
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

FIX = 'install it: pip install "pytest-harbor[hud]"'
# Bytes of a request: larger than any file that the tools write.
REQUEST_LIMIT = 64 * 1024 * 1024
# Seconds that a server may take to end.
PATIENCE = 30.0


def check_installed() -> None:
    """Look whether the library is there.

    Raises:
        UnmetRequirement: it is not.

    """
    for name in ("mcp", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UnmetRequirement(f"an agent's MCP server needs the package {name}, which is not installed", FIX)


def new_server(name: str, instructions: str) -> Any:
    """Return a server without tools; it has the decorators and methods that both lines have in common."""
    with _quietly():
        return _server_class()(name, instructions=instructions)


def anticipated(kind: Literal["ToolError", "ResourceError"], message: str) -> Exception:
    """Return an exception whose message reaches the client; of others the 2.x line tells it nothing."""
    errors = import_module(_server_class().__module__.rpartition(".")[0] + ".exceptions")
    error: Exception = getattr(errors, kind)(message)
    return error


def invalid_argument(message: str) -> Exception:
    """Return an exception for a prompt that is asked for with a wrong argument."""
    try:
        from mcp.shared.exceptions import MCPError
    except ImportError:
        return ValueError(message)
    error: Exception = MCPError(-32602, message)
    return error


def image_content(data: bytes, mime: str) -> Any:
    """Return an image as a tool returns it."""
    import base64

    from mcp.types import ImageContent

    values = {"type": "image", "data": base64.b64encode(data).decode(), "mimeType": mime}
    return ImageContent.model_validate(values)


class HttpServer:
    """Serves on a port of 127.0.0.1 that the kernel chooses, in a thread with an event loop of its own.

    Args:
        server: what new_server() made.
        path: the path of its URL, which only who is to use it knows.

    Attributes:
        url: its URL.

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
        """Begin to serve; from now on, requests wait until they are answered."""
        self._thread.start()

    def stop(self) -> None:
        """End: when this returns, the port is closed and the thread is gone.

        Raises:
            InfrastructureError: it did not serve, or does not end.

        """
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._socket.close()
        if self._error is not None or self._thread.is_alive():
            raise InfrastructureError(f"the MCP server did not end well: {self._error or 'it still runs'}")

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
    """Return a server's ASGI application, which answers requests for this very host and port only."""
    from mcp.server.transport_security import TransportSecuritySettings

    hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
    options = {
        "streamable_http_path": path,
        "max_request_body_size": REQUEST_LIMIT,
        # An agent may think for as long as its task lets it.
        "session_idle_timeout": None,
        "transport_security": TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=hosts,
            allowed_origins=[f"http://{host}" for host in hosts],
        ),
    }
    known = inspect.signature(server.streamable_http_app).parameters
    if not known:
        # In the 1.x line these are settings of the server.
        for name, value in options.items():
            if hasattr(server.settings, name):
                setattr(server.settings, name, value)
    with _quietly():
        return server.streamable_http_app(**{name: value for name, value in options.items() if name in known})


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library from giving the root logger a handler, where there is none, and from warning of its own code."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(handler)

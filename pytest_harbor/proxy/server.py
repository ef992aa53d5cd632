"""The HTTP server between agents and models: an event loop in a thread of its own, for all trials of a process."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import aiohttp
import certifi
from aiohttp import web

from pytest_harbor.proxy.endpoints import Vendor
from pytest_harbor.proxy.handler import Handler, note_reuse
from pytest_harbor.proxy.proxied_trial import ProxiedTrial
from pytest_harbor.proxy.settings import Upstream

T = TypeVar("T")

# Bytes of all headers of a message.
HEADER_LIMIT = 256 * 1024
CONNECT_PATIENCE = 30.0
# Seconds that connections get to end before they are cut, twice; 0 would be for ever.
SHUTDOWN_PATIENCE = 0.1
# Seconds that the server's thread gets to end.
END_PATIENCE = 10.0

_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class ProxyServer:
    """Answers the calls of trials.

    Args:
        upstreams: where calls go, by vendor.

    """

    def __init__(self, upstreams: Mapping[Vendor, Upstream]) -> None:
        self._upstreams = upstreams
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="harbor-proxy", daemon=True)
        self._thread.start()
        self._doors: set[Door] = set()
        try:
            self._session = self._run(self._connect())
        except BaseException:
            self._stop()
            raise

    def serve(self, trial: ProxiedTrial) -> Door:
        """Begin to answer a trial's calls."""
        return self._run(self._serve(trial))

    def close(self) -> None:
        """End, with every connection."""
        if self._loop.is_closed():
            return
        # A trial that was interrupted while its door was made has not closed it.
        for door in list(self._doors):
            door.close()
        self._run(self._session.close())
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(note_reuse)
        context = ssl.create_default_context()
        # Beside what the system trusts, which on some systems is nothing.
        context.load_verify_locations(certifi.where())
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_PATIENCE),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC,
            auto_decompress=False,
            trust_env=True,
            trace_configs=[trace],
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            read_bufsize=256 * 1024,
        )

    async def _serve(self, trial: ProxiedTrial) -> Door:
        handler = Handler(trial, self._upstreams, self._session)
        loop = self._loop

        def new_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop)

        server = web.Server(
            handler,
            request_factory=new_request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            lingering_time=0.0,
        )
        door = Door(loop, handler, server, self._doors.discard)
        self._doors.add(door)
        return door


class Door:
    """Where the calls of one trial come in.

    Args:
        loop: the server's.
        handler: answers them.
        server: speaks HTTP.
        closed: hears that it was closed, in the loop.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        server: web.Server,
        closed: Callable[[Door], None],
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._server = server
        self._tell = closed
        self._taking: set[asyncio.Task[Any]] = set()
        self._closed = False

    def take(self, connection: socket.socket) -> None:
        """Take a connection that was made elsewhere; called in any thread."""
        asyncio.run_coroutine_threadsafe(self._take(connection), self._loop)

    def close(self) -> None:
        """Cut what goes on, and take nothing more; when this returns, every call is written down."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    async def _take(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        connection.setblocking(False)
        try:
            if self._closed:
                raise ConnectionAbortedError
            await self._loop.connect_accepted_socket(self._server, connection)
        except OSError:
            connection.close()

    async def _close(self) -> None:
        self._closed = True
        self._tell(self)
        await self._handler.stop()
        await asyncio.gather(*self._taking, return_exceptions=True)
        await self._server.shutdown(SHUTDOWN_PATIENCE)

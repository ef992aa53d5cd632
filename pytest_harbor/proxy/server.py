"""The HTTP server of the proxy: one event loop in its own thread, for all trials of a process."""

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
MAX_HEADERS = 256 * 1024
# Seconds.
CONNECT_TIMEOUT = 30.0
# Seconds until connections are closed by force, waited for twice; aiohttp takes 0 for no timeout.
SHUTDOWN_TIMEOUT = 0.1
# Seconds until the server's thread is abandoned.
THREAD_TIMEOUT = 10.0

# Headers that aiohttp would add to those of the agent.
_AUTOMATIC_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class ProxyServer:
    """Serves the model calls of trials.

    Args:
        upstreams: the servers that calls go to, by vendor.

    """

    def __init__(self, upstreams: Mapping[Vendor, Upstream]) -> None:
        self._upstreams = upstreams
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="harbor-proxy", daemon=True)
        self._thread.start()
        self._trials: set[TrialServer] = set()
        try:
            self._session = self._run(self._connect())
        except BaseException:
            self._stop()
            raise

    def serve(self, trial: ProxiedTrial) -> TrialServer:
        """Start to serve a trial's calls."""
        return self._run(self._serve(trial))

    def close(self) -> None:
        """Close every connection, and stop the thread."""
        if self._loop.is_closed():
            return
        # A trial that was interrupted while its server started has not closed it.
        for trial in list(self._trials):
            trial.close()
        self._run(self._session.close())
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(THREAD_TIMEOUT)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _connect(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(note_reuse)
        context = ssl.create_default_context()
        # In addition to the certificates of the system, which may have none.
        context.load_verify_locations(certifi.where())
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC_HEADERS,
            auto_decompress=False,
            trust_env=True,
            trace_configs=[trace],
            max_line_size=MAX_HEADERS,
            max_field_size=MAX_HEADERS,
            read_bufsize=256 * 1024,
        )

    async def _serve(self, trial: ProxiedTrial) -> TrialServer:
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
            max_line_size=MAX_HEADERS,
            max_field_size=MAX_HEADERS,
            lingering_time=0.0,
        )
        trial_server = TrialServer(loop, handler, server, self._trials.discard)
        self._trials.add(trial_server)
        return trial_server


class TrialServer:
    """Serves the calls of one trial, on connections that are accepted elsewhere.

    Args:
        loop: the event loop of the server.
        handler: handles the requests.
        server: the HTTP protocol.
        on_close: called in the event loop when the trial's server closes.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        server: web.Server,
        on_close: Callable[[TrialServer], None],
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._server = server
        self._on_close = on_close
        self._connecting: set[asyncio.Task[Any]] = set()
        self._closed = False

    def add_connection(self, connection: socket.socket) -> None:
        """Serve an accepted connection, and close it at the end. May be called from any thread."""
        asyncio.run_coroutine_threadsafe(self._add_connection(connection), self._loop)

    def close(self) -> None:
        """Cancel running calls and close every connection; every call is saved when this returns."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    async def _add_connection(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        connection.setblocking(False)
        try:
            if self._closed:
                raise ConnectionAbortedError
            await self._loop.connect_accepted_socket(self._server, connection)
        except OSError:
            connection.close()

    async def _close(self) -> None:
        self._closed = True
        self._on_close(self)
        await self._handler.stop()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await self._server.shutdown(SHUTDOWN_TIMEOUT)

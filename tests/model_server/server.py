"""The HTTP server that works through a script."""

from __future__ import annotations

import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .answers import Answer, Reply, Request, Script, failure
from .protocols import COMPLETIONS, OTHER_ENDPOINTS, completion, json_bytes

POLL_SECONDS = 0.005
TIMEOUT_SECONDS = 30.0


class ModelServer:
    """A model server: each completion request takes the next entry of the script; other endpoints need no script.

    Args:
        script: Answers, replies, or functions that take the request and return either, or None for the default. If the
            last entry is a function, it answers all remaining requests on any path.

    """

    models = ("model-a", "model-b")

    def __init__(self, *script: Script) -> None:
        self.script = list(script)
        self.requests: list[Request] = []
        self._changed = threading.Condition()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), name="model-server")

    @property
    def url(self) -> str:
        """The base URL, without `/v1`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and stop listening. A second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.close_connections()
            self._server.server_close()

    def wait_for(self, count: int) -> list[Request]:
        """Wait for this many requests and return all requests so far."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, TIMEOUT_SECONDS), self.requests
            return list(self.requests)

    def reply_to(self, request: Request) -> Reply:
        """Keep a request and return the response to it."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            route = request.method, request.path.partition("?")[0]
            entry: Any = None
            if len(self.script) == 1 and callable(self.script[0]):
                entry = self.script[0]
            elif route in COMPLETIONS:
                if not self.script:
                    return failure(400, "the model server has no scripted answers left")
                entry = self.script.pop(0)
        if callable(entry):
            entry = entry(request)
        if isinstance(entry, Reply):
            return entry
        if route in COMPLETIONS:
            return completion(COMPLETIONS[route], request, entry or Answer("ok"))
        if route in OTHER_ENDPOINTS:
            return Reply([json_bytes(OTHER_ENDPOINTS[route](self.models, request))])
        return failure(404, f"Unknown request URL: {request.method} {request.path}", "unknown_url")


class _Server(ThreadingHTTPServer):
    # The threads are joined at the end, so that none outlives its test.
    daemon_threads = False
    request_queue_size = 256

    def __init__(self, owner: ModelServer) -> None:
        self.owner = owner
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._respond()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET

    def _respond(self) -> None:
        request = Request(self.command, self.path, list(self.headers.items()), self._body())
        try:
            self._send(request, self.server.owner.reply_to(request))
        except ConnectionError:
            request.disconnected.set()
            self.close_connection = True
        finally:
            request.done.set()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _send(self, request: Request, reply: Reply) -> None:
        self._wait_for(reply.gates.get(0))
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        length = sum(map(len, reply.pieces))
        self.send_header(*(("transfer-encoding", "chunked") if reply.streamed else ("content-length", str(length))))
        self.end_headers()
        for number, piece in enumerate(reply.pieces, 1):
            if reply.break_after is not None and number > reply.break_after:
                self.close_connection = True
                return
            self._wait_for(reply.gates.get(number))
            # Recorded first: the client may check it as soon as the piece arrives.
            request.sent.append(piece)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.streamed else piece)
        if reply.streamed:
            self.wfile.write(b"0\r\n\r\n")

    def _wait_for(self, gate: threading.Event | None) -> None:
        """Wait for an event while the client stays connected."""
        while gate is not None and not gate.wait(POLL_SECONDS):
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError("the client disconnected")

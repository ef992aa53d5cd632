"""An engine that answers when it is asked what it is, and then fails, as if it had died after the run began."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = {"ApiVersion": "1.41", "Version": "20.10", "Arch": "amd64"}
INFO = {"ID": "failing", "ServerVersion": "20.10", "NCPU": 2}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        for end, answer in (("/version", VERSION), ("/info", INFO)):
            if self.path.endswith(end):
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return
        self.close_connection = True

    do_POST = do_DELETE = do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def failing_engine() -> Iterator[str]:
    """Run the engine and yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()

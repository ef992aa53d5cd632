"""The SDK's client, made independent of what tests replace in requests and socket."""

from __future__ import annotations

import socket
from types import FunctionType, MethodType
from typing import Any

import requests
from docker import APIClient
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from requests.adapters import HTTPAdapter

from pytest_harbor._util.unpatched import Socket

_SESSION_GET_ADAPTER = requests.Session.get_adapter
_ADAPTER_FUNCTIONS = {name: value for name, value in vars(HTTPAdapter).items() if isinstance(value, FunctionType)}


class EngineClient(APIClient):
    """A client with the functions of requests as they were before the first test."""

    def mount(self, prefix: Any, adapter: Any) -> None:
        """Register an adapter for a prefix of URLs."""
        for name, function in _ADAPTER_FUNCTIONS.items():
            # The class that defines it, as its function may be replaced by now.
            if next(kind for kind in type(adapter).__mro__ if name in vars(kind)) is HTTPAdapter:
                setattr(adapter, name, MethodType(function, adapter))
        if isinstance(adapter, UnixHTTPAdapter):
            adapter.get_connection = MethodType(_get_connection, adapter)  # type: ignore[method-assign]
        super().mount(prefix, adapter)

    def get_adapter(self, url: Any) -> Any:
        """Return the adapter for a URL, without the SDK's call of the method that is inherited."""
        return _SESSION_GET_ADAPTER(self, url)


for _name, _value in vars(requests.Session).items():
    if isinstance(_value, FunctionType) and getattr(EngineClient, _name) is _value:
        setattr(EngineClient, _name, _value)


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        connection = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        connection.connect(self.unix_socket)
        self.sock = connection


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        timeout: Any = self.timeout
        return _Connection(self.base_url, self.socket_path, timeout)


def _get_connection(adapter: Any, url: str, proxies: Any = None) -> _Pool:
    """Return the pool of connections for a URL, as UnixHTTPAdapter.get_connection does."""
    with adapter.pools.lock:
        pool: _Pool | None = adapter.pools.get(url)
        if pool is None:
            pool = _Pool(url, adapter.socket_path, adapter.timeout, maxsize=adapter.max_pool_size)
            adapter.pools[url] = pool
    return pool

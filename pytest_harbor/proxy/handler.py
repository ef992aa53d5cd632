"""The request handler of one trial: it answers from a cassette, from a model's server, or with an error of its own."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Mapping, Set
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from pytest_harbor.errors import HookError, InfrastructureError
from pytest_harbor.proxy.call import Call
from pytest_harbor.proxy.cassette import RecordedCall
from pytest_harbor.proxy.endpoints import Endpoint, HTTPError, Vendor, error_body, find_endpoint, replace_model
from pytest_harbor.proxy.headers import KeyRedactor, request_headers, response_headers
from pytest_harbor.proxy.meter import Decoder
from pytest_harbor.proxy.proxied_trial import ProxiedTrial
from pytest_harbor.proxy.recorder import CassetteRecorder
from pytest_harbor.proxy.settings import Upstream

T = TypeVar("T")

MIB = 1 << 20
# Of a request body. No API accepts more: Anthropic's limit is 32 MB, and OpenAI's 512 MB are for files only.
MAX_BODY = 256 * MIB
# Of all request bodies of a trial at the same time.
MAX_BODIES = 2 * MAX_BODY
# Of a response body; only an endless one is longer.
MAX_RESPONSE = 128 * MIB

NO_UPSTREAM = "harbor_no_upstream"


class Handler:
    """Handles the requests of one trial.

    Args:
        trial: the trial.
        upstreams: the servers that calls go to, by vendor.
        session: the HTTP client for those servers.

    """

    def __init__(
        self, trial: ProxiedTrial, upstreams: Mapping[Vendor, Upstream], session: aiohttp.ClientSession
    ) -> None:
        self._trial = trial
        self._upstreams = upstreams
        self._session = session
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread_work: set[asyncio.Future[Any]] = set()
        # Bytes of request bodies in memory, by the task that handles the request.
        self._body_sizes: dict[asyncio.Task[Any], int] = {}
        self._stopped = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle a request."""
        task = asyncio.current_task()
        assert task is not None
        if self._stopped:
            # It arrived on a connection that is about to be closed.
            raise asyncio.CancelledError
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        headers = {name.lower(): value for name, value in request.headers.items()}
        vendor: Vendor = "anthropic" if "anthropic-version" in headers else "openai"
        body: bytes | None = None
        try:
            self._trial.authorize(headers)
            target = _origin_form(request.raw_path, {headers.get("host", ""), *self._trial.addresses})
            endpoint = find_endpoint(request.method, target, headers)
            if endpoint is None:
                raise self._trial.unsupported_endpoint(request.method, target)
            vendor = endpoint.vendor
            body = await self._read_body(request, headers, task)
            return await self._answer(request, endpoint, target, body)
        except HTTPError as error:
            if body is None:
                self._trial.refuse(error)
            return _error_response(vendor, error)
        except RecursionError:
            return _error_response(vendor, HTTPError(400, "harbor_too_deep", "the body is nested too deeply"))
        except (ConnectionError, aiohttp.ClientError, web.RequestPayloadError):
            # The agent has closed the connection.
            raise asyncio.CancelledError from None
        except Exception as error:
            return _error_response(vendor, self._trial.internal_error(error))
        finally:
            self._body_sizes.pop(task, None)

    async def _read_body(self, request: web.BaseRequest, headers: Mapping[str, str], task: asyncio.Task[Any]) -> bytes:
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            message = "compressed request bodies are not supported; send no Content-Encoding"
            raise HTTPError(415, "harbor_packed", message)
        if headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        chunks = []
        self._body_sizes[task] = 0
        async for chunk in request.content.iter_any():
            chunks.append(chunk)
            self._body_sizes[task] += len(chunk)
            if self._body_sizes[task] > MAX_BODY:
                raise HTTPError(413, "harbor_too_large", f"the body is larger than {MAX_BODY // MIB} MiB")
            if sum(self._body_sizes.values()) > MAX_BODIES:
                message = f"the bodies of simultaneous calls are larger than {MAX_BODIES // MIB} MiB together"
                raise HTTPError(503, "harbor_busy", message)
        return b"".join(chunks)

    async def stop(self) -> None:
        """Cancel running calls, wait for them, and reject new ones."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._thread_work, return_exceptions=True)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a blocking function in a thread; it completes even if the caller is cancelled."""
        work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
        self._thread_work.add(work)
        work.add_done_callback(self._thread_work.discard)
        return await asyncio.shield(work)

    async def _answer(
        self, request: web.BaseRequest, endpoint: Endpoint, target: str, body: bytes
    ) -> web.StreamResponse:
        trial = self._trial
        trial.access.attempted = trial.access.attempted or endpoint.is_metered
        if trial.model and (endpoint.is_turn or target.startswith("/v1/messages")):
            body = replace_model(body, trial.model)
        call = trial.start_call(endpoint, request.method, target, body)
        try:
            if trial.recorder is not None:
                call.normalized = await self._normalize(call, trial.recorder)
                recorded = await self._in_thread(trial.replay, call)
                if recorded is not None:
                    return await self._replay(request, call, recorded)
            return await self._forward(request, call)
        except HTTPError as error:
            if error.code != NO_UPSTREAM:
                call.source = "proxy"
            call.status, call.error = error.status, call.error or error.message
            raise
        except asyncio.CancelledError:
            # Many clients close the connection as soon as they have the last event.
            call.complete = call.complete or call.has_last_event
            call.abandoned = not call.complete
            raise
        finally:
            await self._finish(call)

    async def _normalize(self, call: Call, recorder: CassetteRecorder) -> dict[str, Any]:
        try:
            return await self._in_thread(recorder.normalize, call)
        except HookError as error:
            self._trial.failure = error
            raise HTTPError(500, "harbor_hook", str(error)) from error

    async def _finish(self, call: Call) -> None:
        """Finish a call and save it, whatever its outcome; do nothing if it was finished before."""
        if self._trial.finish_call(call):
            await self._in_thread(self._save, call)

    def _save(self, call: Call) -> None:
        try:
            if call.complete and self._trial.recorder is not None:
                self._trial.recorder.record(call)
            self._trial.save_call(call)
        except OSError as error:
            self._trial.failure = InfrastructureError(f"a model call cannot be saved: {error}")

    async def _replay(self, request: web.BaseRequest, call: Call, recorded: RecordedCall) -> web.StreamResponse:
        chunks = [self._trial.redactor.restore_own(chunk) for chunk in recorded.chunks]
        streamed = recorded.headers.get("content-type", "").startswith("text/event-stream")
        call.start_response(recorded.status, recorded.headers, streamed=streamed)
        response = web.StreamResponse(status=recorded.status, headers=recorded.headers)
        if not streamed:
            chunks = [b"".join(chunks)]
            response.content_length = len(chunks[0])
        await response.prepare(request)
        for chunk in chunks:
            call.feed(chunk)
            await response.write(chunk)
        await self._finish(call)
        await response.write_eof()
        return response

    async def _forward(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        upstream = self._upstreams[call.endpoint.vendor]
        url = URL(upstream.url + call.endpoint.path, encoded=True)
        headers = request_headers(request.raw_headers, call.endpoint.vendor, upstream.key)
        response: web.StreamResponse | None = None
        try:
            async with self._send(call, url, headers) as answer:
                streamed = answer.content_type == "text/event-stream"
                lower = {name.lower(): value for name, value in answer.headers.items()}
                call.start_response(answer.status, lower, streamed=streamed)
                decoder = Decoder(answer.headers.get("Content-Encoding", ""), MAX_RESPONSE)
                redactor = KeyRedactor(self._upstreams, is_error=answer.status >= 400)
                if not streamed or answer.status >= 400:
                    return await self._forward_body(call, answer, decoder, redactor)
                response = _response_to_stream(answer, decoder, redactor)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    plain = decoder.feed(chunk)
                    call.feed(plain)
                    await response.write(redactor.feed(plain))
                await self._complete(call)
                await response.write_eof(redactor.flush())
                return response
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if request.transport is None or request.transport.is_closing():
                # The agent closed its connection, not the server.
                raise asyncio.CancelledError from None
            reason = f"did not send a complete response: {type(error).__name__}: {error}".rstrip(": ")
            if isinstance(error, aiohttp.ClientConnectorError):
                reason = f"cannot be reached: {error.os_error}"
            shown = url.with_user(None).with_query(None)
            self._trial.record_failure(call, self._trial.redactor.hide(f"{shown} {reason}"))
            if response is None:
                raise HTTPError(502, NO_UPSTREAM, call.error) from error
            # An incomplete stream must not look complete.
            request.transport.abort()
            return response

    async def _forward_body(
        self, call: Call, answer: aiohttp.ClientResponse, decoder: Decoder, redactor: KeyRedactor
    ) -> web.Response:
        headers = response_headers(answer.raw_headers, redactor)
        received = []
        async for chunk in answer.content.iter_any():
            received.append(chunk)
            call.feed(decoder.feed(chunk))
        plain = b"".join(call.chunks)
        await self._complete(call)
        body = redactor.redact(plain)
        if body == plain and decoder.is_decompressing:
            body = b"".join(received)
        elif decoder.is_encoded:
            headers.popall("Content-Encoding", None)
        reason = redactor.redact_text(answer.reason or "")
        return web.Response(status=answer.status, reason=reason, headers=headers, body=body)

    @contextlib.asynccontextmanager
    async def _send(self, call: Call, url: URL, headers: CIMultiDict[str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a call upstream, and again if the server had closed the connection that it reused."""
        connection = _Connection()

        def send(**options: Any) -> Any:
            # As a file, a large body is sent in chunks, and other calls are served in between.
            body = io.BytesIO(call.body) if call.body else None
            return self._session.request(call.method, url, headers=headers, data=body, allow_redirects=False, **options)

        try:
            answer = await send(trace_request_ctx=connection)
        except aiohttp.ServerDisconnectedError:
            if not connection.reused:
                raise
            answer = await send()
        async with answer:
            yield answer

    async def _complete(self, call: Call) -> None:
        """Save a complete call before the agent sees its end, so that its next call is checked against all usage."""
        call.complete = True
        await self._finish(call)


class _Connection:
    """Whether a call went out on a connection kept from an earlier one."""

    reused = False


async def note_reuse(session: Any, context: Any, parameters: Any) -> None:
    """Record that a call reuses a connection; a trace signal of the client session."""
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.reused = True


def _origin_form(target: str, hosts: Set[str]) -> str:
    """Return the path and query of a request, also of one with a whole URL, which clients send to an HTTP proxy.

    Args:
        target: the request's target as it was sent.
        hosts: the names of this server.

    """
    scheme, separator, rest = target.partition("://")
    host, slash, path = rest.partition("/")
    is_own = separator and scheme.lower() in ("http", "https") and host in hosts
    return slash + path if is_own else target


def _response_to_stream(answer: aiohttp.ClientResponse, decoder: Decoder, redactor: KeyRedactor) -> web.StreamResponse:
    headers = response_headers(answer.raw_headers, redactor)
    if decoder.is_encoded:
        # Sent decompressed, as a key may be anywhere in the stream.
        headers.popall("Content-Encoding", None)
    reason = redactor.redact_text(answer.reason or "")
    return web.StreamResponse(status=answer.status, reason=reason, headers=headers)


def _error_response(vendor: Vendor, error: HTTPError) -> web.Response:
    # The clients of both vendors honor this header. Only an unreachable server may recover.
    headers = {} if error.status == 502 else {"x-should-retry": "false"}
    body = error_body(vendor, error)
    return web.Response(status=error.status, body=body, content_type="application/json", headers=headers)

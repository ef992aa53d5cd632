"""How the proxy answers the requests of one trial: itself, from a cassette, or with what a model's server says."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from pytest_harbor.errors import HookError, InfrastructureError
from pytest_harbor.proxy.call import Call
from pytest_harbor.proxy.cassette import Recorded
from pytest_harbor.proxy.endpoints import Endpoint, Vendor, endpoint, error_body, with_model
from pytest_harbor.proxy.headers import Veil, request_headers, response_headers
from pytest_harbor.proxy.meter import Decoder
from pytest_harbor.proxy.proxied_trial import ProxiedTrial, Refusal
from pytest_harbor.proxy.recorder import Tape
from pytest_harbor.proxy.settings import Upstream

T = TypeVar("T")

MIB = 1 << 20
# No interface takes more; Anthropic's limit is 32 MB, OpenAI's 512 MB for files only.
BODY_LIMIT = 256 * MIB
# All bodies of a trial's requests at a time.
BODIES_LIMIT = 2 * BODY_LIMIT
# No answer is longer, but one without end.
ANSWER_LIMIT = 128 * MIB

NO_UPSTREAM = "harbor_no_upstream"


class Handler:
    """Answers the requests of one trial.

    Args:
        trial: the trial.
        upstreams: where calls go, by vendor.
        session: makes the calls that go there.

    """

    def __init__(
        self, trial: ProxiedTrial, upstreams: Mapping[Vendor, Upstream], session: aiohttp.ClientSession
    ) -> None:
        self._trial = trial
        self._upstreams = upstreams
        self._session = session
        self._tasks: set[asyncio.Task[Any]] = set()
        self._work: set[asyncio.Future[Any]] = set()
        # Bytes of requests, by the task that answers.
        self._held: dict[asyncio.Task[Any], int] = {}
        self._over = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, whatever it is."""
        task = asyncio.current_task()
        assert task is not None
        if self._over:
            # It came over a connection that is about to be cut.
            raise asyncio.CancelledError
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        headers = {name.lower(): value for name, value in request.headers.items()}
        vendor: Vendor = "anthropic" if "anthropic-version" in headers else "openai"
        try:
            self._trial.authorise(headers)
            place = endpoint(request.method, request.raw_path, headers)
            if place is None:
                raise self._trial.unknown(request.method, request.raw_path)
            vendor = place.vendor
            return await self._answer(request, place, await self._body(request, headers, task))
        except Refusal as refusal:
            return _refused(vendor, refusal)
        except RecursionError:
            return _refused(vendor, Refusal(400, "harbor_too_deep", "the body is nested too deeply"))
        except (ConnectionError, aiohttp.ClientError, web.RequestPayloadError):
            # Nobody is there any more.
            raise asyncio.CancelledError from None
        except Exception as error:
            return _refused(vendor, self._trial.broken(error))
        finally:
            self._held.pop(task, None)

    async def _body(self, request: web.BaseRequest, headers: Mapping[str, str], task: asyncio.Task[Any]) -> bytes:
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            fact = "bodies that are packed cannot be read here; leave out Content-Encoding"
            raise Refusal(415, "harbor_packed", fact)
        if headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        pieces = []
        self._held[task] = 0
        async for piece in request.content.iter_any():
            pieces.append(piece)
            self._held[task] += len(piece)
            if self._held[task] > BODY_LIMIT:
                raise Refusal(413, "harbor_too_large", f"a body of more than {BODY_LIMIT // MIB} MiB")
            if sum(self._held.values()) > BODIES_LIMIT:
                raise Refusal(503, "harbor_busy", "calls at the same time have too long bodies")
        return b"".join(pieces)

    async def stop(self) -> None:
        """Cut what goes on, and wait for it; nothing begins any more."""
        self._over = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._work, return_exceptions=True)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do work outside the loop, where others wait; to its end, also where nobody waits for that."""
        working = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        self._work.add(working)
        working.add_done_callback(self._work.discard)
        return await asyncio.shield(working)

    async def _answer(self, request: web.BaseRequest, place: Endpoint, body: bytes) -> web.StreamResponse:
        trial = self._trial
        if trial.model and (place.is_turn or request.raw_path.startswith("/v1/messages")):
            body = with_model(body, trial.model)
        call = trial.begin(place, request.method, request.raw_path, body)
        try:
            if trial.tape is not None:
                call.normal = await self._normal_form(call, trial.tape)
                found = await self._in_thread(trial.replay, call)
                if found is not None:
                    return await self._replay(request, call, found)
            return await self._forward(request, call)
        except Refusal as refusal:
            if refusal.code != NO_UPSTREAM:
                call.source = "proxy"
            call.status, call.error = refusal.status, call.error or refusal.message
            raise
        except asyncio.CancelledError:
            # Many clients go as soon as they have heard the last word.
            call.whole = call.whole or call.has_ended
            call.given_up = not call.whole
            raise
        finally:
            await self._end(call)

    async def _normal_form(self, call: Call, tape: Tape) -> dict[str, Any]:
        try:
            return await self._in_thread(tape.normal_form, call)
        except HookError as error:
            self._trial.problem = error
            raise Refusal(500, "harbor_hook", str(error)) from error

    async def _end(self, call: Call) -> None:
        """Write down what became of a call, whatever it was."""
        if self._trial.end(call):
            await self._in_thread(self._write_down, call)

    def _write_down(self, call: Call) -> None:
        try:
            if call.whole and self._trial.tape is not None:
                self._trial.tape.record(call)
            self._trial.write_down(call)
        except OSError as error:
            self._trial.problem = InfrastructureError(f"a call cannot be written down: {error}")

    async def _replay(self, request: web.BaseRequest, call: Call, found: Recorded) -> web.StreamResponse:
        pieces = [self._trial.redactor.show_bytes(piece) for piece in found.pieces]
        streamed = found.headers.get("content-type", "").startswith("text/event-stream")
        call.begin_answer(found.status, found.headers, streamed=streamed)
        response = web.StreamResponse(status=found.status, headers=found.headers)
        if not streamed:
            pieces = [b"".join(pieces)]
            response.content_length = len(pieces[0])
        await response.prepare(request)
        for piece in pieces:
            call.take(piece)
            await response.write(piece)
        await self._end(call)
        await response.write_eof()
        return response

    async def _forward(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        upstream = self._upstreams[call.endpoint.vendor]
        url = URL(upstream.url + call.endpoint.rest, encoded=True)
        headers = request_headers(request.raw_headers, call.endpoint.vendor, upstream.key)
        response: web.StreamResponse | None = None
        try:
            async with self._ask(call, url, headers) as answer:
                streamed = answer.content_type == "text/event-stream"
                kept = {name.lower(): value for name, value in answer.headers.items()}
                call.begin_answer(answer.status, kept, streamed=streamed)
                decoder = Decoder(answer.headers.get("Content-Encoding", ""), ANSWER_LIMIT)
                veil = Veil(self._upstreams, failed=answer.status >= 400)
                headers = response_headers(answer.raw_headers, veil)
                reason = veil.text(answer.reason or "")
                if streamed and answer.status < 400:
                    if decoder.coded:
                        # Not packed any more, as what is to stay here may be anywhere in it.
                        headers.popall("Content-Encoding", None)
                    response = web.StreamResponse(status=answer.status, reason=reason, headers=headers)
                    await response.prepare(request)
                    async for chunk in answer.content.iter_any():
                        plain = decoder.feed(chunk)
                        call.take(plain)
                        await response.write(veil.piece(plain))
                    await self._finish(call)
                    await response.write_eof(veil.rest())
                    return response
                packed = []
                async for chunk in answer.content.iter_any():
                    packed.append(chunk)
                    call.take(decoder.feed(chunk))
                plain = b"".join(call.pieces)
                await self._finish(call)
                body = veil.whole(plain)
                if body == plain and decoder.changes:
                    body = b"".join(packed)
                elif decoder.coded:
                    headers.popall("Content-Encoding", None)
                return web.Response(status=answer.status, reason=reason, headers=headers, body=body)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if request.transport is None or request.transport.is_closing():
                # It is the agent that has gone.
                raise asyncio.CancelledError from None
            said = f"did not answer to the end: {type(error).__name__}: {error}".rstrip(": ")
            if isinstance(error, aiohttp.ClientConnectorError):
                said = f"cannot be reached: {error.os_error}"
            shown = url.with_user(None).with_query(None)
            self._trial.failed(call, self._trial.redactor.hide(f"{shown} {said}"))
            if response is None:
                raise Refusal(502, NO_UPSTREAM, call.error) from error
            # What was cut must not look whole.
            request.transport.abort()
            return response

    @contextlib.asynccontextmanager
    async def _ask(self, call: Call, url: URL, headers: CIMultiDict[str]) -> Any:
        """Make the call, again where its connection, kept from an earlier one, was closed meanwhile."""
        kept = _Kept()

        def ask(**more: Any) -> Any:
            # As a file, so that a large one goes out piece by piece while others are answered.
            body = io.BytesIO(call.body) if call.body else None
            return self._session.request(call.method, url, headers=headers, data=body, allow_redirects=False, **more)

        try:
            answer = await ask(trace_request_ctx=kept)
        except aiohttp.ServerDisconnectedError:
            if not kept.reused:
                raise
            answer = await ask()
        async with answer:
            yield answer

    async def _finish(self, call: Call) -> None:
        """Write a call down before the agent sees its end: what it asks for next must know what this one has used."""
        call.whole = True
        await self._end(call)


class _Kept:
    """Whether a call went over a connection that was kept from an earlier one."""

    reused = False


async def note_reuse(session: Any, context: Any, parameters: Any) -> None:
    """Take note that a call goes over a connection that was kept; a signal of the client session."""
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.reused = True


def _refused(vendor: Vendor, refusal: Refusal) -> web.Response:
    body = error_body(vendor, refusal.status, refusal.code, refusal.message)
    # The clients of both vendors go by this header: nothing gets better by trying again.
    headers = {} if refusal.status == 502 else {"x-should-retry": "false"}
    return web.Response(status=refusal.status, body=body, content_type="application/json", headers=headers)

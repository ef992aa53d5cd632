"""A model server on 127.0.0.1 that speaks the real protocols and says what a test tells it to.

    with ModelServer(Answer("Hello!"), Answer(calls=[Call("bash", {"command": "ls"})])) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any")

It keeps every request as it came. Plain or streamed is what the request asks for.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TICK = 0.005
PATIENCE = 30.0


@dataclass(frozen=True)
class Call:
    """A tool call; arguments that are text are sent as they are, well-formed or not (not to Anthropic clients)."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Tokens:
    """What an answer uses: `cached` is part of `input`, `reasoning` of `output`."""

    input: int = 11
    cached: int = 0
    output: int = 7
    reasoning: int = 0


@dataclass(frozen=True)
class Answer:
    """What the model says to one request, whatever its protocol.

    Attributes:
        text: its text; streamed word by word.
        calls: its tool calls.
        tokens: what it uses; None leaves it out, as some servers do.
        finish: why it ended, in the protocol's word; what follows from the rest when empty.
        fields: further fields of the message of a chat completion, of the first delta when streamed.
        headers: further headers, some perhaps repeated.
        gates: what is waited for before something is sent: with 0 before anything is, with n before the n-th piece
            of a stream, counted from 1.
        break_after: the number of pieces after which the connection is cut.

    """

    text: str = ""
    calls: Sequence[Call] = ()
    tokens: Tokens | None = Tokens()
    finish: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[tuple[str, str]] = ()
    gates: Mapping[int, threading.Event] = field(default_factory=dict)
    break_after: int | None = None

    @property
    def words(self) -> list[str]:
        return re.findall(r"\S+\s*|\s+", self.text)


@dataclass(frozen=True)
class Reply:
    """What is sent, to the byte: as one body with its length, or streamed, each piece a chunk of its own."""

    pieces: Sequence[bytes]
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    streamed: bool = False
    gates: Mapping[int, threading.Event] = field(default_factory=dict)
    break_after: int | None = None


def failure(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """Return an error as servers send it; a header's `_` stands for `-`."""
    error = {"message": message, "type": "server_error" if status >= 500 else "invalid_request_error", "code": code}
    pairs = [("content-type", "application/json"), *((k.replace("_", "-"), v) for k, v in headers.items())]
    return Reply([json.dumps({"type": "error", "error": error}).encode()], status, pairs)


@dataclass
class Request:
    """A request as it was received, and what became of it.

    Attributes:
        path: with the query, as in the request's first line.
        disconnected: set when the client was found gone before the answer was complete.
        done: set when the answer is complete, or given up.
        sent: the bodies' pieces that were sent, one that is being sent included.

    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    disconnected: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    sent: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


Script = Answer | Reply | Callable[[Request], Answer | Reply | None]


class ModelServer:
    """Answers requests for completions with one answer of its script after the other, and all others by itself.

    Args:
        script: answers, or functions of the request that give one, or None for what the server says by itself. The
            last one, where it is a function, answers all further requests, of whatever path.

    """

    models = ("model-a", "model-b")

    def __init__(self, *script: Script) -> None:
        self.script = list(script)
        self.requests: list[Request] = []
        self._changed = threading.Condition()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(TICK,), name="model-server")

    @property
    def url(self) -> str:
        """Where it listens, without `/v1`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections and listen no more. A second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.cut()
            self._server.server_close()

    def wait_for(self, count: int) -> list[Request]:
        """Wait until there were this many requests, and return all of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, PATIENCE), self.requests
            return list(self.requests)

    def reply_to(self, request: Request) -> Reply:
        """Note a request, and return what is to be sent."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            route = request.method, request.path.partition("?")[0]
            lasting = bool(self.script) and callable(self.script[0]) and len(self.script) == 1
            said: Any = None
            if lasting:
                said = self.script[0]
            elif route in PROTOCOLS:
                if not self.script:
                    return failure(400, "the model server's script is over")
                said = self.script.pop(0)
        if callable(said):
            said = said(request)
        if isinstance(said, Reply):
            return said
        if route in PROTOCOLS:
            return _reply(PROTOCOLS[route], request, said or Answer("ok"))
        if route in OTHERS:
            return Reply([_dump(OTHERS[route](self, request))])
        return failure(404, f"Unknown request URL: {request.method} {request.path}", "unknown_url")


class _Server(ThreadingHTTPServer):
    # Joined at the end, so that nothing of a test outlives it.
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

    def cut(self) -> None:
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
        self._answer()

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = do_GET

    def _answer(self) -> None:
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
        self._await(reply.gates.get(0))
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
            self._await(reply.gates.get(number))
            # Before it is there: who has it may look here at once.
            request.sent.append(piece)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.streamed else piece)
        if reply.streamed:
            self.wfile.write(b"0\r\n\r\n")

    def _await(self, gate: threading.Event | None) -> None:
        """Wait for an event, as long as the client is there."""
        while gate is not None and not gate.wait(TICK):
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError("the client is gone")


# What the protocols have in common: each gives a body, and the events of the same as a stream.

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Protocol:
    """How an answer is said: as a body, as named or unnamed events."""

    body: Callable[[Request, Answer], dict[str, Any]]
    events: Callable[[Request, Answer], list[Event]]
    last: bytes = b""


def _reply(protocol: Protocol, request: Request, answer: Answer) -> Reply:
    common = {"gates": answer.gates, "break_after": answer.break_after}
    headers = [("x-request-id", _id("req")), ("request-id", _id("req")), *answer.headers]
    if not request.json.get("stream"):
        body = _dump(protocol.body(request, answer))
        return Reply([body], headers=[("content-type", "application/json"), *headers], **common)
    events = protocol.events(request, answer)
    pieces = [
        (f"event: {name}\n" if name else "").encode() + b"data: " + _dump(data) + b"\n\n" for name, data in events
    ]
    headers.insert(0, ("content-type", "text/event-stream; charset=utf-8"))
    return Reply([*pieces, protocol.last] if protocol.last else pieces, headers=headers, streamed=True, **common)


def _dump(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which needs an escape
        return json.dumps(value).encode()


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def _parts(text: str, size: int = 12) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _model(request: Request) -> str:
    return str(request.json.get("model", ""))


# POST /v1/chat/completions and /v1/completions


def _openai_usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }


def _chat_head(request: Request, kind: str) -> dict[str, Any]:
    return {"id": _id("chatcmpl"), "object": kind, "created": int(time.time()), "model": _model(request)}


def _chat_finish(answer: Answer) -> str:
    return answer.finish or ("tool_calls" if answer.calls else "stop")


def _chat_call(call: Call, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _chat_body(request: Request, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None, **answer.fields}
    if answer.calls:
        message["tool_calls"] = [_chat_call(call, call.text) for call in answer.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _chat_finish(answer)}
    usage = {"usage": _openai_usage(answer.tokens)} if answer.tokens else {}
    return {**_chat_head(request, "chat.completion"), "choices": [choice], **usage, "system_fingerprint": "fp_1"}


def _chat_events(request: Request, answer: Answer) -> list[Event]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "" if answer.text else None, **answer.fields}]
    deltas += [{"content": word} for word in answer.words]
    for index, call in enumerate(answer.calls):
        deltas.append({"tool_calls": [{"index": index, **_chat_call(call, "")}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in _parts(call.text)]
    return _chunked(
        request,
        answer,
        [({"delta": delta}, None) for delta in deltas] + [({"delta": {}}, "end")],
        "chat.completion.chunk",
    )


def _chunked(
    request: Request, answer: Answer, choices: list[tuple[dict[str, Any], str | None]], kind: str
) -> list[Event]:
    head = _chat_head(request, kind)
    wanted = (request.json.get("stream_options") or {}).get("include_usage") and answer.tokens
    empty = {"usage": None} if wanted else {}
    events: list[Event] = []
    for choice, end in choices:
        finish = _chat_finish(answer) if end else None
        events.append(
            ("", {**head, "choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": finish}], **empty})
        )
    if wanted:
        events.append(("", {**head, "choices": [], "usage": _openai_usage(answer.tokens)}))
    return events


def _text_body(request: Request, answer: Answer) -> dict[str, Any]:
    choice = {"index": 0, "text": answer.text, "logprobs": None, "finish_reason": _chat_finish(answer)}
    usage = {"usage": _openai_usage(answer.tokens)} if answer.tokens else {}
    return {**_chat_head(request, "text_completion"), "choices": [choice], **usage}


def _text_events(request: Request, answer: Answer) -> list[Event]:
    choices: list[tuple[dict[str, Any], str | None]] = [({"text": word}, None) for word in answer.words]
    return _chunked(request, answer, [*choices, ({"text": ""}, "end")], "text_completion")


# POST /v1/responses


def _response(request: Request, answer: Answer) -> dict[str, Any]:
    asked = request.json
    tokens = answer.tokens
    output: list[dict[str, Any]] = []
    if answer.text:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        output.append(
            {"id": _id("msg"), "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        )
    for call in answer.calls:
        function = {"call_id": call.id, "name": call.name, "arguments": call.text}
        output.append({"id": _id("fc"), "type": "function_call", "status": "completed", **function})
    usage = tokens and {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if answer.finish else "completed",
        "incomplete_details": {"reason": answer.finish} if answer.finish else None,
        "error": None,
        "model": _model(request),
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "usage": usage,
    }


def _response_events(request: Request, answer: Answer) -> list[Event]:
    whole = _response(request, answer)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    events: list[Event] = [("response.created", {"response": begun}), ("response.in_progress", {"response": begun})]
    for index, item in enumerate(whole["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        started = {**item, "status": "in_progress"}
        started.update({"content": []} if item["type"] == "message" else {"arguments": ""})
        events.append(("response.output_item.added", {"output_index": index, "item": started}))
        if item["type"] == "message":
            (part,) = item["content"]
            at["content_index"] = 0
            events.append(("response.content_part.added", {**at, "part": {**part, "text": ""}}))
            events += [("response.output_text.delta", {**at, "delta": word, "logprobs": []}) for word in answer.words]
            events.append(("response.output_text.done", {**at, "text": part["text"], "logprobs": []}))
            events.append(("response.content_part.done", {**at, "part": part}))
        else:
            done = {**at, "name": item["name"], "arguments": item["arguments"]}
            parts = _parts(item["arguments"])
            events += [("response.function_call_arguments.delta", {**at, "delta": part}) for part in parts]
            events.append(("response.function_call_arguments.done", done))
        events.append(("response.output_item.done", {"output_index": index, "item": item}))
    events.append((f"response.{whole['status']}", {"response": whole}))
    return [(name, {"type": name, "sequence_number": at, **data}) for at, (name, data) in enumerate(events)]


# POST /v1/messages


def _message(request: Request, answer: Answer) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
    for call in answer.calls:
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.text)})
    tokens = answer.tokens or Tokens(0, 0, 0)
    return {
        "id": _id("msg"),
        "type": "message",
        "role": "assistant",
        "model": _model(request),
        "content": content,
        "stop_reason": answer.finish or ("tool_use" if answer.calls else "end_turn"),
        "stop_sequence": None,
        # Unlike OpenAI's, its input leaves out what was cached.
        "usage": {
            "input_tokens": tokens.input - tokens.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": tokens.cached,
            "output_tokens": tokens.output,
        },
    }


def _message_events(request: Request, answer: Answer) -> list[Event]:
    whole = _message(request, answer)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    events: list[Event] = [("message_start", {"message": begun}), ("ping", {})]
    for index, block in enumerate(whole["content"]):
        if block["type"] == "text":
            empty = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": word} for word in answer.words]
        else:
            empty = {**block, "input": {}}
            parts = _parts(json.dumps(block["input"], ensure_ascii=False))
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        events.append(("content_block_start", {"index": index, "content_block": empty}))
        events += [("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
        events.append(("content_block_stop", {"index": index}))
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events.append(("message_delta", {"delta": end, "usage": {"output_tokens": whole["usage"]["output_tokens"]}}))
    events.append(("message_stop", {}))
    return [(name, {"type": name, **data}) for name, data in events]


# What is not a completion.


def _embeddings(_: ModelServer, request: Request) -> dict[str, Any]:
    asked = request.json
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    data = []
    for index, text in enumerate(texts):
        vector = [float(len(text)), 0.5, -1.0]
        packed = base64.b64encode(struct.pack("<3f", *vector)).decode()
        found: Any = packed if asked.get("encoding_format") == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": found})
    count = sum(map(len, texts))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": asked["model"], "usage": usage}


def _models(server: ModelServer, request: Request) -> dict[str, Any]:
    if request.header("anthropic-version"):
        data: list[dict[str, Any]] = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
            for name in server.models
        ]
        return {"data": data, "has_more": False, "first_id": server.models[0], "last_id": server.models[-1]}
    data = [{"id": name, "object": "model", "created": 1767225600, "owned_by": "tests"} for name in server.models]
    return {"object": "list", "data": data}


def _count_tokens(_: ModelServer, request: Request) -> dict[str, Any]:
    return {"input_tokens": len(request.body)}


PROTOCOLS = {
    ("POST", "/v1/chat/completions"): Protocol(_chat_body, _chat_events, b"data: [DONE]\n\n"),
    ("POST", "/v1/completions"): Protocol(_text_body, _text_events, b"data: [DONE]\n\n"),
    ("POST", "/v1/responses"): Protocol(_response, _response_events),
    ("POST", "/v1/messages"): Protocol(_message, _message_events),
}
OTHERS: dict[tuple[str, str], Callable[[ModelServer, Request], dict[str, Any]]] = {
    ("POST", "/v1/embeddings"): _embeddings,
    ("GET", "/v1/models"): _models,
    ("POST", "/v1/messages/count_tokens"): _count_tokens,
}

"""The OpenAI and Anthropic protocols: answers as response bodies and as event streams."""

from __future__ import annotations

import base64
import json
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .answers import Answer, Call, Reply, Request, Tokens

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Protocol:
    """A protocol's encoding of an answer: one body, or the events of a stream."""

    body: Callable[[Request, Answer], dict[str, Any]]
    events: Callable[[Request, Answer], list[Event]]
    last: bytes = b""


def completion(protocol: Protocol, request: Request, answer: Answer) -> Reply:
    """Return the response that carries an answer, streamed if the request asks for a stream."""
    common = {"gates": answer.gates, "break_after": answer.break_after}
    headers = [("x-request-id", _id("req")), ("request-id", _id("req")), *answer.headers]
    if not request.json.get("stream"):
        body = json_bytes(protocol.body(request, answer))
        return Reply([body], headers=[("content-type", "application/json"), *headers], **common)
    events = protocol.events(request, answer)
    pieces = [
        (f"event: {name}\n" if name else "").encode() + b"data: " + json_bytes(data) + b"\n\n" for name, data in events
    ]
    headers.insert(0, ("content-type", "text/event-stream; charset=utf-8"))
    return Reply([*pieces, protocol.last] if protocol.last else pieces, headers=headers, streamed=True, **common)


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, which must be escaped
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
    with_usage = (request.json.get("stream_options") or {}).get("include_usage") and answer.tokens
    empty = {"usage": None} if with_usage else {}
    events: list[Event] = []
    for choice, end in choices:
        finish = _chat_finish(answer) if end else None
        events.append(
            ("", {**head, "choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": finish}], **empty})
        )
    if with_usage:
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
    body = request.json
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
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
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
        # Unlike OpenAI, Anthropic excludes cached tokens from the input tokens.
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


# All other endpoints


def _embeddings(_: Sequence[str], request: Request) -> dict[str, Any]:
    body = request.json
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = []
    for index, text in enumerate(texts):
        vector = [float(len(text)), 0.5, -1.0]
        packed = base64.b64encode(struct.pack("<3f", *vector)).decode()
        found: Any = packed if body.get("encoding_format") == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": found})
    count = sum(map(len, texts))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _models(names: Sequence[str], request: Request) -> dict[str, Any]:
    if request.header("anthropic-version"):
        data: list[dict[str, Any]] = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names
        ]
        return {"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    data = [{"id": name, "object": "model", "created": 1767225600, "owned_by": "tests"} for name in names]
    return {"object": "list", "data": data}


def _count_tokens(_: Sequence[str], request: Request) -> dict[str, Any]:
    return {"input_tokens": len(request.body)}


COMPLETIONS = {
    ("POST", "/v1/chat/completions"): Protocol(_chat_body, _chat_events, b"data: [DONE]\n\n"),
    ("POST", "/v1/completions"): Protocol(_text_body, _text_events, b"data: [DONE]\n\n"),
    ("POST", "/v1/responses"): Protocol(_response, _response_events),
    ("POST", "/v1/messages"): Protocol(_message, _message_events),
}
OTHER_ENDPOINTS: dict[tuple[str, str], Callable[[Sequence[str], Request], dict[str, Any]]] = {
    ("POST", "/v1/embeddings"): _embeddings,
    ("GET", "/v1/models"): _models,
    ("POST", "/v1/messages/count_tokens"): _count_tokens,
}

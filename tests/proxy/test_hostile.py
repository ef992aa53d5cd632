"""Agents and models' servers that are malicious or badly broken."""

from __future__ import annotations

import base64
import contextlib
import gc
import gzip
import json
import socket
import sys
import threading
import time
import urllib.parse

import openai
import pytest
from model_server import Answer, Reply, Tokens, failure
from proxied import ANTHROPIC_KEY, OPENAI_KEY
from test_forwarding import ask, key

from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.proxy import Ledger, SessionBudget, TrialBudget, handler
from pytest_harbor.proxy.headers import KeyRedactor
from pytest_harbor.proxy.normalize import normalize
from pytest_harbor.proxy.settings import Upstream

CHAT = "/v1/chat/completions"
JSON = ("content-type", "application/json")
EVENTS = ("content-type", "text/event-stream")
GZIP = ("content-encoding", "gzip")
QUOTED = f'{{"your key": "{OPENAI_KEY}", "and": "{ANTHROPIC_KEY}"}}'.encode()
STREAM = b"data: " + QUOTED + b"\n\n"


# Keys.


@pytest.mark.parametrize(
    "reply",
    [
        Reply([QUOTED]),
        Reply([QUOTED], 400),
        Reply([gzip.compress(QUOTED)], 400, [JSON, GZIP]),
        Reply([gzip.compress(QUOTED)], headers=[JSON, GZIP]),
        Reply([QUOTED], 400, [JSON, GZIP]),
        Reply([b"{}"], 302, [JSON, ("location", f"http://elsewhere/?a={OPENAI_KEY}&b={ANTHROPIC_KEY}")]),
        Reply([STREAM], headers=[EVENTS], streamed=True),
        Reply([STREAM[:30], STREAM[30:31], STREAM[31:]], headers=[EVENTS], streamed=True),
        Reply([gzip.compress(STREAM)], headers=[EVENTS, GZIP], streamed=True),
        Reply([json.dumps({"model": OPENAI_KEY, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()]),
        Reply([b"x" * 280 + OPENAI_KEY.encode()], 401),
    ],
    ids=["200", "400", "gzip", "gzip 200", "no gzip", "302", "stream", "pieces", "gzip stream", "model", "cut"],
)
def test_no_response_contains_a_real_key(proxies, model_server, reply):
    model_server.script.append(reply)
    with proxies("record") as proxied:
        status, headers, body = ask(proxied.url, CHAT, b'{"model": "m"}', key(proxied))
        assert status == reply.status
    body = gzip.decompress(body) if headers["content-encoding"] == "gzip" else body
    files = "\n".join(path.read_text() for path in proxies.directory.rglob("*") if path.is_file())
    everything = f"{headers} {body.decode()} {files} {proxied.result} {proxied.error}"
    for secret in (OPENAI_KEY, ANTHROPIC_KEY):
        assert secret[:-4] not in everything


def test_placeholder_of_a_key_does_not_become_the_key(proxies, model_server):
    model_server.script.append(Answer("<openai-key> <anthropic-key> <secret>"))
    for mode in ("record", "replay"):
        with proxies(mode) as proxied:
            answer = proxied.openai().completions.create(model="m", prompt="x").choices[0].text
    assert answer == f"<openai-key> <anthropic-key> {proxied.secret}"


def test_key_split_over_chunks_of_a_stream():
    redactor = KeyRedactor({"openai": Upstream("http://a", "sk-a/b+c-0123456789")}, is_error=False)
    chunks = [b"s", b"k", b" sk-", b"a/b", b"+c-0123456789 sk-a%2Fb%2Bc-01", b"23456789 sk-a"]
    sent = [redactor.feed(chunk) for chunk in chunks]
    assert b"".join([*sent, redactor.flush()]) == b"sk <key> <key> sk-a"
    # Only what may be the start of a key is held.
    assert sent[:3] == [b"", b"", b"sk "]


def test_key_is_in_no_other_header(proxies, model_server):
    model_server.script.append(Answer("ok"))
    with proxies() as proxied:
        ask(proxied.url, CHAT, b"{}", [*key(proxied), ("OpenAI-Organization", f"o{proxied.secret}")])
    assert [name for name, value in model_server.requests[0].headers if OPENAI_KEY in value] == ["Authorization"]


@pytest.mark.parametrize(
    "target",
    [
        "http://elsewhere/v1/models",
        "//elsewhere/v1/models",
        "/v1/models/../files",
        "/v1/models/..%2ffiles",
        "/v1/models/%2e%2E/files",
        "/v1/models/%252e%252e/files",
        "/v1/models/..;x/files",
        "/v1/models/..\\files",
        "/v1/models/a%00b",
        "/v1/models/a%0d%0ab",
        "/v1/models/a#/b",
        "/v1/models?a#b",
        "/v1/models/a%3fb",
        "/v1/responses/..",
        "/v1/responses/.%2e",
        "/v1/responses/a%2fb",
    ],
)
def test_key_is_sent_to_no_other_path(proxies, model_server, target):
    with proxies() as proxied:
        assert ask(proxied.url, target, b"", key(proxied), "GET")[0] == 404
    assert not model_server.requests


@pytest.mark.parametrize("name", ["openai/gpt-5", "openai%2Fgpt-5", "accounts/x@y/models/a:b.c", "a..b"])
def test_models_with_odd_names(proxies, model_server, name):
    with proxies() as proxied:
        ask(proxied.url, f"/v1/models/{name}", b"", key(proxied), "GET")
    assert [request.path for request in model_server.requests] == [f"/v1/models/{name}"]


# Budgets.


def test_retry_costs_tokens_but_no_turn(proxies, model_server, prices):
    model_server.script += [failure(429, "slow"), failure(429, "slow"), Answer("ok", tokens=Tokens(50, 0, 50, 0))]
    with proxies(budget=TrialBudget(tokens=100), prices=prices) as proxied:
        statuses = [ask(proxied.url, CHAT, body, key(proxied))[0] for body in (b'{"a":1}', b'{"b":1}', b'{"a":1}')]
        assert statuses == [429, 429, 200]
        status, _, body = ask(proxied.url, CHAT, b'{"b":1}', key(proxied))
    assert (status, json.loads(body)["error"]["code"]) == (429, "harbor_budget_spent")
    assert len(model_server.requests) == 3


def test_abandoned_calls_cost_turns_and_tokens(proxies, model_server):
    model_server.script += [Answer("x", gates={0: threading.Event()})] * 2
    body = json.dumps({"model": "m", "prompt": "p" * 4000}).encode()
    with proxies(budget=TrialBudget(turns=2)) as proxied:
        for number in (1, 2):
            abandon(proxied, body)
            model_server.wait_for(number)[-1].disconnected.wait(20)
            wait_until(lambda number=number: len(proxied.calls) == number)
        assert ask(proxied.url, CHAT, body, key(proxied))[0] == 429
    assert proxied.result.usage.requests == 2
    assert proxied.result.usage.input_tokens >= 2000


def test_abandoned_stream_without_usage_is_estimated(proxies, model_server):
    words = "word " * 400
    events = [
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}},
    ]
    pieces = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    gates = {3: threading.Event()}
    model_server.script.append(Reply([*pieces, b"\n"], headers=[EVENTS], streamed=True, gates=gates))
    with proxies() as proxied:
        client = proxied.anthropic()
        ask_for = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        with client.messages.create(**ask_for, stream=True) as stream:
            assert next(event for event in stream if event.type == "content_block_delta")
        assert model_server.requests[0].disconnected.wait(20)
        wait_until(lambda: proxied.calls)
    assert (proxied.result.usage.input_tokens, proxied.result.usage.output_tokens) == (7, 500)


def test_compacting_a_response_is_a_turn(proxies, model_server):
    with proxies(budget=TrialBudget(turns=1)) as proxied:
        statuses = [ask(proxied.url, "/v1/responses/compact", b'{"a":%d}' % n, key(proxied))[0] for n in (1, 2)]
        assert ask(proxied.url, "/v1/responses/resp_1", b"{}", key(proxied))[0] == 404
    assert statuses == [404, 429]
    assert len(model_server.requests) == 1, "the server does not support it"


@pytest.mark.parametrize("limit", ["tokens", "cost", "run"])
def test_background_responses_are_rejected_with_a_budget(proxies, model_server, prices, tmp_path, limit):
    ledger = Ledger(tmp_path / "budget.json", SessionBudget.parse("1"))
    limits = {"ledger": ledger} if limit == "run" else {"budget": TrialBudget(**{limit: 100})}
    with proxies(**limits, prices=prices) as proxied:
        with pytest.raises(openai.BadRequestError, match="background responses"):
            proxied.openai().responses.create(model="model-a", input="x", extra_body={"background": True})
        # A poll names no model and needs none.
        assert ask(proxied.url, "/v1/responses/resp_1", b"", key(proxied), "GET")[0] == 404
    assert proxied.error is None
    assert [request.method for request in model_server.requests] == ["GET"]


def test_polling_is_not_a_turn(proxies, model_server):
    model_server.script.append(Answer("ok"))
    with proxies(budget=TrialBudget(turns=1)) as proxied:
        proxied.openai().responses.create(model="model-a", input="x", extra_body={"background": True})
        for _ in range(3):
            assert ask(proxied.url, "/v1/responses/resp_1", b"", key(proxied), "GET")[0] == 404
    assert not proxied.result.budget


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "expensive", "model": "expensive"}',
        b'{"model": "expensive", "n": %s}' % (b"9" * 5000),
        b'\xef\xbb\xbf{"model": "expensive"}',
        '{"model": "expensive"}'.encode("utf-16"),
        '{"model": "expensive"}'.encode("utf-32-le"),
    ],
    ids=["twice", "long number", "bom", "utf-16", "utf-32"],
)
def test_model_is_replaced_in_odd_bodies(proxies, model_server, body):
    model_server.script.append(Reply([b"{}"]))
    with proxies(model="cheap") as proxied:
        assert ask(proxied.url, CHAT, body, key(proxied))[0] == 200
    (request,) = model_server.requests
    assert "expensive" not in request.body.decode(json.detect_encoding(body))
    assert "cheap" in request.body.decode(json.detect_encoding(body))


def test_compressed_request_is_rejected(proxies, model_server):
    with proxies(model="cheap") as proxied:
        body = gzip.compress(b'{"model": "expensive"}')
        status, _, response = ask(proxied.url, CHAT, body, [*key(proxied), ("Content-Encoding", "gzip")])
    assert (status, json.loads(response)["error"]["code"]) == (415, "harbor_packed")
    assert not model_server.requests


# Crashes and hangs.


@pytest.mark.parametrize("depth", [150, 600, 900, 100_000])
@pytest.mark.parametrize("mode", ["live", "record", "replay"])
def test_deeply_nested_body(proxies, model_server, mode, depth):
    body = b'{"model": "m", "x": ' + b"[" * depth + b"]" * depth + b"}"
    model_server.script.append(lambda request: Reply([request.body]))
    if mode == "replay":
        with proxies("record") as proxied:
            ask(proxied.url, CHAT, b"{}", key(proxied))
    with proxies(mode) as proxied:
        status = ask(proxied.url, CHAT, body, key(proxied))[0]
    if mode == "replay":
        assert status == 404
        assert isinstance(proxied.error, UnmetRequirement)
    else:
        assert (status, proxied.error) == (200, None)


def test_body_too_deep_to_replace_its_model(proxies, model_server):
    with proxies(model="m") as proxied:
        body = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        status, _, response = ask(proxied.url, CHAT, body, key(proxied))
    assert (status, json.loads(response)["error"]["code"], proxied.error) == (400, "harbor_too_deep", None)


@pytest.mark.parametrize("text", ["call-" * 100_000, "data:a" * 100_000, ("a" * 1023 + " ") * 500, "1.1" * 100_000])
def test_normalization_is_fast(text):
    started = time.monotonic()
    normalize(text, [])
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_endless_response_is_cut(proxies, model_server, monkeypatch, streamed, compressed):
    monkeypatch.setattr(handler, "MAX_RESPONSE", 1 << 20)
    pieces = [b"data: x" * 20_000] * 20
    pieces = [gzip.compress(b"".join(pieces))] if compressed else pieces
    headers = [EVENTS if streamed else JSON, *([GZIP] if compressed else [])]
    model_server.script.append(Reply(pieces, headers=headers, streamed=True))
    with proxies() as proxied, contextlib.suppress(Exception):
        assert ask(proxied.url, CHAT, b"{}", key(proxied))[0] == 502
    assert "larger than 1 MiB" in str(proxied.error)


def test_long_line_in_a_stream(proxies, model_server):
    line = b'data: {"x": "' + b"x" * 30_000_000 + b'"}\n\n'
    usage = b'data: {"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
    model_server.script.append(Reply([line, usage], headers=[EVENTS], streamed=True))
    with proxies() as proxied:
        assert ask(proxied.url, CHAT, b"{}", key(proxied))[2] == line + usage
    assert proxied.result.usage.tokens == 7
    assert proxied.calls[0]["response"] == f"[{len(line + usage):,} bytes: too large to log]"


def test_simultaneous_bodies_have_a_limit(proxies, model_server, monkeypatch):
    monkeypatch.setattr(handler, "MAX_BODIES", 1_000_000)
    with proxies() as proxied, contextlib.ExitStack() as stack:
        sent = begin(proxied, stack, b"x" * 900_000, length=2_000_000)
        wait_until(lambda: ask(proxied.url, CHAT, b"x" * 200_000, key(proxied))[0] == 503)
        sent.close()
        wait_until(lambda: ask(proxied.url, CHAT, b"x" * 200_000, key(proxied))[0] == 400)
    assert proxied.error is None


def test_rejected_call_is_logged_without_body(proxies, model_server):
    with proxies(budget=TrialBudget(tokens=1)) as proxied:
        model_server.script.append(Answer("ok"))
        for number in (1, 2):
            ask(proxied.url, CHAT, b'{"x": "%s"}' % base64.b64encode(b"%d" % number * 1000), key(proxied))
    assert ["request" in call for call in proxied.calls] == [True, False]


@pytest.mark.parametrize("status", [101, 204, 304, 999])
def test_odd_statuses(proxies, model_server, status):
    model_server.script += [Reply([], status), Answer("ok")]
    with proxies("record") as proxied:
        assert ask(proxied.url, CHAT, b'{"a": 1}', key(proxied))[0] == status
        assert ask(proxied.url, CHAT, b'{"b": 1}', key(proxied))[0] == 200
    with proxies("replay") as proxied:
        assert ask(proxied.url, CHAT, b'{"b": 1}', key(proxied))[0] == 200


# Python 3.10 closes connections that are cancelled while being set up only when they are collected, with a warning.
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning" if sys.version_info < (3, 11) else "error"
)
def test_trial_ends_at_once_despite_open_connections(proxies, model_server):
    model_server.script.append(lambda _: Answer("x", gates={0: threading.Event()}))
    with contextlib.ExitStack() as stack:
        with proxies() as proxied:
            for _ in range(100):
                begin(proxied, stack, b"half", length=100)
                begin(proxied, stack, b"{}", length=2)
                stack.enter_context(connect(proxied))
            model_server.wait_for(50)
            ended = time.monotonic()
        assert time.monotonic() - ended < 10
    gc.collect()


def connect(proxied):
    address = urllib.parse.urlsplit(proxied.url)
    return socket.create_connection((address.hostname, address.port), 20)


def begin(proxied, stack, body, length):
    """Send a call, or the start of one, without waiting for a response."""
    raw = stack.enter_context(connect(proxied))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nx-api-key: {proxied.secret}\r\nContent-Length: {length}\r\n\r\n"
    raw.sendall(head.encode() + body)
    return raw


def abandon(proxied, body):
    count = len(proxied.calls)
    with contextlib.ExitStack() as stack:
        begin(proxied, stack, body, len(body))
        wait_until(lambda: len(proxied.calls) > count, seconds=0.3)


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)

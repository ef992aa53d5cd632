"""Forwarding: everything passes unchanged, except for credentials."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
import pytest
from model_server import Answer, Call, Reply, Tokens, failure
from proxied import ANTHROPIC_KEY, OPENAI_KEY

from pytest_harbor.errors import EngineUnavailable, InfrastructureError, UnmetRequirement
from pytest_harbor.proxy import Upstream

# Odd on purpose: spaces, unordered keys, unknown fields, numbers that a parser would change, an image.
ODD = (
    '{ "zeta":1.0e0,"model" :"model-a" , "messages":[{"role":"user","content":[{"type":"text","text":"h\\u00e9 \\/ é"},'
    '{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}],"max_tokens":12345678901234567890,'
    '"tools":[{"type":"function","function":{"name":"f"}}],"new_field":{"a":[1,2,{"b":null}]}'
)


def ask(url, path, body=b"", headers=(), method="POST"):
    """Send a request without a client library; return the status, headers and body of the response."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in (("Host", "x"), ("Content-Length", str(len(body))), *headers):
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "responses", "completions", "messages"])
def test_bodies_and_headers_are_unchanged(proxies, model_server, path, stream):
    model_server.script += [Answer("one two three four", calls=[Call("f", {"a": "é"})])]
    body = (ODD + (', "stream": true }' if stream else ' , "stream" :false}\n')).encode()
    with proxies() as proxied:
        key = [("x-api-key", proxied.secret)] if path == "messages" else [("Authorization", f"Bearer {proxied.secret}")]
        headers = [*key, ("Content-Type", "application/json"), ("X-Odd-Header", "a;b=c"), ("anthropic-beta", "b-1")]
        status, response_headers, response = ask(proxied.url, f"/v1/{path}?beta=true&x=%2F", body, headers)
    (request,) = model_server.requests
    assert request.body == body
    assert request.path == f"/v1/{path}?beta=true&x=%2F"
    assert status == 200
    assert response == b"".join(request.sent)
    assert response_headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    assert response_headers["x-request-id"].startswith("req_")
    assert request.header("X-Odd-Header") == "a;b=c"
    assert request.header("anthropic-beta") == "b-1"
    assert request.header("Host") == urllib.parse.urlsplit(model_server.url).netloc
    expected = (None, ANTHROPIC_KEY) if path == "messages" else (f"Bearer {OPENAI_KEY}", None)
    assert (request.header("Authorization"), request.header("x-api-key")) == expected
    # The proxy adds no headers of its own.
    sent = {name.lower() for name, _ in request.headers}
    assert sent == {"host", "content-length", "content-type", "x-odd-header", "anthropic-beta"} | (
        {"x-api-key"} if path == "messages" else {"authorization"}
    )


def test_clients_of_both_vendors(proxies, model_server):
    model_server.script += [
        Answer("Hi", calls=[Call("ls", {"a": 1}), Call("cat", {"b": 2})]),
        Answer("streamed words here", calls=[Call("ls", {"a": 1})]),
        Answer("of a response"),
        Answer("streamed response"),
        Answer("Hi", calls=[Call("ls", {"a": 1})]),
        Answer("words of Claude", calls=[Call("ls", {"deep": [1, 2]})]),
        Answer("completed"),
    ]
    ask_for = {"model": "model-a", "messages": [{"role": "user", "content": "hi"}]}
    with proxies() as proxied:
        client, claude = proxied.openai(), proxied.anthropic()
        message = client.chat.completions.create(**ask_for).choices[0].message
        assert [call.function.name for call in message.tool_calls] == ["ls", "cat"]
        # Older clients have it under beta.
        helper = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
        with helper(**ask_for) as stream:
            assert stream.get_final_completion().choices[0].message.content == "streamed words here"
        assert client.responses.create(model="model-a", input="hi").output_text == "of a response"
        with client.responses.stream(model="model-a", input="hi") as stream:
            assert stream.get_final_response().output_text == "streamed response"
        assert claude.messages.create(**ask_for, max_tokens=9).content[1].input == {"a": 1}
        with claude.messages.stream(**ask_for, max_tokens=9) as stream:
            assert stream.get_final_message().content[1].input == {"deep": [1, 2]}
        assert client.completions.create(model="model-a", prompt="hi").choices[0].text == "completed"
        assert claude.messages.count_tokens(**ask_for).input_tokens > 0
        assert client.embeddings.create(model="model-a", input="abc").data[0].embedding[0] == 3.0
        assert [model.id for model in client.models.list()] == ["model-a", "model-b"]
        assert [model.id for model in claude.models.list()] == ["model-a", "model-b"]
    assert proxied.error is None


def test_stream_is_not_buffered(proxies, model_server):
    gate = threading.Event()
    model_server.script.append(Answer("one two", gates={3: gate}))
    with proxies() as proxied:
        stream = proxied.openai().chat.completions.create(
            model="model-a", messages=[{"role": "user", "content": "x"}], stream=True
        )
        words = (chunk.choices[0].delta.content for chunk in stream)
        # The server is waiting at the gate, and the first events are already here.
        assert (next(words), next(words)) == ("", "one ")
        gate.set()
        assert next(words) == "two"
        stream.close()


def test_abandoned_stream_is_closed_upstream(proxies, model_server):
    model_server.script.append(Answer("one two", gates={3: threading.Event()}))
    with proxies() as proxied:
        stream = proxied.openai().chat.completions.create(
            model="model-a", messages=[{"role": "user", "content": "x"}], stream=True
        )
        next(iter(stream))
        stream.close()
        assert model_server.requests[0].disconnected.wait(20)
    assert proxied.error is None
    assert proxied.calls[0]["error"] == "abandoned by the agent"
    assert proxied.result.usage.estimated == 1


def test_running_calls_are_cancelled_when_the_agent_ends(proxies, model_server):
    model_server.script.append(Answer("one two", gates={0: threading.Event()}))
    with ThreadPoolExecutor() as pool, proxies() as proxied:
        asking = pool.submit(ask, proxied.url, "/v1/chat/completions", b"{}", [("x-api-key", proxied.secret)])
        model_server.wait_for(1)
        address = urllib.parse.urlsplit(proxied.url)
    assert isinstance(asking.exception(), OSError | http.client.HTTPException)
    assert model_server.requests[0].disconnected.wait(20)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((address.hostname, address.port))
    assert len(proxied.calls) == 1


def test_error_responses_are_unchanged(proxies, model_server):
    too_many = failure(429, "slow down", "rate_limit_exceeded", retry_after_ms="1", x_ratelimit_remaining="0")
    model_server.script += [too_many, Answer("at last"), failure(500, "oops", retry_after_ms="1"), Answer("again")]
    with proxies() as proxied:
        status, headers, body = ask(proxied.url, "/v1/chat/completions", b"{}", [("x-api-key", proxied.secret)])
        assert (status, body) == (429, too_many.pieces[0])
        assert headers["retry-after-ms"] == "1"
        assert headers["x-ratelimit-remaining"] == "0"
        assert headers["x-should-retry"] is None
        # The client's own retries work, and do not count as calls.
        ask_for = {"model": "model-a", "messages": [{"role": "user", "content": "hi"}]}
        client = proxied.openai()
        assert client.chat.completions.create(**ask_for).choices[0].message.content == "at last"
        assert client.chat.completions.create(**ask_for).choices[0].message.content == "again"
    assert proxied.error is None
    assert (proxied.result.usage.requests, proxied.result.usage.retries) == (3, 1)
    assert [(call["status"], call["retry"]) for call in proxied.calls] == [
        (429, False),
        (200, False),
        (500, False),
        (200, True),
    ]


def test_incomplete_stream_is_incomplete_for_the_agent(proxies, model_server):
    model_server.script.append(Answer("one two three", break_after=2))
    body = b'{"model": "model-a", "stream": true}'
    with proxies() as proxied, pytest.raises(http.client.IncompleteRead) as error:
        ask(proxied.url, "/v1/chat/completions", body, key(proxied))
    assert error.value.partial == b"".join(model_server.requests[0].sent)
    assert "did not send a complete response" in proxied.calls[0]["error"]
    assert isinstance(proxied.error, InfrastructureError)
    assert "did not send a complete response" in str(proxied.error)


def test_unreachable_server_is_an_infrastructure_error(proxies, model_server):
    model_server.close()
    with proxies() as proxied:
        with pytest.raises(openai.InternalServerError, match="cannot be reached"):
            proxied.openai(max_retries=0).models.list()
        with pytest.raises(openai.InternalServerError, match="Connect call failed"):
            proxied.openai(max_retries=0).embeddings.create(model="m", input="x")
    assert "the last model call failed: " in str(proxied.error)
    assert model_server.url in str(proxied.error)
    assert (
        "check that the server is running and that its URL (OPENAI_BASE_URL or --harbor-openai-base-url) is correct"
        in str(proxied.error)
    )
    assert proxied.error.retry
    assert "cannot be reached" in proxied.log


def test_error_of_the_model_overrides_that_of_the_agent(proxies, model_server):
    model_server.script += [failure(503, "overloaded")] * 2
    with proxies() as proxied:
        with contextlib.suppress(openai.InternalServerError):
            proxied.openai(max_retries=0).completions.create(model="m", prompt="x")
        raise InfrastructureError("my model fails")
    assert "the last model call failed: 503" in str(proxied.error)
    with proxies() as proxied:
        raise InfrastructureError("something else")
    assert str(proxied.error) == "something else"
    with proxies() as proxied:
        with contextlib.suppress(openai.InternalServerError):
            proxied.openai(max_retries=0).completions.create(model="m", prompt="x")
        raise EngineUnavailable("gone")
    assert isinstance(proxied.error, EngineUnavailable)


def test_rejected_key_is_an_unmet_requirement(proxies, model_server):
    model_server.script += [failure(401, f"Incorrect API key provided: {OPENAI_KEY}")]
    with proxies() as proxied, pytest.raises(openai.AuthenticationError) as error:
        proxied.openai().completions.create(model="model-a", prompt="hi")
    assert isinstance(proxied.error, UnmetRequirement)
    assert "401" in str(proxied.error)
    assert "quota" in str(proxied.error)
    # The server quoted the key.
    assert OPENAI_KEY not in f"{error.value} {proxied.error} {proxied.log} {proxied.calls}"


def test_only_the_last_call_decides_about_failure(proxies, model_server):
    model_server.script += [failure(500, "oops"), Answer("ok"), failure(400, "context too long")]
    with proxies() as proxied:
        client = proxied.openai(max_retries=0)
        for expected in (openai.InternalServerError, None, openai.BadRequestError):
            if expected is None:
                client.completions.create(model="model-a", prompt="hi")
            else:
                with pytest.raises(expected):
                    client.completions.create(model="model-a", prompt="hi")
    assert proxied.error is None


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/files", "/", "/v2/chat/completions", "/v1/messages/batches"])
def test_unsupported_path_is_404_and_logged_once(proxies, model_server, path):
    with proxies() as proxied:
        for _ in range(3):
            status, headers, body = ask(proxied.url, path, b"{}", [("Authorization", f"Bearer {proxied.secret}")])
        assert status == 404
        assert headers["content-type"].startswith("application/json")
        assert path in json.loads(body)["error"]["message"]
    assert proxied.log.count(f"POST {path} is not supported (404)") == 1
    assert not model_server.requests


@pytest.mark.parametrize(
    "path", ["/v1/models/../files", "/v1/models/a/%2e%2E/files", "/v1/responses/..%2Ffiles", r"/v1/models/..\..\files"]
)
def test_key_does_not_leave_the_api(proxies, model_server, path):
    with proxies() as proxied, contextlib.closing(http.client.HTTPConnection(proxied.url[7:])) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {proxied.secret}"})
        assert connection.getresponse().status == 404
    assert not model_server.requests


@pytest.mark.parametrize(
    "headers",
    [(), [("Authorization", "Bearer sk-other")], [("x-api-key", OPENAI_KEY)], [("Authorization", "é")]],
)
def test_only_the_trials_own_secret_is_accepted(proxies, model_server, headers):
    with proxies() as first, proxies() as proxied:
        assert first.secret != proxied.secret
        assert ask(proxied.url, "/v1/chat/completions", b"{}", headers)[0] == 401
        other = [("Authorization", f"Bearer {first.secret}")]
        assert ask(proxied.url, "/v1/chat/completions", b"{}", other)[0] == 401
    assert not model_server.requests


def test_clients_of_both_vendors_understand_proxy_errors(proxies, model_server):
    with proxies() as proxied:
        with pytest.raises(openai.AuthenticationError, match="wrong API key for this trial"):
            proxied.openai().with_options(api_key="other").models.list()
        with pytest.raises(anthropic.AuthenticationError, match="wrong API key for this trial"):
            proxied.anthropic().with_options(api_key="other").models.list()


def test_calls_are_rejected_during_grading(proxies, model_server):
    graded = threading.Event()
    with proxies(graded=graded.is_set) as proxied:
        client = proxied.openai(max_retries=0)
        client.models.list()
        graded.set()
        with pytest.raises(openai.PermissionDeniedError, match="being graded"):
            client.models.list()


def test_model_of_the_run_replaces_that_of_every_call(proxies, model_server):
    model_server.script += [Answer("a"), Answer("b"), Reply([b"{}"])]
    body = b'{"x": {"model": "no"}, "model":\n "model-a", "messages": [], "y": "\\"model\\": \\u00e9", "z": 1.0}'
    with proxies(model="m\u00f6del-b") as proxied:
        assert proxied.host["OPENAI_MODEL"] == "m\u00f6del-b"
        for path in ("/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings"):
            ask(proxied.url, path, body if "embed" not in path else b'{"model":"e","input":"x"}', key(proxied))
        ask(proxied.url, "/v1/chat/completions", b'{"broken', key(proxied))
    changed = body.replace(b'"model-a"', '"m\u00f6del-b"'.encode())
    assert [request.body for request in model_server.requests] == [
        changed,
        changed,
        changed,
        b'{"model":"e","input":"x"}',
        b'{"broken',
    ]


def test_compressed_responses_are_metered_and_streams_decompressed(proxies, model_server):
    body = json.dumps({"model": "model-a", "usage": {"prompt_tokens": 5, "completion_tokens": 6}}).encode()
    events = b'data: {"choices": []}\n\ndata: ' + body + b"\n\n"
    for plain, kind, streamed in ((body, "application/json", False), (events, "text/event-stream", True)):
        headers = [("content-type", kind), ("content-encoding", "gzip")]
        model_server.script.append(Reply([gzip.compress(plain)], headers=headers, streamed=streamed))
    with proxies() as proxied:
        accepted = ("Accept-Encoding", "br, gzip;q=0.5, zstd")
        status, headers, got = ask(proxied.url, "/v1/chat/completions", b"{}", [*key(proxied), accepted])
        assert (status, headers["content-encoding"], gzip.decompress(got)) == (200, "gzip", body)
        status, headers, got = ask(proxied.url, "/v1/chat/completions", b"{}", [*key(proxied), accepted])
        assert (status, headers["content-encoding"], got) == (200, None, events)
    # Encodings that the proxy cannot decode are not requested.
    assert model_server.requests[0].header("Accept-Encoding") == "gzip;q=0.5"
    assert (proxied.result.usage.input_tokens, proxied.result.usage.output_tokens) == (10, 12)


def test_many_simultaneous_streams(proxies, model_server):
    model_server.script.append(lambda request: Answer(f"{request.json['n']} " * 50, tokens=Tokens(1, 0, 1, 0)))
    with proxies() as proxied, ThreadPoolExecutor(32) as pool:

        def call(number):
            body = json.dumps({"model": "model-a", "stream": True, "n": number}).encode()
            return ask(proxied.url, "/v1/chat/completions", body, key(proxied))[2]

        bodies = list(pool.map(call, range(64)))
    for number, body in enumerate(bodies):
        assert body.count(f'"{number} "'.encode()) == 50
        assert body.endswith(b"data: [DONE]\n\n")
    assert proxied.result.usage.requests == 64
    assert len(proxied.calls) == 64


def test_large_request_and_expect_100_continue(proxies, model_server):
    model_server.script += [Answer("ok"), Answer("ok")]
    body = json.dumps({"model": "model-a", "text": "x" * 9_000_000}).encode()
    with proxies(log="meta") as proxied:
        assert ask(proxied.url, "/v1/chat/completions", body, key(proxied))[0] == 200
        with socket.create_connection(urllib.parse.urlsplit(proxied.url).netloc.split(":")) as raw:
            raw.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
                + f"x-api-key: {proxied.secret}\r\nContent-Length: 2\r\n\r\n".encode()
            )
            assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
            raw.sendall(b"{}")
            assert raw.recv(100).startswith(b"HTTP/1.1 200 ")
    assert model_server.requests[0].body == body


def test_garbage_does_not_disturb_other_requests(proxies, model_server):
    model_server.script.append(Answer("ok"))
    with proxies() as proxied:
        for garbage in (
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"POST /v1/messages HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        ):
            with socket.create_connection(urllib.parse.urlsplit(proxied.url).netloc.split(":")) as raw:
                raw.sendall(garbage + b"\r\n\r\n")
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(4096):
                    pass
        assert ask(proxied.url, "/v1/chat/completions", b'{"odd": true}', key(proxied))[0] == 200
    assert proxied.error is None


def key(proxied):
    return [("Authorization", f"Bearer {proxied.secret}")]


def test_key_is_not_in_repr_of_upstream():
    assert "sk-1" not in repr(Upstream("http://a", "sk-1"))

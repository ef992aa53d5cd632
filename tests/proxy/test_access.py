"""Agents that never reach their model: infrastructure errors that name the cause and the configured server."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading

import pytest
from model_server import Answer, Reply, failure
from proxied import OPENAI_KEY, HostAgent
from test_forwarding import ask, key

from pytest_harbor.errors import UnmetRequirement

CHAT = "/v1/chat/completions"
BODY = b'{"model": "model-x", "messages": []}'
HTML = Reply([b"<html>Welcome</html>"], headers=[("content-type", "text/html; charset=utf-8")])
UNKNOWN = failure(404, "The model `model-x` does not exist", "model_not_found")


@pytest.mark.parametrize(
    "reply",
    [
        UNKNOWN,
        failure(400, "Invalid model name passed in model=model-x"),
        failure(400, "model-x is not a valid model ID"),
        failure(422, "model 'model-x' not found, try pulling it first"),
        failure(405, "Method Not Allowed"),
        Reply([b"404 page not found"], 404, [("content-type", "text/plain")]),
        Reply([b""], 308, [("location", "https://elsewhere/")]),
        HTML,
    ],
)
def test_wrong_model_or_url_of_the_first_call(proxies, model_server, reply):
    model_server.script += [reply, failure(400, "messages must not be empty")]
    with proxies() as proxied:
        ask(proxied.url, CHAT, BODY, key(proxied))
        ask(proxied.url, CHAT, BODY, key(proxied))
    assert isinstance(proxied.error, UnmetRequirement)
    message = str(proxied.error)
    assert f"from {model_server.url}/v1/chat/completions for the model model-x; is the model's name right?" in message
    assert "Does the URL end with /v1? See --harbor-model, and OPENAI_BASE_URL or --harbor-openai-" in message
    assert proxied.url.removeprefix("http://") not in message


def test_message_quotes_the_servers_own_words(proxies, model_server):
    model_server.script.append(UNKNOWN)
    with proxies() as proxied:
        ask(proxied.url, CHAT, BODY, key(proxied))
    assert "first model call failed: 404 (The model `model-x` does not exist) from http" in str(proxied.error)


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_clients_raise_and_the_trial_is_an_error(proxies, model_server, vendor):
    model_server.script.append(UNKNOWN)
    with proxies() as proxied, contextlib.suppress(Exception):
        if vendor == "openai":
            proxied.openai().responses.create(model="model-x", input="hi")
        else:
            proxied.anthropic().messages.create(
                model="model-x", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
            )
    assert f"{vendor.upper()}_BASE_URL or --harbor-{vendor}-base-url" in str(proxied.error)


@pytest.mark.parametrize("reply", [UNKNOWN, HTML])
def test_after_a_successful_call_it_is_the_agents_own(proxies, model_server, reply):
    model_server.script += [Answer("ok"), reply]
    with proxies() as proxied:
        for _ in range(2):
            ask(proxied.url, CHAT, BODY, key(proxied))
    assert proxied.error is None


def test_a_call_that_succeeds_afterwards_settles_it(proxies, model_server):
    model_server.script += [UNKNOWN, Answer("ok")]
    with proxies() as proxied:
        for _ in range(2):
            ask(proxied.url, CHAT, BODY, key(proxied))
    assert proxied.error is None


def test_other_rejections_are_the_agents_own(proxies, model_server):
    model_server.script.append(failure(400, "temperature must be at most 2"))
    with proxies() as proxied:
        ask(proxied.url, CHAT, BODY, key(proxied))
    assert proxied.error is None


def test_rejected_key_names_the_server_and_the_variable(proxies, model_server):
    model_server.script.append(failure(401, "bad key"))
    with proxies() as proxied:
        ask(proxied.url, CHAT, BODY, key(proxied))
    assert f"401 (bad key) from {model_server.url}/v1/chat/completions" in str(proxied.error)
    assert "check OPENAI_API_KEY (or the variable that --harbor-openai-key names)" in str(proxied.error)


@pytest.mark.parametrize("answered", [False, True])
def test_server_that_never_answers(proxies, model_server, answered):
    gate = threading.Event()
    model_server.script += [*([Answer("ok")] if answered else []), Answer("late", gates={0: gate})]
    with proxies() as proxied:
        if answered:
            ask(proxied.url, CHAT, BODY, key(proxied))
        with contextlib.closing(http.client.HTTPConnection(proxied.url.removeprefix("http://"))) as connection:
            connection.request("POST", CHAT, BODY, dict(key(proxied)))
            model_server.wait_for(1 + answered)
    gate.set()
    if answered:
        assert proxied.error is None
    else:
        assert f"answered: the agent gave up on {model_server.url}/v1 after " in str(proxied.error)


def refused(url: str, path: str, headers, times: int = 1) -> None:
    for _ in range(times):
        assert ask(url, path, BODY, headers)[0] >= 400


def test_only_requests_without_the_trials_key(proxies, model_server):
    with proxies() as proxied:
        refused(proxied.url, CHAT, [("Authorization", f"Bearer {OPENAI_KEY}")], 10)
        refused(proxied.url, CHAT, [])
    assert isinstance(proxied.error, UnmetRequirement)
    assert "11 requests were refused: 401, no key of this trial was shown; " in str(proxied.error)
    assert "agent.log" in str(proxied.error)
    assert proxied.log.count("no key of this trial was shown (401)") == 1


def test_only_requests_to_unknown_paths(proxies, model_server):
    with proxies() as proxied:
        refused(proxied.url, "/v1/v1/chat/completions", key(proxied), 2)
        refused(proxied.url, CHAT, [])
        ask(proxied.url, "/v1/models", b"", key(proxied), "GET")
    assert (
        "never reached its model: 3 requests were refused: 404, POST /v1/v1/chat/completions is not supported"
        in str(proxied.error)
    )
    assert "401, no key of this trial was shown" in str(proxied.error)


def test_refused_requests_beside_calls_do_not_matter(proxies, model_server):
    model_server.script += [Answer("ok"), failure(400, "no")]
    for _ in range(2):
        with proxies() as proxied:
            refused(proxied.url, "/v1/props", key(proxied))
            ask(proxied.url, CHAT, BODY, key(proxied))
        assert proxied.error is None


def test_requests_during_grading_are_not_refused_calls(proxies, model_server):
    with proxies(graded=lambda: True) as proxied:
        refused(proxied.url, CHAT, key(proxied))
    assert proxied.error is None


@pytest.mark.parametrize(
    "model, before, expected",
    [
        ("", None, ""),
        ("model-a", None, "the model model-a is set for it"),
        ("", True, "in the baseline it calls one for this task"),
        ("model-a", False, ""),
    ],
)
def test_no_call_at_all(proxies, model_server, model, before, expected):
    with proxies(model=model, model_calls=before) as proxied:
        pass
    if expected:
        assert f"never reached its model: it made no model call, and {expected}" in str(proxied.error)
        assert not proxied.error.retry
    else:
        assert proxied.error is None
        assert "made no calls through the proxy" in proxied.result.warnings[0]


def test_no_call_of_an_agent_that_always_makes_one(proxies, model_server, monkeypatch):
    monkeypatch.setattr(HostAgent, "calls_models", True, raising=False)
    with proxies() as proxied:
        pass
    assert "the agent tester always calls one" in str(proxied.error)


def test_absolute_request_uri(proxies, model_server):
    model_server.script += [Answer("hello")] * 2
    with proxies() as proxied:
        status, _, body = ask(proxied.url, f"{proxied.url}{CHAT}", BODY, key(proxied))
        assert (status, json.loads(body)["choices"][0]["message"]["content"]) == (200, "hello")
        # As a client sends it that takes the proxy for an HTTP proxy.
        connection = http.client.HTTPConnection(proxied.url.removeprefix("http://"))
        with contextlib.closing(connection):
            connection.request("POST", f"http://model:80{CHAT}", BODY, dict(key(proxied)))
            assert connection.getresponse().status == 200
    assert [request.path for request in model_server.requests] == [CHAT] * 2
    assert proxied.calls[0]["path"] == CHAT


def test_older_clients_find_the_address(proxies, model_server):
    with proxies() as proxied:
        assert proxied.host["OPENAI_API_BASE"] == proxied.host["OPENAI_BASE_URL"]

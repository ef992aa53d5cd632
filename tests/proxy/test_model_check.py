"""The check of a model server: what is certain is reported, and nothing else."""

from __future__ import annotations

import json
import socket

import pytest
from model_server import Reply, failure

from pytest_harbor.proxy import Upstream, model_check
from pytest_harbor.proxy.model_check import find_model_problem


def models(*names: str, **fields: str) -> Reply:
    return Reply([json.dumps({"object": "list", "data": [{"id": name, **fields} for name in names]}).encode()])


def check(model_server, reply, model="model-x", vendor="openai", path="/v1", key="sk-0123456789"):
    """Check a model on a server that answers every request alike, or by path."""

    def respond(request):
        if isinstance(reply, dict):
            return reply.get(request.path.partition("?")[0], failure(404, "Not Found"))
        return reply

    model_server.script = [respond]
    return find_model_problem(vendor, Upstream(f"{model_server.url}{path}", key), model)


@pytest.mark.parametrize(
    "reply",
    [
        models("model-x"),
        models("model-x:latest"),
        models("other", "model-*"),
        models(),
        models("qwen.gguf", owned_by="llamacpp"),
        {"/v1/models": models("model-x-20260101"), "/v1/models/model-x": Reply([b'{"id": "model-x-20260101"}'])},
        failure(404, "Not Found"),
        failure(403, "You have insufficient permissions. Missing scopes: api.model.read"),
        failure(401, "You have insufficient permissions. Missing scopes: api.model.read"),
        failure(500, "oops"),
        failure(429, "slow down"),
        Reply([b""], 307, [("location", "http://127.0.0.1:9/")]),
        Reply([b"not json"]),
        Reply([b"[1, 2]"]),
        Reply([b'{"data": 7}']),
        Reply([b'{"data": [{"name": "x"}, 3]}']),
    ],
)
def test_what_is_not_certain_passes(model_server, reply):
    assert check(model_server, reply) == ""


@pytest.mark.parametrize(
    "names, hint",
    [
        (["model-y", "other"], "did you mean 'model-y'?"),
        (["vendor/model-x"], "did you mean 'vendor/model-x'?"),
        (["alpha", "beta"], "it has alpha, beta. If it accepts names that it does not list, use"),
    ],
)
def test_unlisted_model(model_server, names, hint):
    problem = check(model_server, {"/v1/models": models(*names)})
    assert f"{model_server.url}/v1 has no model 'model-x'; {hint}" in problem
    assert "--harbor-check-model=off" in problem


def test_variant_of_a_listed_model(model_server):
    assert check(model_server, {"/v1/models": models("vendor/model-x")}, model="vendor/model-x:free") == ""


def test_anthropic(model_server):
    assert "has no model 'model-x'" in check(model_server, {"/v1/models": models("claude")}, vendor="anthropic")
    assert model_server.requests[0].header("x-api-key") == "sk-0123456789"
    assert model_server.requests[0].header("anthropic-version")
    problem = check(model_server, failure(401, "invalid x-api-key"), vendor="anthropic")
    assert "refuses the key (401); check ANTHROPIC_API_KEY" in problem


def test_without_a_key(model_server):
    assert "requires a key (401); check OPENAI_API_KEY" in check(model_server, failure(401, "no key"), key="")
    assert model_server.requests[0].header("authorization") is None


@pytest.mark.parametrize("reply", [failure(404, "no"), Reply([b"<html>"], headers=[("content-type", "text/html")])])
def test_url_without_the_version(model_server, reply):
    problem = check(model_server, {"/models": reply, "/v1/models": models("model-x")}, path="")
    assert f"{model_server.url} serves its API at {model_server.url}/v1; add /v1 to OPENAI_BASE_URL" in problem
    assert check(model_server, reply, path="") == ""


def test_password_in_the_url_is_not_shown(model_server):
    model_server.close()
    url = model_server.url.replace("http://", "http://user:pass-word@")
    assert "pass-word" not in find_model_problem("openai", Upstream(f"{url}/v1"), "m")


def test_server_that_refuses_connections(model_server):
    model_server.close()
    problem = find_model_problem("openai", Upstream(f"{model_server.url}/v1"), "m")
    assert "cannot be reached: connection refused; check OPENAI_BASE_URL or --harbor-openai-base-url" in problem


def test_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(model_check, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        assert find_model_problem("openai", Upstream(url), "m") == ""


def test_blocked_sockets_pass(monkeypatch, model_server):
    def blocked(*args, **options):
        raise RuntimeError("A test tried to use socket.socket.")

    monkeypatch.setattr(socket, "create_connection", blocked)
    assert find_model_problem("openai", Upstream(f"{model_server.url}/v1"), "m") == ""

"""Real keys, and secrets of the agent, are in nothing that is kept or that an agent sees."""

from __future__ import annotations

import json

import openai
import pytest
from model_server import Answer, Reply, failure
from proxied import ANTHROPIC_KEY, OPENAI_KEY

from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.proxy import ProxyService, Upstream
from pytest_harbor.proxy.redact import Redactor

TOKEN = 'ghp_"quoted"\\secret-0123456789'


def everything(directory) -> str:
    return "\n".join(path.read_text() for path in sorted(directory.rglob("*")) if path.is_file())


@pytest.mark.parametrize("mode", ["live", "record", "auto"])
def test_no_file_has_a_secret(proxies, model_server, mode):
    echo = json.dumps({"choices": [], "you": f"{OPENAI_KEY} {TOKEN}"}).encode()
    headers = [("content-type", "application/json"), ("x-key", OPENAI_KEY)]
    model_server.script += [Answer("a"), Reply([echo], 403, headers), failure(400, f"bad {ANTHROPIC_KEY}"), Answer("b")]
    with proxies(mode, variables={"GITHUB_TOKEN": TOKEN, "HOME": "/root"}) as proxied:
        client = proxied.openai(max_retries=0)
        text = f"my key is {proxied.secret}, my token {TOKEN}"
        assert client.completions.create(model="model-a", prompt=text).choices[0].text == "a"
        with pytest.raises(openai.PermissionDeniedError) as error:
            client.completions.create(model="model-a", prompt="x")
        assert OPENAI_KEY not in f"{error.value.body} {error.value.response.headers}"
        with pytest.raises(Exception, match="400") as refused:
            proxied.anthropic().messages.create(model="m", max_tokens=1, messages=[])
        assert ANTHROPIC_KEY not in str(refused.value)
        client.completions.create(model="model-a", prompt="y")
    kept = everything(proxies.directory)
    for secret in (OPENAI_KEY, ANTHROPIC_KEY, proxied.secret, TOKEN, json.dumps(TOKEN)[1:-1]):
        assert secret not in kept
    assert "<secret>" in kept
    assert "<GITHUB_TOKEN>" in kept
    # The server itself gets what the agent said.
    assert TOKEN in model_server.requests[0].json["prompt"]


def test_a_recorded_secret_is_that_of_the_replaying_trial(proxies, model_server):
    def echo(request):
        return Answer(f"you said: {request.json['prompt']}")

    for mode in ("record", "replay"):
        model_server.script[:] = [echo]
        with proxies(mode, variables={"API_TOKEN": f"token-of-{mode}"}) as proxied:
            prompt = f"{proxied.secret} token-of-{mode}"
            answer = proxied.openai().completions.create(model="m", prompt=prompt).choices[0].text
        assert answer == f"you said: {prompt}"
    assert len(model_server.requests) == 1


def test_variables_that_hold_a_real_key_are_not_let_in(proxies, model_server):
    service = ProxyService(proxies.settings())
    service.admit(proxies.task, {"A": "harmless", "OPENAI_API_KEY": ""})
    with pytest.raises(UnmetRequirement, match="the variable B of the environment of hello holds a real key") as error:
        service.admit(proxies.task, {"A": "harmless", "B": f"prefix {ANTHROPIC_KEY}"})
    assert ANTHROPIC_KEY not in str(error.value)
    assert "--harbor-proxy=off" in str(error.value)


def test_a_server_without_a_key_gets_none(proxies, model_server):
    upstreams = {name: Upstream(f"{model_server.url}/v1") for name in ("openai", "anthropic")}
    with proxies(upstreams=upstreams) as proxied:
        proxied.openai().models.list()
        proxied.anthropic().models.list()
    for request in model_server.requests:
        assert not {"authorization", "x-api-key"} & {name.lower() for name, _ in request.headers}


def test_short_texts_and_empty_keys_are_no_secrets():
    redactor = Redactor([("", "key"), ("abc", "short"), ("0123456789", "long"), ("x0123456789", "longer")])
    assert redactor.hide("abc 0123456789 x0123456789") == "abc <long> <longer>"

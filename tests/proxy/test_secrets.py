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


def test_what_a_hook_gives_the_agent_is_hidden_too(proxies, model_server):
    model_server.script.append(Answer("a"))
    with proxies("record", variables={}) as proxied:
        # Hooks change the variables when the proxy is there already.
        proxied.context.work.variables["GITHUB_TOKEN"] = TOKEN
        proxied.context.work.variables["OPENAI_API_KEY"] = proxied.secret
        proxied.openai().completions.create(model="model-a", prompt=f"{proxied.secret} {TOKEN}")
    kept = everything(proxies.directory)
    assert json.dumps(TOKEN)[1:-1] not in kept
    assert "<secret> <GITHUB_TOKEN>" in kept


def test_no_cassette_brings_a_real_key_to_an_agent(proxies, model_server):
    model_server.script.append(Answer("<openai-key> <anthropic-key> <secret> <API_TOKEN>"))
    for mode in ("record", "auto"):
        with proxies(mode, variables={"API_TOKEN": TOKEN}) as proxied:
            answer = proxied.openai().completions.create(model="m", prompt="x").choices[0].text
    assert answer == f"<openai-key> <anthropic-key> {proxied.secret} {TOKEN}"


def test_a_word_that_stands_for_no_key_is_none(proxies, model_server):
    upstreams = {"openai": Upstream(f"{model_server.url}/v1", "on"), "anthropic": Upstream(f"{model_server.url}/v1")}
    service = ProxyService(proxies.settings(upstreams=upstreams))
    service.admit(proxies.task, {"A": "based on"})
    model_server.script.append(failure(400, "come on"))
    with proxies(upstreams=upstreams) as proxied, pytest.raises(openai.BadRequestError, match="come on") as error:
        proxied.openai().completions.create(model="m", prompt="x")
    assert error.value.response.headers["content-type"] == "application/json"
    assert model_server.requests[0].header("Authorization") == "Bearer on"


@pytest.mark.parametrize("name", [".env", "deep/er/config.toml"])
def test_agent_files_that_hold_a_real_key_are_not_let_in(proxies, tmp_path, name):
    service = ProxyService(proxies.settings())
    (tmp_path / "agent/deep/er").mkdir(parents=True)
    (tmp_path / "agent/main.py").write_text("print()")
    (tmp_path / "agent/link").symlink_to("nowhere")
    files = [(tmp_path / "agent", "/agent")]
    service.admit_setup("pip install x", files)
    file = tmp_path / "agent" / name
    file.write_bytes(b"\xff\n" + f"KEY={OPENAI_KEY}\n".encode())
    with pytest.raises(UnmetRequirement, match="holds a real key of the host") as error:
        service.admit_setup("pip install x", files)
    assert str(error.value).startswith(f"{file} ")
    assert OPENAI_KEY not in str(error.value)
    (tmp_path / "agent/.dockerignore").write_text("**/.env\n**/config.toml\n")
    service.admit_setup("pip install x", files)


def test_a_set_up_that_holds_a_real_key_is_not_let_in(proxies):
    service = ProxyService(proxies.settings())
    with pytest.raises(UnmetRequirement, match="the text of --harbor-agent-setup holds a real key") as error:
        service.admit_setup(f"login --key={ANTHROPIC_KEY}", [])
    assert ANTHROPIC_KEY not in str(error.value)


def test_short_texts_and_empty_keys_are_no_secrets():
    redactor = Redactor([("", "key"), ("abc", "short"), ("0123456789", "long"), ("x0123456789", "longer")])
    assert redactor.hide("abc 0123456789 x0123456789") == "abc <long> <longer>"

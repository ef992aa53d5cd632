"""Real keys and the agent's secrets: in no file, and never shown to an agent."""

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


def all_files(directory) -> str:
    return "\n".join(path.read_text() for path in sorted(directory.rglob("*")) if path.is_file())


@pytest.mark.parametrize("mode", ["live", "record", "auto"])
def test_no_file_contains_a_secret(proxies, model_server, mode):
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
    files = all_files(proxies.directory)
    for secret in (OPENAI_KEY, ANTHROPIC_KEY, proxied.secret, TOKEN, json.dumps(TOKEN)[1:-1]):
        assert secret not in files
    assert "<secret>" in files
    assert "<GITHUB_TOKEN>" in files
    # The server gets what the agent sent.
    assert TOKEN in model_server.requests[0].json["prompt"]


def test_replay_has_the_secrets_of_its_own_trial(proxies, model_server):
    def echo(request):
        return Answer(f"you sent: {request.json['prompt']}")

    for mode in ("record", "replay"):
        model_server.script[:] = [echo]
        with proxies(mode, variables={"API_TOKEN": f"token-of-{mode}"}) as proxied:
            prompt = f"{proxied.secret} token-of-{mode}"
            answer = proxied.openai().completions.create(model="m", prompt=prompt).choices[0].text
        assert answer == f"you sent: {prompt}"
    assert len(model_server.requests) == 1


def test_real_key_in_environment_variable_is_rejected(proxies, model_server):
    service = ProxyService(proxies.settings())
    service.admit(proxies.task, {"A": "harmless", "OPENAI_API_KEY": ""})
    with pytest.raises(UnmetRequirement, match="the environment variable B of hello contains a real key") as error:
        service.admit(proxies.task, {"A": "harmless", "B": f"prefix {ANTHROPIC_KEY}"})
    assert ANTHROPIC_KEY not in str(error.value)
    assert "--harbor-proxy=off" in str(error.value)


def test_server_without_key_gets_no_credentials(proxies, model_server):
    upstreams = {name: Upstream(f"{model_server.url}/v1") for name in ("openai", "anthropic")}
    with proxies(upstreams=upstreams) as proxied:
        proxied.openai().models.list()
        proxied.anthropic().models.list()
    for request in model_server.requests:
        assert not {"authorization", "x-api-key"} & {name.lower() for name, _ in request.headers}


def test_variables_added_by_a_hook_are_hidden(proxies, model_server):
    model_server.script.append(Answer("a"))
    with proxies("record", variables={}) as proxied:
        # Hooks change the environment variables after the proxy starts.
        proxied.context.work.variables["GITHUB_TOKEN"] = TOKEN
        proxied.context.work.variables["OPENAI_API_KEY"] = proxied.secret
        proxied.openai().completions.create(model="model-a", prompt=f"{proxied.secret} {TOKEN}")
    files = all_files(proxies.directory)
    assert json.dumps(TOKEN)[1:-1] not in files
    assert "<secret> <GITHUB_TOKEN>" in files


def test_cassette_does_not_reveal_a_real_key(proxies, model_server):
    model_server.script.append(Answer("<openai-key> <anthropic-key> <secret> <API_TOKEN>"))
    for mode in ("record", "auto"):
        with proxies(mode, variables={"API_TOKEN": TOKEN}) as proxied:
            answer = proxied.openai().completions.create(model="m", prompt="x").choices[0].text
    assert answer == f"<openai-key> <anthropic-key> {proxied.secret} {TOKEN}"


def test_short_dummy_key_is_not_a_secret(proxies, model_server):
    upstreams = {"openai": Upstream(f"{model_server.url}/v1", "on"), "anthropic": Upstream(f"{model_server.url}/v1")}
    service = ProxyService(proxies.settings(upstreams=upstreams))
    service.admit(proxies.task, {"A": "based on"})
    model_server.script.append(failure(400, "come on"))
    with proxies(upstreams=upstreams) as proxied, pytest.raises(openai.BadRequestError, match="come on") as error:
        proxied.openai().completions.create(model="m", prompt="x")
    assert error.value.response.headers["content-type"] == "application/json"
    assert model_server.requests[0].header("Authorization") == "Bearer on"


@pytest.mark.parametrize("name", [".env", "deep/er/config.toml"])
def test_real_key_in_agent_file_is_rejected(proxies, tmp_path, name):
    service = ProxyService(proxies.settings())
    (tmp_path / "agent/deep/er").mkdir(parents=True)
    (tmp_path / "agent/main.py").write_text("print()")
    (tmp_path / "agent/link").symlink_to("nowhere")
    files = [(tmp_path / "agent", "/agent")]
    service.admit_setup("pip install x", files)
    file = tmp_path / "agent" / name
    file.write_bytes(b"\xff\n" + f"KEY={OPENAI_KEY}\n".encode())
    with pytest.raises(UnmetRequirement, match="contains a real key of the host") as error:
        service.admit_setup("pip install x", files)
    assert str(error.value).startswith(f"{file} ")
    assert OPENAI_KEY not in str(error.value)
    (tmp_path / "agent/.dockerignore").write_text("**/.env\n**/config.toml\n")
    service.admit_setup("pip install x", files)


def test_real_key_in_agent_setup_is_rejected(proxies):
    service = ProxyService(proxies.settings())
    with pytest.raises(UnmetRequirement, match="--harbor-agent-setup contains a real key") as error:
        service.admit_setup(f"login --key={ANTHROPIC_KEY}", [])
    assert ANTHROPIC_KEY not in str(error.value)


def test_short_and_empty_texts_are_not_secrets():
    redactor = Redactor([("", "key"), ("abc", "short"), ("0123456789", "long"), ("x0123456789", "longer")])
    assert redactor.hide("abc 0123456789 x0123456789") == "abc <long> <longer>"

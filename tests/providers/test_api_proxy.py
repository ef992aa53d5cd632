"""The proxy with run_trial()."""

import threading

import pytest
from model_server import Answer

from pytest_harbor import ProxySettings, TrialBudget, TrialSettings, run_trial, upstreams_of
from pytest_harbor.agent import CommandAgent

KEY = "sk-real-openai-0123456789"
ASK = """
import json, os, urllib.request
body = json.dumps({"model": "model-a", "prompt": "hi"}).encode()
headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/completions", body, headers)
print("received", json.load(urllib.request.urlopen(request))["choices"][0]["text"])
"""


@pytest.fixture
def run(namespace, tmp_path, make_task, model_server):
    task = make_task("tb2/asks", test="echo 1 >/logs/verifier/reward.txt\n")
    upstreams = upstreams_of({"OPENAI_BASE_URL": f"{model_server.url}/v1", "OPENAI_API_KEY": KEY})

    def run(mode="live", **settings):
        return run_trial(
            task,
            CommandAgent(f"cat >/tmp/ask.py <<'END'\n{ASK}\nEND\npython3 /tmp/ask.py"),
            settings=TrialSettings(**settings),
            provider=namespace,
            results=tmp_path / "results",
            proxy=ProxySettings(mode, upstreams, tmp_path / "cassettes", budget=TrialBudget(turns=2)),
        )

    return run


def test_record_replay_and_cleanup(run, model_server):
    model_server.script.append(Answer("hello"))
    recorded = run("record")
    model_server.close()
    replayed = run("replay")
    for result, times in ((recorded, 0), (replayed, 1)):
        assert (result.outcome, result.usage.requests, result.usage.replayed) == ("passed", 1, times), result.reason
    assert "harbor-proxy" not in {thread.name for thread in threading.enumerate()}


def test_agent_file_with_real_key_is_refused_first(run, model_server, tmp_path):
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    result = run(agent_files=[(tmp_path / ".env", "/agent/.env")], agent_setup="cp /agent/.env /opt")
    assert (result.outcome, result.phase, result.retries) == ("error", "build", [])
    assert f"{tmp_path / '.env'} contains a real key of the host" in result.reason
    assert KEY not in result.reason

"""Trials whose agents call models through the proxy, from the host and from environments."""

import contextlib
import json
import secrets
import sys

import pytest
from model_server import Answer, Tokens

from pytest_harbor.agent import CommandAgent, HostCommandAgent, as_agent
from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.image import ImageStore
from pytest_harbor.proxy import ProxyService, ProxySettings, upstreams_of
from pytest_harbor.task import Task
from pytest_harbor.trial import Trial, TrialPlace, TrialSettings

IMAGE = "python:3.12-slim"
OPENAI_KEY = "sk-real-openai-0123456789"
ANTHROPIC_KEY = "sk-ant-real-0123456789"

# An agent that uses only the standard library. It writes the answers and its own environment variables to files.
AGENT = """
import json, os, urllib.request
def ask(text):
    body = json.dumps({"model": "model-a", "messages": [{"role": "user", "content": text}]}).encode()
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
"""
WORK = """
received = ask("What should I write? I am " + os.environ["HARBOR_TRIAL_ID"])
open("answer.txt", "w").write(received + ask("And then? After " + received))
open("variables.json", "w").write(json.dumps(dict(os.environ)))
"""
# The verifier gets none of the agent's environment variables, and the agent's proxy port is closed.
TEST = """
cat > /tmp/check.py <<'END'
import json, os, urllib.parse, socket
agent = json.load(open("/app/variables.json"))
assert not [name for name in os.environ if name.startswith(("OPENAI_", "ANTHROPIC_"))], "variables"
address = urllib.parse.urlsplit(agent["OPENAI_BASE_URL"])
try:
    socket.create_connection((address.hostname, address.port), 5)
except OSError:
    pass
else:
    raise AssertionError("the proxy is still open")
everything = b""
for process in os.listdir("/proc"):
    if process.isdigit():
        try:
            everything += open(f"/proc/{process}/environ", "rb").read()
        except OSError:
            pass
assert b"-real-" not in everything, "a real key"
END
python3 /tmp/check.py && grep -q "^firstsecond$" /app/answer.txt && echo 1 > /logs/verifier/reward.txt
"""


class Trials:
    """Runs trials of one task."""

    def __init__(self, provider, directory, make_task, upstream):
        self.provider = provider
        self.directory = directory
        self.make_task = make_task
        variables = {
            "OPENAI_BASE_URL": f"{upstream}/v1",
            "OPENAI_API_KEY": OPENAI_KEY,
            "ANTHROPIC_BASE_URL": upstream,
            "ANTHROPIC_API_KEY": ANTHROPIC_KEY,
        }
        self.upstreams = upstreams_of(variables)
        self.task = None
        self.trial = None
        self._services = contextlib.ExitStack()

    def write(self, toml="", test=TEST):
        text = f'[environment]\ndocker_image = "{IMAGE}"\nworkdir = "/app"\n{toml}'
        self.task = Task.load(self.make_task("tb2/asks", text, test=test))

    def __call__(self, agent, mode="live", **settings):
        service = ProxyService(ProxySettings(mode, self.upstreams, cassettes=self.directory / "cassettes"))
        self._services.callback(service.close)
        self.trial = Trial(
            self.task,
            self.provider,
            ImageStore(self.provider, self.directory, policy="auto"),
            TrialPlace("run", self.directory / f"asks__{secrets.token_hex(4)}"),
            TrialSettings(**settings),
            services=[service],
        )
        try:
            return self.trial.run(agent)
        finally:
            self.trial.stop()

    @property
    def kept(self):
        files = [path for path in self.directory.rglob("*") if path.is_file()]
        return b"\n".join(path.read_bytes() for path in files)

    def close(self):
        self._services.close()


@pytest.fixture
def run(provider, tmp_path, make_task, model_server):
    trials = Trials(provider, tmp_path, make_task, model_server.url)
    yield trials
    trials.close()


def in_container(work=WORK):
    return CommandAgent(f"cat > agent.py <<'END'\n{AGENT}\n{work}\nEND\npython3 agent.py")


@pytest.mark.parametrize("toml", ["", "allow_internet = false\n"], ids=["network", "no network"])
def test_record_and_replay_in_the_environment(run, model_server, toml):
    run.write(toml)
    model_server.script += [Answer("first", tokens=Tokens(20, 5, 9, 3)), Answer("second")]
    recorded = run(in_container(), "record", model="model-b")
    assert (recorded.outcome, recorded.reward) == ("passed", 1.0), (run.trial.directory / "agent/agent.log").read_text()
    assert recorded.usage.requests == 2
    assert (recorded.usage.input_tokens, recorded.usage.output_tokens) == (31, 16)
    assert [request.json["model"] for request in model_server.requests] == ["model-b"] * 2
    assert model_server.requests[0].header("Authorization") == f"Bearer {OPENAI_KEY}"
    model_server.close()
    replayed = run(in_container(), "replay", model="model-b")
    assert (replayed.outcome, replayed.reward) == ("passed", 1.0)
    assert (replayed.usage.requests, replayed.usage.replayed) == (2, 2)
    for secret in (OPENAI_KEY, ANTHROPIC_KEY):
        assert secret.encode() not in run.kept
    assert b"sk-harbor-" not in b"".join(path.read_bytes() for path in run.directory.glob("cassettes/*/*/*"))


def test_proxy_closes_with_the_agent_phase(run, model_server):
    later = 'import time\nask("now")\nif os.fork() == 0:\n    while not os.path.exists("/tests"): time.sleep(0.05)\n'
    later += '    try: ask("later")\n    except OSError as error: open("/app/late.txt", "w").write(str(error))\n'
    later += '    open("/app/done.txt", "w").close()\n'
    wait = "for _ in $(seq 300); do [ -e /app/done.txt ] && break; sleep 0.1; done\n"
    run.write(test=wait + "[ -s /app/late.txt ] && echo 1 > /logs/verifier/reward.txt\n")
    model_server.script += [Answer("a"), Answer("b")]
    assert run(in_container(later)).outcome == "passed"
    assert len(model_server.requests) == 1


def test_host_agent_gets_the_trial_key(run, model_server, monkeypatch, tmp_path):
    for name, value in (("OPENAI_API_KEY", OPENAI_KEY), ("ANTHROPIC_API_KEY", ANTHROPIC_KEY)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    run.write(test="echo 1 > /logs/verifier/reward.txt\n")
    script = tmp_path / "agent.py"
    script.write_text(AGENT + 'print("RECEIVED", ask("hi"), [k for k, v in os.environ.items() if "-real-" in v])')
    model_server.script.append(Answer("hello"))
    assert run(HostCommandAgent(f"{sys.executable} {script}")).outcome == "passed"
    assert "RECEIVED hello []" in (run.trial.directory / "agent/agent.log").read_text()
    assert run.trial.usage.requests == 1


def test_callable_and_its_commands_reach_the_proxy(run, model_server):
    run.write(test="echo 1 > /logs/verifier/reward.txt\n")
    model_server.script += [Answer("to the host"), Answer("to the environment")]
    received = []

    def solve(task, environment):
        import openai

        with openai.OpenAI(
            base_url=environment.variables["OPENAI_BASE_URL"], api_key=environment.variables["OPENAI_API_KEY"]
        ) as client:
            received.append(client.completions.create(model="model-a", prompt="x").choices[0].text)
        result = environment.exec(["python3", "-c", AGENT + 'print(ask("x"))'])
        received.append(result.output.strip())

    assert run(as_agent(solve)).outcome == "passed"
    assert received == ["to the host", "to the environment"]


def test_real_key_in_environment_table_is_refused(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    run.write('[environment.env]\nTHE_KEY = "${OPENAI_API_KEY}"\n')
    with pytest.raises(UnmetRequirement, match="the environment variable THE_KEY of asks contains a real key"):
        run(in_container())
    assert run.trial.environment is None
    assert run.trial.result.phase == "start"


def test_oracle_gets_no_proxy(run, make_task):
    path = make_task(
        "tb2/solved",
        f'[environment]\ndocker_image = "{IMAGE}"\n',
        test='[ "$(cat /variables)" = none ] && echo 1 > /logs/verifier/reward.txt\n',
        solution='echo "${OPENAI_BASE_URL-none}" > /variables\n',
    )
    run.task = Task.load(path)
    result = run(as_agent("oracle"), "replay")
    assert (result.outcome, result.usage) == ("passed", None)
    assert not (run.trial.directory / "proxy").exists()


def test_agent_cannot_forge_the_recorded_calls(run, model_server):
    run.write()
    model_server.script += [Answer("first"), Answer("second")]
    forged = "for name in ('proxy/calls.jsonl', 'host/transcript.jsonl', 'trial.json'):\n"
    forged += "    os.makedirs(os.path.dirname('/logs/' + name), exist_ok=True)\n"
    forged += "    open('/logs/' + name, 'w').write('forged')\n"
    assert run(in_container(WORK + forged)).outcome == "passed"
    assert b"forged" not in b"".join(p.read_bytes() for p in run.trial.directory.rglob("*.json*") if p.is_file())
    lines = (run.trial.directory / "proxy" / "calls.jsonl").read_text().splitlines()
    calls = [json.loads(line) for line in lines]
    assert [call["request"]["messages"][0]["content"].split("?")[0] for call in calls] == [
        "What should I write",
        "And then",
    ]

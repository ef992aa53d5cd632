"""What would keep every trial from running is one usage error before the first build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import fake_provider
import pytest
from model_server import Reply, failure

ALL = "--harbor-dataset=tb2"
VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
KEYS = "set OPENAI_API_KEY or ANTHROPIC_API_KEY, or name a server that needs none with --harbor-openai-base-url"
COMMAND = "--harbor-agent-command=run"


@pytest.fixture
def tasks(project, monkeypatch):
    """Two tasks whose trials pass without an engine, and no model settings."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    project.rewards(a=1.0, b=1.0)
    return project


def refused(outcome, *messages: str) -> None:
    """Assert that a run was refused with exactly these messages, each once."""
    assert outcome.ret == 4, str(outcome)
    for message in messages:
        assert f"{outcome.out}\n{outcome.err}".count(message) == 1, str(outcome)
    assert f"{outcome.out}\n{outcome.err}".count("ERROR: ") == len(messages), str(outcome)
    outcome.shows_no_bug()


def test_openai_agent_without_a_key(tasks):
    outcome = tasks.run(ALL, "--harbor-agent=openai", "--harbor-model=m", "--harbor-attempts=3")
    refused(outcome, "ERROR: agent openai: no model server is set; set OPENAI_API_KEY, or OPENAI_BASE_URL for your own")
    assert not list(tasks.path.glob("harbor-results/2*"))


@pytest.mark.slow
def test_workers_report_it_once(tasks):
    words = ["--harbor-agent=openai", "--harbor-model=m", "-n", "2"]
    refused(tasks.run(ALL, *words, subprocess=True), "ERROR: agent openai: no model server is set")
    tasks.file("test_unit.py", "def test_one(): pass\n")
    assert tasks.run(ALL, *words, "test_unit.py", subprocess=True).ret == 0


def test_everything_wrong_is_listed_at_once(tasks, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 << 20))
    outcome = tasks.run(ALL, "--harbor-agent=openai")
    refused(
        outcome,
        "ERROR: agent openai: no model is set; give --harbor-model=NAME",
        "ERROR: agent openai: no model server is set",
        "ERROR: only 3 MB are free for results in ",
    )


def test_listed_with_an_engine_that_does_not_answer(project, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    project.task("tb2/a")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    outcome = project.run(ALL, "--harbor-agent=openai", "--harbor-model=m", "--harbor-environment=docker")
    refused(outcome, "/nonexistent.sock", "ERROR: agent openai: no model server is set")


@pytest.mark.parametrize("agent", ["--harbor-agent=openai", COMMAND])
@pytest.mark.parametrize("mode", ["live", "record", "auto"])
def test_proxy_without_a_key(tasks, agent, mode):
    outcome = tasks.run(ALL, agent, "--harbor-model=m", f"--harbor-proxy={mode}")
    refused(outcome, f"--harbor-proxy={mode} has no API key; {KEYS}")


def test_replay_without_cassettes(tasks):
    message = "ERROR: agent run: there are no cassettes in "
    refused(tasks.run(ALL, COMMAND, "--harbor-agent-name=run", "--harbor-proxy=replay"), message)
    tasks.file("cassettes/tb2/a/run.1.json", "{}")
    tasks.run(ALL, COMMAND, "--harbor-proxy=replay").lacks("there are no cassettes")


def test_proxy_names_the_variable_of_the_key(tasks):
    outcome = tasks.run(ALL, COMMAND, "--harbor-proxy=live", "--harbor-openai-key=MY_KEY")
    refused(outcome, "has no API key; set MY_KEY or ANTHROPIC_API_KEY")


def test_what_needs_no_key(tasks):
    for words in (
        ["--harbor-agent=nop", "--harbor-proxy=live"],
        ["--harbor-agent=oracle", "--harbor-proxy=record"],
        [COMMAND, "--harbor-model=m"],
        ["--harbor-agent=nop", "--harbor-proxy=replay"],
        ["--harbor-agent=openai", "--harbor-model=m", "--setup-only"],
        ["--harbor-agent=openai", "--harbor-model=m", "--collect-only"],
    ):
        tasks.run(ALL, *words).lacks("no model server is set", "has no API key")
    tasks.file("cassettes/tb2/a/run.1.json", "{}")
    tasks.run(ALL, COMMAND, "--harbor-proxy=auto").lacks("has no API key")


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "localhost/v1", "https:///v1", "ftp://host/v1"])
def test_malformed_url(tasks, monkeypatch, url):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    words = ["--harbor-agent=openai", "--harbor-model=m"]
    refused(tasks.run(ALL, *words), f"agent openai: OPENAI_BASE_URL={url} is not a URL; use http://HOST:PORT/v1")
    outcome = tasks.run(ALL, *words, "--harbor-proxy=live")
    refused(
        outcome, f"agent openai: {url!r} is not the URL of a model server; use http(s)://HOST[:PORT][/PATH] in OPENAI_"
    )


def test_disk_of_the_images(tasks, monkeypatch):
    place = Path("/var/lib/images")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=(3 if path == place else 99) << 20))
    monkeypatch.setattr(fake_provider.FakeProvider, "storage", place, raising=False)
    refused(tasks.run(ALL, "--harbor-agent=nop"), f"ERROR: only 3 MB are free for images in {place}; free some, as")


def test_malformed_url_of_the_agent(tasks):
    outcome = tasks.run(ALL, COMMAND, "--harbor-agent-env=ANTHROPIC_BASE_URL=localhost:8000")
    refused(outcome, "--harbor-agent-env: ANTHROPIC_BASE_URL=localhost:8000 is not a URL; use http(s)://HOST[:PORT]")


CALLABLES = """
def one(x): pass
def three(task, environment, model): pass
def named(*, task, environment): pass
def steps(task, environment): yield 1
async def async_steps(task, environment): yield 1
class Agent:
    def __init__(self, task, environment): pass
    def run(self, task, environment): pass
    def __call__(self, task, environment): pass
agent = Agent(1, 2)
def fine(task, environment, model="m"): pass
def also_fine(*args): pass
"""


@pytest.mark.parametrize(
    "name, message",
    [
        ("one", "my_agent.py:one takes (x), and agents are called with (task, environment); let it take"),
        (
            "three",
            "three takes (task, environment, model), and agents are called with (task, environment); let it take",
        ),
        ("named", "takes (*, task, environment), and"),
        ("steps", "is a generator, so calling it runs nothing; use return instead of yield"),
        ("async_steps", "is a generator"),
        ("Agent", "my_agent.py:Agent is a class; give a function"),
        ("Agent.run", "takes (self, task, environment), and"),
    ],
)
def test_callable_that_cannot_be_an_agent(tasks, name, message):
    tasks.file("my_agent.py", CALLABLES)
    refused(tasks.run(ALL, f"--harbor-agent=my_agent.py:{name}"), message)


@pytest.mark.parametrize("name", ["fine", "also_fine", "agent", "agent.run"])
def test_callable_that_can_be_an_agent(tasks, name):
    tasks.file("my_agent.py", CALLABLES)
    outcome = tasks.run(ALL, f"--harbor-agent=my_agent.py:{name}")
    assert outcome.ret == 0, str(outcome)
    outcome.has(f"my_agent.{name}")


def test_wrong_callable_of_a_fixture(tasks):
    tasks.file("tb2/conftest.py", "import pytest\n@pytest.fixture\ndef harbor_agent(): return lambda task: None\n")
    outcome = tasks.run(ALL)
    assert outcome.counts == {"errors": 2}
    outcome.has("takes (task), and agents are called with (task, environment)")


@pytest.mark.parametrize(
    "command", ["nosuchprogram --flag", "./run.sh", "/nonexistent/run", "cd / && X=1 Y=2 nosuchprogram", "X=1 ./run.sh"]
)
def test_host_command_that_does_not_exist(tasks, command):
    word = next(word for word in command.split() if "run" in word or "nosuch" in word)
    outcome = tasks.run(ALL, f"--harbor-agent-command={command}", "--harbor-agent-where=host")
    refused(outcome, f"ERROR: agent command: {word}: ")
    outcome.has("not found on the host, or not executable; ")


@pytest.mark.parametrize(
    "command", ["true", "true && nosuchprogram", "cd / && ./run.sh", "nosuchprogram || true", "$PROGRAM"]
)
def test_host_command_that_may_exist(tasks, command):
    tasks.run(ALL, f"--harbor-agent-command={command}", "--harbor-agent-where=host").lacks("not found on the host")


def test_agents_with_the_same_problem_are_named_together(tasks):
    tables = [f'[[agents]]\nname = "{name}"\nagent = "openai"\nmodel = "m"\n' for name in ("small", "large")]
    tasks.file("agents.toml", "".join(tables) + '[[agents]]\nname = "idle"\nagent = "nop"\n')
    outcome = tasks.run(ALL, "--harbor-agents=agents.toml")
    refused(outcome, "ERROR: agents small, large: no model server is set")


def test_unit_tests_need_no_agent_settings(tasks):
    tasks.ini("harbor_dataset = tb2", "harbor_agent = openai", "harbor_model = m")
    tasks.file("test_unit.py", "def test_one(): pass\n")
    assert tasks.run("test_unit.py").ret == 0
    refused(tasks.run("tb2"), "ERROR: agent openai: no model server is set")
    tasks.ini("harbor_dataset = tb2", "harbor_agent = nosuchmodule:solve")
    assert tasks.run("test_unit.py").ret == 0


MARKED = """
import pytest
@pytest.mark.harbor(dataset="tb2")
def test_mine(harbor_trial): pass
"""


def test_tests_that_only_a_mark_gives_tasks(tasks):
    tasks.file("test_mine.py", MARKED)
    refused(tasks.run("test_mine.py", "--harbor-agent=openai", "--harbor-model=m"), "no model server is set")


@pytest.mark.slow
def test_tests_that_only_a_mark_gives_tasks_in_workers(tasks):
    tasks.file("test_mine.py", MARKED)
    words = ["test_mine.py", "--harbor-agent=openai", "--harbor-model=m", "-n", "2"]
    refused(tasks.run(*words, subprocess=True), "no model server is set")


def test_overridden_agents_are_not_checked(tasks):
    words = [ALL, "--harbor-agent=openai", "--harbor-model=m"]
    tasks.file("tb2/conftest.py", "import pytest\n@pytest.fixture\ndef harbor_agent(): return 'nop'\n")
    assert tasks.run(*words).ret == 0
    tasks.file("tb2/conftest.py", "")
    conftest = tasks.path / "conftest.py"
    conftest.write_text(conftest.read_text() + "\ndef pytest_harbor_agent(task): return 'nop'\n")
    assert tasks.run(*words).ret == 0


def test_unlisted_model(tasks, monkeypatch, model_server):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    for words in (["--harbor-agent=openai"], [COMMAND, "--harbor-proxy=live"]):
        outcome = tasks.run(ALL, *words, "--harbor-model=model-c")
        refused(outcome, f"the model server {model_server.url}/v1 has no model 'model-c'; did you mean 'model-")
    assert {request.path for request in model_server.requests} == {"/v1/models", "/v1/models/model-c"}
    tasks.run(ALL, COMMAND, "--harbor-proxy=live", "--harbor-model=model-a").lacks("has no model")
    before = len(model_server.requests)
    for words in (["--harbor-proxy=live", "--harbor-check-model=off"], ["--harbor-proxy=replay"]):
        tasks.run(ALL, COMMAND, *words, "--harbor-model=model-c").lacks("has no model")
    assert len(model_server.requests) == before


def test_each_server_is_asked_once(tasks, monkeypatch, model_server):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    tables = [f'[[agents]]\nname = "{name}"\ncommand = "run"\nmodel = "model-a"\n' for name in ("x", "y")]
    tasks.file("agents.toml", "".join(tables))
    tasks.run(ALL, "--harbor-agents=agents.toml", "--harbor-proxy=live", "--harbor-attempts=2")
    assert [request.path for request in model_server.requests] == ["/v1/models"]


def test_model_of_either_server(tasks, monkeypatch, model_server):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    tasks.run(ALL, COMMAND, "--harbor-proxy=live", "--harbor-model=model-a").lacks("ERROR: ")
    outcome = tasks.run(ALL, COMMAND, "--harbor-proxy=live", "--harbor-model=model-c")
    refused(outcome, "has no model 'model-c'")
    outcome.has(
        "the model server http://127.0.0.1:9/v1 cannot be reached: connection refused; check ANTHROPIC_BASE_URL"
    )


def test_url_without_the_version(tasks, monkeypatch, model_server):
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    outcome = tasks.run(ALL, "--harbor-agent=openai", "--harbor-model=model-a")
    refused(
        outcome, f"the model server {model_server.url} serves its API at {model_server.url}/v1; add /v1 to OPENAI_BASE"
    )


PRICES = "[models]\nown = { input = 1.0, output = 2.0 }\n"
LIMITS = ["--harbor-max-cost=1", "--harbor-session-budget=5"]


@pytest.mark.parametrize("limit", LIMITS)
def test_limit_in_dollars_without_a_price(tasks, monkeypatch, limit):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    tasks.file("prices.toml", PRICES)
    run = [ALL, COMMAND, "--harbor-proxy=live", "--harbor-check-model=off", limit]
    flag = limit.partition("=")[0]
    refused(
        tasks.run(*run, "--harbor-model=other"),
        f"there is no price for the model 'other', so {flag} cannot be enforced; add its price with --harbor-prices=",
    )
    for words in (["--harbor-model=own", "--harbor-prices=prices.toml"], ["--harbor-model=gpt-5-mini"], []):
        tasks.run(*run, *words).lacks("no price")
    tasks.run(*run[:-1], "--harbor-model=other", "--harbor-session-budget=9tokens").lacks("no price")


def test_model_of_a_vendor_without_a_key(tasks):
    tasks.file("agents.toml", '[[agents]]\nname = "mine"\ncommand = "run"\nmodel = "gpt-5-mini"\n')
    run = [ALL, "--harbor-agents=agents.toml"]
    refused(tasks.run(*run), "agent mine: gpt-5-mini needs a key, and none is passed; give --harbor-proxy=live, ")
    tasks.run(*run, "--collect-only").lacks("needs a key")
    tasks.run(*run, "--harbor-check-model=off").lacks("needs a key")
    tasks.run(*run, "--harbor-agent-env=GEMINI_API_KEY=x").lacks("needs a key")
    given = [ALL, "--harbor-model=claude-sonnet-4-5"]
    refused(tasks.run(*given, '--harbor-agent-command=KEY_KEY="$OPENAI_API_KEY" run'), "claude-sonnet-4-5 needs a key")
    for line in ("run --api-key abc", "X_KEY=abc run", "run --base http://localhost:8000/v1"):
        tasks.run(*given, f"--harbor-agent-command={line}").lacks("needs a key")
    tasks.task("tb2/c", '[agent.env]\nANTHROPIC_API_KEY = "x"\n')
    tasks.run(*given, COMMAND).lacks("needs a key")


def test_collecting_checks_a_recipe(tasks):
    tasks.file("agents.toml", '[[agents]]\nname = "mine"\ncommand = "run"\nfiles = ["program:/opt/program"]\n')
    for words in (["--harbor-agents=agents.toml"], [COMMAND, "--harbor-agent-files=program:/opt/program"]):
        refused(tasks.run(ALL, *words, "--collect-only", "-q"), "program does not exist; give the path of a file")
    tasks.file("program", "")
    assert len(tasks.ids(ALL, "--harbor-agents=agents.toml")) == 2
    tasks.ini("harbor_agents = agents.toml")
    (tasks.path / "program").unlink()
    # An editor that lists the tests of a project needs no programs.
    assert len(tasks.ids(ALL)) == 2


def test_refused_key(tasks, monkeypatch, model_server):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    model_server.script = [lambda request: failure(401, "bad key sk-wrong-0123456789")]
    outcome = tasks.run(ALL, "--harbor-agent=openai", "--harbor-model=model-a")
    refused(outcome, f"the model server {model_server.url}/v1 refuses the key (401); check OPENAI_API_KEY and OPENAI_")
    outcome.lacks("sk-wrong")


def test_probe_asks_for_one_token(tasks, monkeypatch, model_server):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    words = [ALL, COMMAND, "--harbor-proxy=live", "--harbor-check-model=probe"]
    model_server.script.append(Reply([json.dumps({"choices": []}).encode()]))
    tasks.run(*words, "--harbor-model=hidden").lacks("refuses the model")
    assert model_server.requests[-1].json["max_tokens"] == 1
    model_server.script.append(failure(400, "Invalid model name passed in model=model-c"))
    refused(tasks.run(*words, "--harbor-model=model-c"), "refuses the model 'model-c': 400 ")

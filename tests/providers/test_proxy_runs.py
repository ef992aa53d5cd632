"""Complete pytest runs whose agents call models through the proxy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from model_server import Answer, Tokens, failure

from pytest_harbor.proxy.cassette import Cassette, RecordedCall, cassette_path

EXAMPLES = Path(__file__).parents[2] / "examples"
# No client library: importing one would slow down each process.
AGENT = """
import json
import urllib.request

def solve(task, environment):
    url, key = (environment.variables[f"OPENAI_{name}"] for name in ("BASE_URL", "API_KEY"))
    body = json.dumps({"model": "model-a", "prompt": task.instruction}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/completions", body, headers)) as answer:
        output = json.load(answer)["choices"][0]["text"]
    environment.exec(["sh", "-c", 'printf %s "$1" >/answer', "sh", output])
"""
TOML = '[environment]\ndocker_image = "python:3.12-slim"\n'
TEST = '[ "$(cat /answer)" = yes ] && echo 1 >/logs/verifier/reward.txt || echo 0 >/logs/verifier/reward.txt\n'

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("namespace")]


class Runs:
    """Runs of pytest in a directory with a dataset and an agent."""

    def __init__(self, path, server):
        self.path = path
        self.server = server
        (path / "my_agent.py").write_text(AGENT)

    def __call__(self, *args, agent="my_agent.py:solve"):
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--harbor-environment=namespace"]
        words += ["--harbor-dataset=tb2", *([f"--harbor-agent={agent}"] if agent else []), *args]
        variables = {**os.environ, "OPENAI_BASE_URL": f"{self.server.url}/v1", "OPENAI_API_KEY": "sk-real-0123456789"}
        done = subprocess.run(words, cwd=self.path, env=variables, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    @property
    def results(self):
        file = max(self.path.glob("harbor-results/*/results.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def runs(tmp_path, make_task, model_server, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    for name in ("a", "b", "c", "d"):
        make_task(f"tb2/{name}", TOML, test=TEST, instruction=f"Answer for {name}.\n", solution="echo yes >/answer\n")
    return Runs(tmp_path, model_server)


def test_record_and_replay(runs, model_server):
    model_server.script.append(lambda request: Answer("no" if "for c" in request.json["prompt"] else "yes"))
    status, output = runs("--harbor-proxy=record", "-n", "2")
    assert status == 1
    assert "3 passed" in output
    recorded = {result["task"]: result for result in runs.results}
    model_server.close()
    status, output = runs("--harbor-proxy=replay", "-n", "2")
    assert status == 1
    assert "3 passed" in output
    for result in runs.results:
        before = recorded[result["task"]]
        for name in ("reward", "outcome", "agent_exit", "metrics"):
            assert result[name] == before[name]
        assert (before["usage"]["replayed"], result["usage"]["replayed"]) == (0, 1)
        assert result["usage"]["input_tokens"] == before["usage"]["input_tokens"] == 11


def test_spent_session_budget_skips_the_rest(runs, model_server):
    model_server.script.append(lambda request: Answer("yes", tokens=Tokens(10, 0, 10, 0)))
    agents = '[[agents]]\nname = "mine"\ncallable = "my_agent.py:solve"\n[[agents]]\nname = "own"\nagent = "oracle"\n'
    (runs.path / "agents.toml").write_text(agents)
    options = ("--harbor-agents=agents.toml", "--harbor-proxy=live", "--harbor-session-budget=30tokens", "-rs")
    status, output = runs(*options, agent="")
    assert status == 1
    # The oracle calls no model.
    assert "6 passed, 2 skipped" in output
    assert "mine: mean reward 1.000, pass rate 100.0% (2 of 2 passed, 2 not run)" in output
    assert "2 of 8 trials did not run: --harbor-session-budget of 30 tokens is spent" in output
    assert "exit status 1: 2 of 8 trials did not run\n" in output
    (page,) = runs.path.glob("harbor-results/*/report.html")
    assert "6 trials passed, stopped early" in page.read_text()
    assert "--harbor-session-budget of 30 tokens is spent (40 tokens used by this run)" in output
    assert [request.method for request in model_server.requests].count("POST") == 2
    # A verdict on the remaining trials would only judge the budget.
    status, output = runs("--harbor-proxy=live", "--harbor-session-budget=30tokens", "--harbor-gate=pass-rate=0.5")
    assert status == 11
    assert "the run was stopped: --harbor-session-budget of 30 tokens is spent" in output


def test_cassette_mismatch_shows_a_diff(runs, model_server):
    body = {"model": "model-a", "prompt": "Answer for a.\n"}
    cassette = Cassette(cassette_path(runs.path / "cassettes", "tb2/a", "my_agent.solve", 1))
    cassette.add(RecordedCall({"method": "POST", "path": "/v1/completions", "body": body}, 200, {}, [b"{}"]))
    cassette.write(keep_unused=False)
    (runs.path / "tb2" / "a" / "instruction.md").write_text("Answer for all.\n")
    status, output = runs("--harbor-proxy=replay")
    assert status == 1
    assert "4 errors" in output
    assert '-  "prompt": "Answer for a.\\n' in output
    assert '+  "prompt": "Answer for all.\\n' in output
    assert "record it again with --harbor-proxy=record" in output
    for name in ("b", "c", "d"):
        assert f"tb2/{name} [agent] there is no cassette" in output
    assert {result["outcome"] for result in runs.results} == {"error"}
    assert all(not result["retries"] for result in runs.results)


def test_failing_model_server_is_an_infrastructure_error(runs, model_server):
    model_server.script += [failure(503, "overloaded")] * 3 + [Answer("yes")]
    status, output = runs("--harbor-proxy=live", "--harbor-task=a", "--harbor-task=b")
    assert status == 1
    assert "1 passed, 1 error" in output
    assert "503" in output
    # Retried, like every infrastructure error.
    outcomes = [(result["task"], result["outcome"], len(result["retries"])) for result in runs.results]
    assert outcomes == [("tb2/a", "error", 1), ("tb2/b", "passed", 1)]


def test_committed_cassette_replays(runs, model_server):
    model_server.close()
    words = ["-m", "pytest", "-p", "no:cacheprovider", f"--harbor-results={runs.path / 'harbor-results'}"]
    words += ["--harbor-environment=namespace", "--harbor-dataset=examples/tasks", "--harbor-task=hello-world"]
    words += ["--harbor-agent=openai", "--harbor-model=example-model"]
    words += ["--harbor-proxy=replay", "--harbor-cassettes=examples/cassettes"]
    done = subprocess.run([sys.executable, *words], cwd=EXAMPLES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (result,) = runs.results
    assert (result["reward"], result["usage"]["replayed"], result["usage"]["requests"]) == (1.0, 3, 3)
    assert not result["warnings"] or all("stands in" in warning for warning in result["warnings"])
    transcript = Path(result["directory"]) / "host" / "transcript.jsonl"
    roles = [json.loads(line)["role"] for line in transcript.read_text().splitlines()]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool", "tool", "assistant"]

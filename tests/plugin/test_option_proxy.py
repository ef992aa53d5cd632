"""Proxy options: usage errors for contradictions and for options that would leak a key."""

from __future__ import annotations

import json

import pytest

KEY = "sk-real-0123456789"


@pytest.fixture
def tasks(project):
    project.task("tb2/a")
    return project


@pytest.mark.parametrize(
    "limit", ["--harbor-max-turns=3", "--harbor-max-tokens=9", "--harbor-max-cost=1", "--harbor-session-budget=5"]
)
def test_budget_without_a_proxy(tasks, limit):
    outcome = tasks.run("--harbor-dataset=tb2", "--harbor-agent=nop", limit)
    assert outcome.ret == 4
    outcome.has(f"{limit.partition('=')[0]} cannot be enforced without the model proxy", "--harbor-proxy=live")
    outcome.shows_no_bug()


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "MY_KEY"])
def test_real_key_in_agent_env(tasks, monkeypatch, variable):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_KEY", f"prefix-{KEY}")
    words = ["--harbor-dataset=tb2", "--harbor-agent=nop", f"--harbor-agent-env={variable}"]
    outcome = tasks.run(*words, "--harbor-proxy=live")
    assert outcome.ret == 4
    outcome.has(f"--harbor-agent-env: {variable} holds a real API key", "--harbor-proxy=off")
    outcome.lacks(KEY)


def test_key_given_instead_of_a_variable_name(tasks):
    outcome = tasks.run("--harbor-dataset=tb2", "--harbor-agent=nop", f"--harbor-openai-key={KEY}")
    assert outcome.ret == 4
    outcome.has("--harbor-openai-key: this is not the name of an environment variable")
    outcome.lacks(KEY)


def test_invalid_prices(tasks):
    tasks.file("prices.toml", "[models.a]\ninput = 1\n")
    words = ["--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-proxy=live"]
    outcome = tasks.run(*words, "--harbor-prices=prices.toml")
    assert outcome.ret == 4
    outcome.has("--harbor-prices: ", "prices.toml", "input and output")
    assert tasks.run(*words, "--harbor-prices=none.toml").ret == 4


def test_header_shows_the_proxy_mode(tasks):
    words = ["--harbor-dataset=tb2", "--harbor-agent=nop", "--setup-plan"]
    tasks.run(*words).lacks("harbor: model proxy")
    tasks.run(*words, "--harbor-proxy=live").has("harbor: model proxy: live\n")
    tasks.run(*words, "--harbor-proxy=record", "--harbor-session-budget=5").has(
        "harbor: model proxy: record, cassettes cassettes, run budget $5.00\n"
    )


@pytest.mark.parametrize(
    "words,noted",
    [
        (["--harbor-agent-command=true", "--harbor-model=m"], True),
        (["--harbor-agent-command=true"], False),
        (["--harbor-agent-command=true", "--harbor-model=m", "--harbor-agent-env=MY_KEY=x"], False),
        (["--harbor-agent-command=true", "--harbor-model=m", "--harbor-agent-where=host"], False),
        (["--harbor-agent=nop", "--harbor-model=m"], False),
    ],
)
def test_header_notes_a_model_without_a_key(words, noted, tasks):
    result = tasks.run("--harbor-dataset=tb2", "--setup-plan", *words)
    note = "harbor: model proxy: off, and no key is passed to command; give --harbor-proxy=live"
    (result.has if noted else result.lacks)(note)


def baseline(project, **calls: float) -> None:
    samples = {
        f"tb2/{name}": {
            "command": {
                "provider": "fake",
                "runs": [{"passed": 3, "rewards": [1, 1, 1], "usage": {"calls": number}}],
            }
        }
        for name, number in calls.items()
    }
    project.file("baseline.json", json.dumps({"schema_version": 1, "tasks": samples}))


def test_agent_that_reaches_no_model_is_in_no_verdict(project, monkeypatch, model_server):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    # Their rewards would pass.
    project.rewards(calls=1.0, calls_too=1.0, calls_none=1.0, new=1.0)
    baseline(project, calls=2.5, calls_too=1, calls_none=0)
    words = ["--harbor-dataset=tb2", "--harbor-agent-command=run", "--harbor-proxy=live"]
    outcome = project.run(*words, "--harbor-gate=pass-rate=0.1", "--harbor-baseline=baseline.json")
    outcomes = {result["task"]: result["outcome"] for result in project.results()}
    assert outcomes == {"tb2/calls": "error", "tb2/calls_too": "error", "tb2/calls_none": "passed", "tb2/new": "passed"}
    outcome.has("never reached its model: it made no model call, and in the baseline it calls one for this task")
    assert outcome.ret == 11


@pytest.mark.parametrize("more", [[], ["--harbor-model=model-a"]])
def test_no_call_without_a_baseline(project, monkeypatch, model_server, more):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    project.rewards(a=1.0)
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent-command=run", "--harbor-proxy=live", *more)
    if more:
        assert outcome.counts == {"errors": 1}
        outcome.has("it made no model call, and the model model-a is set for it")
    else:
        assert outcome.counts == {"passed": 1}
        outcome.has("the agent made no calls through the proxy")

"""Budgets of a trial and of a run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
import pytest
from model_server import Answer, Tokens, failure

from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.proxy import Ledger, SessionBudget, TrialBudget

ASK = {"model": "model-a", "messages": [{"role": "user", "content": "hi"}]}


def calls_until_refused(proxied, most=9):
    client = proxied.openai()
    for number in range(most):
        try:
            client.chat.completions.create(**{**ASK, "user": f"{number}"})
        except openai.RateLimitError as error:
            return number, error
    return most, None


@pytest.mark.parametrize(
    "text, shown",
    [("0.002", "$0.002"), ("0.5", "$0.50"), ("1", "$1.00"), ("1250.5", "$1,250.50"), ("2000tokens", "2,000 tokens")],
)
def test_session_budget_as_text(text, shown):
    assert str(SessionBudget.parse(text)) == shown


@pytest.mark.parametrize(
    "budget, expected, message",
    [
        (TrialBudget(turns=3), 3, "--harbor-max-turns=3 is spent"),
        (TrialBudget(tokens=45), 3, "--harbor-max-tokens=45 is spent (60 tokens)"),
        # Each call costs 10 * 10 + 10 * 100 millionths.
        (TrialBudget(cost=0.002), 2, "--harbor-max-cost=0.002 is spent ($0.0022)"),
        (TrialBudget(turns=9, tokens=1, cost=9), 1, "--harbor-max-tokens=1 is spent"),
    ],
)
def test_trial_beyond_its_budget_is_rejected_and_marked(proxies, model_server, prices, budget, expected, message):
    model_server.script += [Answer("ok", tokens=Tokens(10, 0, 10, 0))] * 9
    with proxies(budget=budget, prices=prices) as proxied:
        number, error = calls_until_refused(proxied)
        assert number == expected
        assert error.code == "harbor_budget_spent"
        assert message in error.message
        # The client did not retry.
        assert len(proxied.calls) == expected + 1
        with pytest.raises(anthropic.RateLimitError, match="is spent"):
            proxied.anthropic().messages.create(**ASK, max_tokens=9)
    assert proxied.error is None, "the work is graded as it stands"
    assert message in proxied.result.budget
    assert proxied.log.count("is spent") == 1
    assert len(model_server.requests) == expected
    assert proxied.result.usage.requests == expected
    assert proxied.calls[-1]["source"] == "proxy"


def test_retries_are_not_turns(proxies, model_server):
    model_server.script += [failure(500, "oops", retry_after_ms="1"), Answer("ok"), failure(429, "slow")]
    with proxies(budget=TrialBudget(turns=2)) as proxied:
        client = proxied.openai()
        client.completions.create(model="model-a", prompt="one")
        with pytest.raises(openai.RateLimitError, match="slow"):
            client.with_options(max_retries=0).completions.create(model="model-a", prompt="two")
        model_server.script.append(Answer("ok"))
        client.completions.create(model="model-a", prompt="two")
        with pytest.raises(openai.RateLimitError, match="is spent"):
            client.completions.create(model="model-a", prompt="three")
        # Requests that are not model calls are still served.
        client.models.list()
    assert (proxied.result.usage.requests, proxied.result.usage.retries) == (2, 2)


def test_retry_needs_budget(proxies, model_server):
    model_server.script += [failure(500, "busy"), Answer("a", tokens=Tokens(5, 0, 5))]
    with proxies(budget=TrialBudget(tokens=10)) as proxied:
        client = proxied.openai(max_retries=0)
        with pytest.raises(openai.InternalServerError):
            client.completions.create(model="m", prompt="x")
        client.completions.create(model="m", prompt="y")
        with pytest.raises(openai.RateLimitError, match="--harbor-max-tokens=10 is spent"):
            client.completions.create(model="m", prompt="x")
    assert len(model_server.requests) == 2


def test_simultaneous_calls_do_not_exceed_the_turns(proxies, model_server):
    model_server.script.append(lambda request: Answer("ok"))
    with proxies(budget=TrialBudget(turns=5)) as proxied, ThreadPoolExecutor(16) as pool:
        client = proxied.openai()

        def call(number):
            try:
                client.completions.create(model="model-a", prompt=f"{number}")
            except openai.RateLimitError:
                return 0
            return 1

        assert sum(pool.map(call, range(16))) == 5
    assert len(model_server.requests) == 5


def test_usage_of_an_open_stream_counts(proxies, model_server, prices):
    model_server.script += [Answer("one", tokens=Tokens(10, 0, 10, 0))] * 2
    with proxies(budget=TrialBudget(tokens=20), prices=prices) as proxied:
        stream = proxied.openai().chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        assert [chunk.usage for chunk in stream if chunk.usage]
        with pytest.raises(openai.RateLimitError):
            proxied.openai().completions.create(model="model-a", prompt="x")


@pytest.mark.parametrize("for_run", [False, True])
def test_budget_in_dollars_needs_a_known_price(proxies, model_server, tmp_path, for_run):
    ledger = Ledger(tmp_path / "budget.json", SessionBudget.parse("1"))
    limits = {"ledger": ledger} if for_run else {"budget": TrialBudget(cost=1)}
    with proxies(**limits) as proxied, pytest.raises(openai.BadRequestError, match="no price for the model 'model-a'"):
        proxied.openai().completions.create(model="model-a", prompt="x")
    assert isinstance(proxied.error, UnmetRequirement)
    assert "--harbor-prices" in str(proxied.error)
    assert not model_server.requests


def test_run_budget_spans_trials(proxies, model_server, prices, tmp_path):
    model_server.script += [Answer("ok", tokens=Tokens(10, 0, 10, 0))] * 9
    file = tmp_path / "run" / "budget.json"
    # One for each worker.
    ledgers = [Ledger(file, SessionBudget.parse("50tokens")) for _ in range(3)]
    for ledger in ledgers[:2]:
        assert ledger.spent_limit() == ""
        with proxies(ledger=ledger, prices=prices) as proxied:
            proxied.openai().chat.completions.create(**ASK)
    with proxies(ledger=ledgers[2], prices=prices) as proxied:
        assert calls_until_refused(proxied)[0] == 1
    assert proxied.result.budget == "--harbor-session-budget of 50 tokens is spent (60 tokens used by this run)"
    assert ledgers[0].spent_limit() == proxied.result.budget


def test_ledger_with_concurrent_writers(tmp_path):
    ledgers = [Ledger(tmp_path / "budget.json", SessionBudget.parse("1.5")) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda ledger: [ledger.add(0.01, 7) for _ in range(10)], ledgers))
    assert json.loads((tmp_path / "budget.json").read_text())["used"] == pytest.approx(0.8)
    assert ledgers[0].spent_limit() == ""
    ledgers[0].add(0.7, 0)
    assert ledgers[1].spent_limit() == "--harbor-session-budget of $1.50 is spent ($1.5 used by this run)"


def test_damaged_ledger_rejects_calls(proxies, model_server, prices, tmp_path):
    (tmp_path / "budget.json").write_text("{")
    with (
        proxies(ledger=Ledger(tmp_path / "budget.json", SessionBudget.parse("1")), prices=prices) as proxied,
        pytest.raises(openai.InternalServerError, match="damaged"),
    ):
        proxied.openai(max_retries=0).completions.create(model="model-a", prompt="x")
    assert "the session budget cannot be checked" in str(proxied.error)
    assert not model_server.requests

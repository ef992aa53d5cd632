"""Metering of tokens, and their cost."""

from __future__ import annotations

import json
import socket

import pytest
from model_server import Answer, Call, Reply
from model_server import Tokens as Reported
from proxied import Proxied

from pytest_harbor.proxy import Prices
from pytest_harbor.proxy import prices as prices_module
from pytest_harbor.proxy.prices import Tokens

USED = Reported(input=100, cached=60, output=30, reasoning=10)
ASK = {"model": "model-a", "messages": [{"role": "user", "content": "hi"}]}


def chat(proxied: Proxied, **options):
    return proxied.openai().chat.completions.create(**ASK, **options)


def chat_stream(proxied: Proxied):
    return list(chat(proxied, stream=True, stream_options={"include_usage": True}))


def responses(proxied: Proxied):
    return proxied.openai().responses.create(model="model-a", input="hi")


def responses_stream(proxied: Proxied):
    return list(proxied.openai().responses.create(model="model-a", input="hi", stream=True))


def messages(proxied: Proxied):
    return proxied.anthropic().messages.create(**ASK, max_tokens=9)


def messages_stream(proxied: Proxied):
    return list(proxied.anthropic().messages.create(**ASK, max_tokens=9, stream=True))


def completions(proxied: Proxied):
    return proxied.openai().completions.create(model="model-a", prompt="hi")


@pytest.mark.parametrize(
    "call", [chat, chat_stream, responses, responses_stream, messages, messages_stream, completions]
)
def test_each_protocol_is_metered(proxies, model_server, prices, call):
    model_server.script.append(Answer("some words", calls=[] if call is completions else [Call("f")], tokens=USED))
    with proxies(prices=prices) as proxied:
        call(proxied)
    usage = proxied.result.usage
    reasoning = 0 if "messages" in call.__name__ else 10
    assert (usage.requests, usage.retries, usage.estimated, usage.replayed) == (1, 0, 0, 0)
    assert (usage.input_tokens, usage.cached_tokens) == (100, 60)
    assert (usage.output_tokens, usage.reasoning_tokens) == (30, reasoning)
    assert usage.cost == pytest.approx((40 * 10 + 60 * 1 + 30 * 100) / 1e6)
    assert usage.models == {"model-a": 1}
    assert usage.seconds > 0
    (line,) = proxied.calls
    assert (line["number"], line["model"], line["status"], line["source"]) == (1, "model-a", 200, "upstream")
    assert line["cost"] == usage.cost
    assert line["usage"]["output_tokens"] == 30
    assert line["stream"] == call.__name__.endswith("_stream")
    assert 0 < line["first_byte_seconds"] <= line["seconds"]


def test_cache_writes_have_their_own_price(proxies, model_server):
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 3000,
        "output_tokens": 40,
    }
    model_server.script.append(Reply([json.dumps({"model": "claude-haiku-4-5-20251001", "usage": usage}).encode()]))
    with proxies() as proxied:
        messages(proxied)
    assert proxied.result.usage.input_tokens == 3210
    assert proxied.result.usage.cached_tokens == 3000
    assert proxied.result.usage.cost == pytest.approx((10 * 1 + 200 * 1.25 + 3000 * 0.1 + 40 * 5) / 1e6)


def test_response_without_usage_is_estimated(proxies, model_server, prices):
    model_server.script += [Answer("x" * 400), Answer("y" * 400, tokens=None)]
    with proxies(prices=prices) as proxied:
        list(chat(proxied, stream=True))
        chat(proxied)
    usage = proxied.result.usage
    assert usage.estimated == 2
    assert 190 <= usage.output_tokens <= 230
    assert usage.input_tokens == sum(len(request.body) // 4 for request in model_server.requests)
    assert [call["usage"]["estimated"] for call in proxied.calls] == [True, True]


def test_unknown_model_has_no_cost(proxies, model_server):
    model_server.script += [Answer("a"), Answer("b")]
    with proxies() as proxied:
        chat(proxied)
        proxied.openai().chat.completions.create(**{**ASK, "model": "gpt-4o-mini"})
    assert proxied.result.usage.cost is None
    assert proxied.result.usage.unpriced == ["model-a"]
    assert [call["cost"] is None for call in proxied.calls] == [True, False]


@pytest.mark.parametrize(
    "usage",
    [
        "many",
        [1],
        {"prompt_tokens": -1, "completion_tokens": 1.5},
        {"prompt_tokens": 10**30, "completion_tokens": "7", "prompt_tokens_details": [1]},
        {"prompt_tokens": True, "completion_tokens": None},
    ],
)
def test_invalid_usage_is_ignored(proxies, model_server, usage):
    model_server.script.append(Reply([json.dumps({"model": 7, "usage": usage, "choices": 3}).encode()]))
    with proxies() as proxied:
        assert proxied.openai().completions.with_raw_response.create(model="model-a", prompt="hi").status_code == 200
    assert proxied.result.usage.estimated == 1
    assert proxied.error is None


def test_reasoning_outside_output_tokens_is_added(proxies, model_server):
    counts = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 22}
    body = {"usage": {**counts, "completion_tokens_details": {"reasoning_tokens": 7}}}
    model_server.script.append(Reply([json.dumps(body).encode()]))
    with proxies() as proxied:
        proxied.openai().completions.with_raw_response.create(model="model-a", prompt="hi")
    assert (proxied.result.usage.output_tokens, proxied.result.usage.reasoning_tokens) == (12, 7)


def test_listing_models_and_counting_tokens_are_not_metered(proxies, model_server):
    with proxies() as proxied:
        proxied.openai().models.list()
        proxied.anthropic().messages.count_tokens(**ASK)
    assert proxied.result.usage.requests == 0
    assert proxied.result.usage.cost == 0.0
    assert len(proxied.calls) == 2


def test_agent_without_calls_is_a_warning(proxies, model_server):
    with proxies() as proxied:
        pass
    assert proxied.result.warnings == ["the agent made no calls through the proxy; check that it uses OPENAI_BASE_URL"]
    assert proxied.result.usage.requests == 0


def test_log_levels(proxies, model_server):
    model_server.script += [Answer("Hello you"), Answer("Hello you"), Answer("Hello you")]
    logs = []
    for level in ("full", "meta", "off"):
        with proxies(log=level) as proxied:
            chat(proxied)
        logs.append(proxied.calls)
    ((full,), (meta,), off) = logs
    assert full["request"] == ASK
    assert full["response"]["choices"][0]["message"]["content"] == "Hello you"
    assert set(full) - set(meta) == {"request", "response"}
    assert off == []


TOKENS = Tokens(input=10_000, cached=1000, written=500, output=4000, reasoning=100)


def list_cost(model, tokens):
    return Prices.load().find(model).cost(tokens)


@pytest.mark.parametrize(
    "model, dollars",
    [
        # Per million tokens: uncached input, cache read, cache write, output.
        ("gpt-5", (1.25, 0.125, 1.25, 10)),
        ("gpt-6-sol", (2, 0.2, 2.5, 10)),
        ("claude-opus-4-5", (5, 0.5, 6.25, 25)),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", (3.3, 0.33, 4.125, 16.5)),
        ("text-embedding-3-small", (0.02, 0.02, 0.02, 0)),
    ],
)
def test_list_price(model, dollars):
    expected = sum(count * price for count, price in zip((8500, 1000, 500, 4000), dollars, strict=True)) / 1e6
    assert list_cost(model, TOKENS) == pytest.approx(expected)


def test_long_context_has_its_own_list_price():
    short, long = (list_cost("claude-sonnet-4-5", Tokens(input=count)) / count for count in (100_000, 300_000))
    assert long == pytest.approx(2 * short)


def test_list_price_of_inconsistent_usage():
    assert list_cost("gpt-4o", Tokens(input=5, cached=10, written=10, output=1, reasoning=9)) > 0


@pytest.mark.parametrize("model", ["gpt-oss-120b", "openai/gpt-oss-20b", "google/gemma-3-27b-it"])
def test_open_weights_have_no_list_price(model):
    assert Prices.load().find(model) is None


def test_list_prices_need_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was created")

    monkeypatch.setattr(socket, "socket", refuse)
    for function in (prices_module._find_list_price, prices_module._list_cost):
        function.cache_clear()
    assert list_cost("gpt-4o", TOKENS) > 0


@pytest.mark.parametrize(
    "model, same",
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic/claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("gpt-4o-mini-latest", "gpt-4o-mini"),
    ],
)
def test_date_and_gateway_prefix_do_not_change_the_price(model, same):
    assert list_cost(model, TOKENS) == list_cost(same, TOKENS)


@pytest.mark.parametrize("model", ["gpt-4o-new", "gpt", "", "gpt-4o/other", "my-gpt-4o", "my-moderation", "whisper-1"])
def test_similar_name_has_no_price(model):
    assert Prices.load().find(model) is None


def test_prices_of_the_user_override_the_others(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text('[models."gpt-4o"]\ninput = 1\noutput = 2\n[models.mine]\ninput = 0\noutput = 0\n')
    prices = Prices.load(file)
    assert prices.find("gpt-4o").cached == 1
    assert prices.find("mine").output == 0
    assert prices.find("gpt-4o-mini") == Prices.load().find("gpt-4o-mini")


@pytest.mark.parametrize(
    "text",
    [
        "models = 1",
        "[model.a]\ninput = 1\noutput = 1",
        "[models.a]\ninput = 1",
        "[models.a]\ninput = -1\noutput = 1",
        '[models.a]\ninput = "1"\noutput = 1',
        "[models.a]\ninput = inf\noutput = 1",
        "[models.a]\ninput = 1\noutput = 1\nwritten_1h = 2",
        "[models",
        "",
    ],
)
def test_invalid_price_table(tmp_path, text):
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"prices\.toml"):
        Prices.load(file)

"""The tests' model server, checked with the real clients."""

from __future__ import annotations

import json
import threading

import anthropic
import openai
import pytest
from model_server import Answer, Call, Reply, Tokens, failure

MESSAGES = [{"role": "user", "content": "Hi"}]
BOTH = Answer(
    "Grüße, I look. ",
    [Call("bash", {"command": "ls -l ünder"}), Call("read", {"path": "/x"})],
    Tokens(100, 40, 20, 5),
)
TOOLS = [("bash", {"command": "ls -l ünder"}), ("read", {"path": "/x"})]


@pytest.fixture
def client(model_server):
    with openai.OpenAI(base_url=f"{model_server.url}/v1", api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(model_server):
    with anthropic.Anthropic(base_url=model_server.url, api_key="key", max_retries=0) as client:
        yield client


def test_chat_completions(client, model_server):
    model_server.script = [BOTH, Answer("Done", fields={"reasoning_content": "hm"})]
    response = client.chat.completions.create(model="m", messages=MESSAGES)
    (choice,) = response.choices
    assert (response.model, choice.message.content, choice.finish_reason) == ("m", BOTH.text, "tool_calls")
    calls = choice.message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == TOOLS
    usage = response.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 20, 120)
    assert usage.prompt_tokens_details.cached_tokens == 40
    assert usage.completion_tokens_details.reasoning_tokens == 5
    (choice,) = client.chat.completions.create(model="m", messages=MESSAGES).choices
    assert (choice.finish_reason, choice.message.reasoning_content) == ("stop", "hm")
    first, _ = model_server.requests
    assert (first.method, first.path) == ("POST", "/v1/chat/completions")
    assert first.json == {"model": "m", "messages": MESSAGES}
    assert first.header("authorization") == "Bearer key"


@pytest.mark.parametrize("usage", [True, False])
def test_streamed_chat_completions(client, model_server, usage):
    model_server.script = [BOTH]
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True, **options))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert [delta.content for delta in deltas if delta.content] == ["Grüße, ", "I ", "look. "]
    arguments = ["", ""]
    for delta in deltas:
        for call in delta.tool_calls or ():
            arguments[call.index] += call.function.arguments
    assert [json.loads(text) for text in arguments] == [arguments for _, arguments in TOOLS]
    counts = [chunk.usage.total_tokens for chunk in chunks if chunk.usage]
    assert counts == ([120] if usage else [])
    assert model_server.requests[0].sent[-1] == b"data: [DONE]\n\n"


def test_responses(client, model_server):
    model_server.script = [BOTH]
    response = client.responses.create(model="m", input="Hi")
    assert response.output_text == BOTH.text
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == TOOLS
    assert (response.status, response.usage.input_tokens_details.cached_tokens) == ("completed", 40)


def test_streamed_responses(client, model_server):
    model_server.script = [BOTH]
    with client.responses.stream(model="m", input="Hi") as stream:
        events = list(stream)
        response = stream.get_final_response()
    assert response.output_text == BOTH.text
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == BOTH.words
    assert [json.loads(item.arguments) for item in response.output[1:]] == [arguments for _, arguments in TOOLS]
    assert response.usage.output_tokens_details.reasoning_tokens == 5


def test_messages(claude, model_server):
    model_server.script = [BOTH]
    response = claude.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert response.content[0].text == BOTH.text
    assert [(block.name, block.input) for block in response.content[1:]] == TOOLS
    assert response.stop_reason == "tool_use"
    assert (response.usage.input_tokens, response.usage.cache_read_input_tokens) == (60, 40)
    request = model_server.requests[0]
    # The client version decides which header it sends.
    assert (request.header("X-Api-Key"), request.header("authorization")) in [("key", None), (None, "Bearer key")]


def test_streamed_messages(claude, model_server):
    model_server.script = [BOTH]
    with claude.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
        assert list(stream.text_stream) == BOTH.words
        response = stream.get_final_message()
    assert [(block.name, block.input) for block in response.content[1:]] == TOOLS
    assert (response.stop_reason, response.usage.input_tokens, response.usage.output_tokens) == ("tool_use", 60, 20)


def test_other_endpoints(client, claude, model_server):
    model_server.script = [Answer("one two"), Answer("one two")]
    assert client.completions.create(model="m", prompt="Hi").choices[0].text == "one two"
    pieces = client.completions.create(model="m", prompt="Hi", stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == "one two"
    assert client.embeddings.create(model="m", input=["ab", "c"]).data[1].embedding == [1.0, 0.5, -1.0]
    assert [model.id for model in client.models.list()] == ["model-a", "model-b"]
    assert [model.id for model in claude.models.list()] == ["model-a", "model-b"]
    assert claude.messages.count_tokens(model="m", messages=MESSAGES).input_tokens > 0
    with pytest.raises(openai.NotFoundError):
        client.get("/nothing", cast_to=object)


def test_errors_and_exhausted_script(client, model_server):
    model_server.script = [failure(429, "slow down", "rate_limit", retry_after_ms="7"), failure(500, "oh")]
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        client.chat.completions.create(model="m", messages=MESSAGES)
    assert (caught.value.code, caught.value.response.headers["retry-after-ms"]) == ("rate_limit", "7")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="m", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="no scripted answers left"):
        client.chat.completions.create(model="m", messages=MESSAGES)


def test_anthropic_errors(claude, model_server):
    model_server.script = [failure(429, "slow down")]
    with pytest.raises(anthropic.RateLimitError, match="slow down"):
        claude.messages.create(model="m", max_tokens=9, messages=MESSAGES)


def test_function_answers_every_request(client, model_server):
    model_server.script = [lambda request: Reply([b'{"a":', b" 1}"]) if request.path == "/v1/odd" else None]
    assert client.get("/odd", cast_to=object) == {"a": 1}
    assert client.chat.completions.create(model="m", messages=MESSAGES).choices[0].message.content == "ok"
    assert len(list(client.models.list())) == 2


def test_gates_delay_pieces(client, model_server):
    gate = threading.Event()
    model_server.script = [Answer("one two", gates={3: gate})]
    with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
        got = iter(stream)
        assert [next(got).choices[0].delta.content for _ in range(2)] == ["", "one "]
        assert len(model_server.requests[0].sent) == 2
        gate.set()
        assert next(got).choices[0].delta.content == "two"
        assert len(list(got)) == 1
    assert model_server.requests[0].done.wait(10)
    assert not model_server.requests[0].disconnected.is_set()


def test_disconnect_is_recorded(client, model_server):
    model_server.script = [Answer("one two", gates={3: threading.Event()})]
    with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
        next(iter(stream))
    assert model_server.requests[0].disconnected.wait(10)


def test_broken_stream(client, model_server):
    model_server.script = [Answer("one two", break_after=2)]
    got = []
    # Some client versions pass on the HTTP library's own exception.
    with pytest.raises(Exception, match=r"peer closed connection|Connection error"):  # noqa: PT012, SIM117
        with client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
            for chunk in stream:
                got.append(chunk.choices[0].delta.content)
    assert got == ["", "one "]


def test_close_ends_waiting_requests(client, model_server):
    model_server.script = [Answer("never", gates={0: threading.Event()})]

    def ask():
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model="m", messages=MESSAGES)

    asking = threading.Thread(target=ask)
    asking.start()
    model_server.wait_for(1)
    model_server.close()
    asking.join(10)
    assert not asking.is_alive()

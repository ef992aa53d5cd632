"""Recording and replaying."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from model_server import Answer, Call, Reply, Tokens, failure

from pytest_harbor.errors import EnvironmentLost, UnmetRequirement
from pytest_harbor.proxy import Ledger, SessionBudget, TrialBudget
from pytest_harbor.proxy.cassette import Cassette, CassetteError, RecordedCall, cassette_path


def ask(proxied, text="hi", **options):
    return proxied.openai().chat.completions.create(
        model="model-a", messages=[{"role": "user", "content": text}], **options
    )


def cassette(proxies):
    (file,) = proxies.directory.glob("cassettes/*/*/*.json")
    return file


def work(proxied):
    """Make calls that build on one another, in three protocols, streamed and not; return all responses."""
    responses = []
    first = ask(proxied, "begin").choices[0].message
    responses.append(first.model_dump())
    for event in ask(proxied, f"go on after {first.tool_calls[0].id}", stream=True):
        responses.append(event.model_dump())
    responses.append(proxied.openai().responses.create(model="model-a", input="hi").model_dump())
    with proxied.anthropic().messages.stream(
        model="model-a", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
    ) as stream:
        responses.append(stream.get_final_message().model_dump())
    responses += [model.id for model in proxied.openai().models.list()]
    return responses


def test_replay_without_server_equals_recording(proxies, model_server, prices):
    model_server.script += [
        Answer("a", calls=[Call("ls")], tokens=Tokens(20, 5, 9, 3)),
        Answer("b c d"),
        Answer("e"),
        Answer("f g", calls=[Call("ls")]),
    ]
    with proxies("record", prices=prices) as recorded:
        responses = work(recorded)
    request_count = len(model_server.requests)
    model_server.close()
    with proxies("replay", prices=prices) as replayed:
        assert work(replayed) == responses
    assert (recorded.error, replayed.error) == (None, None)
    assert request_count == 5
    assert [call["source"] for call in replayed.calls] == ["cassette"] * 5
    was, now = recorded.result.usage, replayed.result.usage
    assert (was.replayed, now.replayed) == (0, 4)
    for name in ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost", "models"):
        assert getattr(was, name) == getattr(now, name)
    assert not replayed.result.warnings


def test_replayed_bytes_equal_recorded_ones(proxies, model_server):
    body = '{"odd" : 1.0e0,\r\n "text": "h\\u00e9é\\ud800"}\n\n'.encode()
    events = "data: é\r\n\r\nevent: x\r\ndata: {}\r\n\r\n: no end".encode()
    binary = b"\x00\xff{"
    model_server.script += [
        Reply([body]),
        Reply([events[:20], events[20:]], headers=[("content-type", "text/event-stream")], streamed=True),
        Reply([binary], headers=[("content-type", "application/octet-stream"), ("set-cookie", "s=1")]),
    ]

    def read(proxied):
        client = proxied.openai().completions.with_raw_response
        return [client.create(model="m", prompt=f"{number}").http_response.read() for number in range(3)]

    with proxies("record") as recorded:
        assert read(recorded) == [body, events, binary]
    with proxies("replay") as replayed:
        assert read(replayed) == [body, events, binary]
    assert "set-cookie" not in cassette(proxies).read_text()


def test_equal_calls_replay_in_order(proxies, model_server):
    model_server.script += [Answer("first"), Answer("second")]
    with proxies("record") as recorded:
        assert [ask(recorded).choices[0].message.content for _ in range(2)] == ["first", "second"]
    with proxies("replay") as replayed:
        assert [ask(replayed).choices[0].message.content for _ in range(2)] == ["first", "second"]
        with pytest.raises(openai.NotFoundError, match="recorded 2 times and requested once more"):
            ask(replayed)
    assert isinstance(replayed.error, UnmetRequirement)


def test_unrecorded_call_shows_diff_to_closest(proxies, model_server):
    model_server.script += [Answer("a"), Answer("b")]
    with proxies("record") as recorded:
        ask(recorded, "List the files.\nThen count them.")
        ask(recorded, "Something else altogether")
    with proxies("replay") as replayed, pytest.raises(openai.NotFoundError) as error:
        ask(replayed, "List the files.\nThen sum them up.")
    assert "harbor_not_recorded" in str(error.value.body)
    for text in (error.value.message, str(replayed.error), replayed.log):
        assert "call 1 (POST /v1/chat/completions) is not in the cassette" in text
        assert str(cassette(proxies)) in text
        assert "the closest is recorded call 1 of 2" in text
        assert "-Then count them." in text
        assert "+Then sum them up." in text
    assert ' "content": "List the files.\\n\n' in str(replayed.error)
    assert "--harbor-proxy=record" in str(replayed.error)
    assert not replayed.error.retry
    assert "-Then count them." in (replayed.directory / "proxy" / "call-1.diff").read_text()
    # The client did not retry, and the cassette is unchanged.
    assert len(replayed.calls) == 1
    assert len(json.loads(cassette(proxies).read_text())["calls"]) == 2


def test_replay_without_cassette(proxies):
    match = r"no cassette .*tester\.3\.json to replay; record it once"
    with pytest.raises(UnmetRequirement, match=match), proxies("replay", attempt=3):
        pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema_version": 2, "calls": []}',
        '{"schema_version": 1, "calls": 3}',
        '{"schema_version": 1, "calls": [{}]}',
        '{"schema_version": 1, "calls": [], "calls": []}',
        '<<<<<<< HEAD\n{"schema_version": 1, "calls": []}\n=======\n{"schema_version": 1}\n>>>>>>> other\n',
        '{"schema_version": 1, "calls": [{"request": {}, "response": {"status": "200", "headers": {}, "body": []}}]}',
        '{"schema_version": 1, "calls": [{"request": {}, "response": {"status": 200, "headers": {}, "body": [1]}}]}',
        '{"schema_version": 1, "calls": [{"request": {}, "response": {"status": 200, "headers": {}, "base64": [7]}}]}',
    ],
)
def test_invalid_cassette(proxies, text):
    path = cassette_path(proxies.directory / "cassettes", "tb2/hello", "tester", 1)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for mode in ("replay", "auto"):
        with pytest.raises(UnmetRequirement, match=r"is not a valid cassette.*record it again"), proxies(mode):
            pass


@pytest.mark.parametrize("kept", [(0, 1, 0), (1,), (1, 0)])
def test_merged_recordings_are_not_read_silently(proxies, model_server, kept):
    model_server.script += [Answer("one"), Answer("two")]
    with proxies("record") as proxied:
        ask(proxied, "first")
        ask(proxied, "second")
    path = cassette_path(proxies.directory / "cassettes", "tb2/hello", "tester", 1)
    data = json.loads(path.read_text())
    Cassette.load(path)
    path.write_text(json.dumps({**data, "calls": [data["calls"][number] for number in kept]}))
    with pytest.raises(CassetteError, match="is not a valid cassette"):
        Cassette.load(path)


def test_each_attempt_has_its_own_cassette(proxies, model_server):
    for attempt in (1, 2):
        model_server.script.append(Answer(f"attempt {attempt}"))
        with proxies("record", attempt=attempt) as proxied:
            ask(proxied)
    for attempt in (2, 1):
        with proxies("replay", attempt=attempt) as proxied:
            assert ask(proxied).choices[0].message.content == f"attempt {attempt}"


def test_auto_replays_and_records_the_rest(proxies, model_server):
    model_server.script += [Answer("a"), Answer("b"), Answer("new"), Answer("c")]
    with proxies("auto") as proxied:
        assert ask(proxied, "one").choices[0].message.content == "a"
        assert ask(proxied, "two").choices[0].message.content == "b"
    with proxies("auto") as proxied:
        assert ask(proxied, "one").choices[0].message.content == "a"
        assert ask(proxied, "zwei").choices[0].message.content == "new"
    assert [call["source"] for call in proxied.calls] == ["cassette", "upstream"]
    assert proxied.result.usage.replayed == 1
    # Calls that the agent no longer makes are dropped.
    model_server.close()
    with proxies("replay") as proxied:
        assert ask(proxied, "zwei").choices[0].message.content == "new"
        assert ask(proxied, "one").choices[0].message.content == "a"
        with pytest.raises(openai.NotFoundError):
            ask(proxied, "two")


def test_auto_without_new_calls_writes_nothing(proxies, model_server):
    model_server.script += [Answer("a"), Answer("b")]
    with proxies("record") as proxied:
        ask(proxied, "one")
        ask(proxied, "two")
    before = cassette(proxies).stat().st_mtime_ns
    with proxies("auto") as proxied:
        ask(proxied, "one")
    assert cassette(proxies).stat().st_mtime_ns == before
    assert "not replayed: 1 of 2 recorded calls in " in proxied.result.warnings[0]


def test_record_replaces_the_cassette(proxies, model_server):
    model_server.script += [Answer("a"), Answer("b")]
    for text in ("one", "two"):
        with proxies("record") as proxied:
            ask(proxied, text)
    (call,) = json.loads(cassette(proxies).read_text())["calls"]
    assert call["request"]["body"]["messages"][0]["content"] == "two"


def test_only_failures_without_successful_retry_are_recorded(proxies, model_server):
    model_server.script += [
        failure(429, "slow", retry_after_ms="1"),
        failure(500, "oops", retry_after_ms="1"),
        Answer("at last"),
        failure(400, "context too long"),
    ]
    with proxies("record") as proxied:
        assert ask(proxied).choices[0].message.content == "at last"
        with pytest.raises(openai.BadRequestError, match="too long"):
            ask(proxied, "x" * 10)
    with proxies("replay") as proxied:
        assert ask(proxied).choices[0].message.content == "at last"
        with pytest.raises(openai.BadRequestError, match="too long"):
            ask(proxied, "x" * 10)
    assert proxied.result.usage.retries == 0


def test_infrastructure_error_keeps_the_old_cassette(proxies, model_server):
    model_server.script += [Answer("a"), failure(500, "oops")]
    with proxies("record") as proxied:
        ask(proxied, "one")
    before = cassette(proxies).read_text()
    with proxies("record") as proxied, pytest.raises(openai.InternalServerError):
        proxied.openai(max_retries=0).completions.create(model="m", prompt="x")
    assert proxied.error is not None
    with pytest.raises(KeyboardInterrupt), proxies("record"):
        raise KeyboardInterrupt
    assert cassette(proxies).read_text() == before


def test_trial_cut_short_keeps_unused_calls(proxies, model_server):
    model_server.script += [Answer("a"), Answer("b"), Answer("new")]
    with proxies("record") as proxied:
        ask(proxied, "one")
        ask(proxied, "two")
    with proxies("auto") as proxied:
        ask(proxied, "new")
        proxied.result.agent_timed_out = True
    assert len(json.loads(cassette(proxies).read_text())["calls"]) == 3


def test_replay_counts_for_trial_budget_and_not_for_run(proxies, model_server, tmp_path):
    model_server.script += [Answer("a"), Answer("b")]
    with proxies("record") as proxied:
        ask(proxied, "one")
        ask(proxied, "two")
    ledger = Ledger(tmp_path / "budget.json", SessionBudget.parse("1tokens"))
    with proxies("replay", budget=TrialBudget(turns=1), ledger=ledger) as proxied:
        ask(proxied, "one")
        with pytest.raises(openai.RateLimitError, match="max-turns"):
            ask(proxied, "two")
    assert proxied.error is None
    assert ledger.spent_limit() == ""


def test_parallel_calls_replay_in_any_order(proxies, model_server):
    model_server.script.append(lambda request: Answer(f"to {request.json['messages'][0]['content']}"))
    with proxies("record") as proxied:
        for number in range(8):
            ask(proxied, f"{number}")
    model_server.close()
    answers = {}
    with proxies("replay") as proxied:
        client = proxied.openai()

        def call(number):
            message = [{"role": "user", "content": f"{number}"}]
            completion = client.chat.completions.create(model="model-a", messages=message)
            answers[number] = completion.choices[0].message.content

        threads = [threading.Thread(target=call, args=(number,)) for number in reversed(range(8))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: f"to {number}" for number in range(8)}


@pytest.mark.parametrize(
    "task, agent",
    [("a/b", "c"), ("a/..", "c"), ("a/b", "../../c"), ("a/b", "m:f"), ("a/\u00e9 x", "C"), ("a/" + "b" * 300, "c")],
)
def test_cassette_path_is_unique_and_inside_the_directory(tmp_path, task, agent):
    path = cassette_path(tmp_path, task, agent, 1)
    assert tmp_path in path.resolve().parents
    assert len(path.relative_to(tmp_path).parts) == 3
    path.parent.mkdir(parents=True)
    path.write_text("x")
    others = {
        cassette_path(tmp_path, task, agent, 2),
        cassette_path(tmp_path, task, agent, 1, 1),
        cassette_path(tmp_path, task, agent + "_", 1),
    }
    others |= {cassette_path(tmp_path, task.replace("/", "/_"), agent, 1)}
    assert len(others | {path}) == 5


def test_stream_is_recorded_if_client_closes_after_last_event(proxies, model_server):
    events = [b'data: {"choices": []}\n\n', b"data: [DONE]\n\n", b": bye\n\n"]
    gate = threading.Event()
    stream = [("content-type", "text/event-stream")]
    model_server.script.append(Reply(events, headers=stream, streamed=True, gates={3: gate}))
    with proxies("record") as proxied:
        address = urllib.parse.urlsplit(proxied.url)
        with contextlib.closing(http.client.HTTPConnection(address.hostname, address.port)) as connection:
            headers = {"Authorization": f"Bearer {proxied.secret}"}
            connection.request("POST", "/v1/chat/completions", b'{"stream": true}', headers)
            answer = connection.getresponse()
            assert answer.read(len(b"".join(events[:2]))) == b"".join(events[:2])
    assert proxied.error is None
    assert [call["error"] for call in proxied.calls] == [""]
    gate.set()
    (call,) = json.loads(cassette(proxies).read_text())["calls"]
    assert call["response"]["body"] == [event.decode() for event in events[:2]]


def test_abandoned_stream_is_not_recorded(proxies, model_server):
    model_server.script.append(Answer("one two", gates={3: threading.Event()}))
    with proxies("record") as proxied, ask(proxied, stream=True) as stream:
        next(iter(stream))
    assert proxied.calls[0]["error"] == "abandoned by the agent"
    assert json.loads(cassette(proxies).read_text())["calls"] == []


def test_confirmation_replays_the_attempt_unless_it_has_a_cassette(proxies, model_server):
    model_server.script += [Answer("attempt"), Answer("confirmation")]
    for mode, confirmation, expected in [
        ("record", 0, "attempt"),
        ("replay", 1, "attempt"),
        ("record", 1, "confirmation"),
        ("replay", 1, "confirmation"),
        ("replay", 2, "attempt"),
    ]:
        with proxies(mode, confirmation=confirmation) as proxied:
            assert ask(proxied).choices[0].message.content == expected


def test_concurrent_writers_leave_a_whole_cassette(tmp_path):
    """Two tests may run the same agent on the same task."""
    recorded = RecordedCall({"path": "/", "body": None}, 200, {}, [b"x" * 100_000])
    cassettes = [Cassette(tmp_path / "a.json") for _ in range(8)]
    for cassette in cassettes:
        cassette.add(recorded)
    with ThreadPoolExecutor(len(cassettes)) as pool:
        for _ in range(20):
            list(pool.map(lambda cassette: cassette.write(keep_unused=False), cassettes))
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert Cassette.load(tmp_path / "a.json").old_count == 1


def test_lost_environment_keeps_the_calls(proxies, model_server):
    model_server.script.append(Answer("a"))
    with proxies("record") as proxied:
        ask(proxied)
        raise EnvironmentLost("it is gone")
    assert str(proxied.error) == "it is gone"
    assert len(json.loads(cassette(proxies).read_text())["calls"]) == 1
    with proxies("replay") as proxied:
        with contextlib.suppress(openai.NotFoundError):
            ask(proxied, "something else")
        raise EnvironmentLost("it is gone")
    assert "is not in the cassette" in str(proxied.error)

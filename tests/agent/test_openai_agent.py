"""The agent `openai`: requests, transcript and responses; tests/providers covers what its tools do."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from model_server import Answer, Call, Reply, failure

from pytest_harbor import InfrastructureError
from pytest_harbor.agent import AgentReport, OpenAIAgent, as_agent
from pytest_harbor.environment import ExecResult
from pytest_harbor.errors import CannotExecute

LOOK = Call("bash", {"command": "ls"})


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL", "HARBOR_AGENT_MAX_TURNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(context, model_server):
    """Return a function that runs the agent against scripted answers, with environment variables of the host."""

    def run(*script, agent=None, timeout=60.0, **variables) -> AgentReport:
        model_server.script = list(script)
        settings = {"OPENAI_BASE_URL": f"{model_server.url}/v1", "OPENAI_MODEL": "tiny", **variables}
        run.context = context(
            host_variables={name: value for name, value in settings.items() if value is not None}, timeout=timeout
        )
        return (agent or OpenAIAgent()).run(run.context)

    return run


@pytest.fixture
def transcript(tmp_path):
    """Return a function that reads the messages of the transcript."""

    def read() -> list[dict]:
        text = (tmp_path / "trial" / "host" / "transcript.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    return read


@pytest.fixture
def tool_results(transcript):
    """Return a function that reads the results of the tool calls."""
    return lambda: [message["content"] for message in transcript() if message["role"] == "tool"]


def test_a_conversation(run, model_server, environment, transcript, logged):
    environment.answers[shell("ls")] = ExecResult(3, "a.txt\n")
    calls = [LOOK, Call("bash", {"command": "pwd", "timeout_seconds": 7})]
    fields = {"reasoning_content": "Let me see.", "annotations": []}
    report = run(Answer("I look.", calls, fields=fields), Answer("All done."), OPENAI_API_KEY="secret")
    assert report.exit_code == 0
    first, second = model_server.requests
    assert first.json["model"] == "tiny"
    assert [tool["function"]["name"] for tool in first.json["tools"]] == [
        "bash",
        "read_file",
        "write_file",
        "edit_file",
    ]
    system, user = first.json["messages"]
    assert "/work" in system["content"]
    assert user == {"role": "user", "content": "Say hello.\n"}
    assert first.header("authorization") == "Bearer secret"
    # The answer is sent back unchanged, except for empty fields.
    assert second.json["messages"][2:] == [
        {
            "content": "I look.",
            "reasoning_content": "Let me see.",
            "role": "assistant",
            "tool_calls": [
                {"id": call.id, "type": "function", "function": {"name": "bash", "arguments": call.text}}
                for call in calls
            ],
        },
        {"role": "tool", "tool_call_id": calls[0].id, "content": "[exit code 3]\na.txt\n"},
        {"role": "tool", "tool_call_id": calls[1].id, "content": "[exit code 0]\n"},
    ]
    assert transcript() == [*second.json["messages"], {"content": "All done.", "role": "assistant"}]
    (_, plain), (_, quick) = environment.calls[1:]
    assert (plain["user"], plain["timeout"] > 50, quick["timeout"]) == ("agent", True, 7)
    text = logged(run.context)
    for part in (
        "--- turn 1 of 100\nI look.\n$ ls\na.txt\n[exit code 3]\n$ pwd\n",
        "All done.",
        "finished after 2 turns",
    ):
        assert part in text
    assert "secret" not in text


def shell(command: str) -> tuple[str, ...]:
    from pytest_harbor.agent.openai import BASH

    return ("sh", "-c", BASH, "sh", "/work", command)


def test_same_answers_give_same_transcript(run, tmp_path):
    path = tmp_path / "trial" / "host" / "transcript.jsonl"
    script = [Answer("I look.", [LOOK]), Answer("ü \\ud800")]
    run(*script)
    before = path.read_bytes()
    run(*script)
    assert path.read_bytes() == before


def test_copy_works_without_changes(run, tmp_path, model_server):
    import pytest_harbor.agent.openai as original

    copy = tmp_path / "my_agent.py"
    copy.write_bytes(Path(original.__file__).read_bytes())
    agent = as_agent(f"{copy}:solve")
    assert agent.name == "my_agent.solve"
    assert run(Answer("x"), agent=agent).exit_code == 0
    assert len(model_server.requests) == 1


def test_invalid_tool_calls_are_answered(run, environment, tool_results, model_server):
    wrong = {
        '{"command": "l': 'not a JSON object: {"command": "l',
        "[" * 100_000: "characters omitted",
        "7": "not a JSON object: 7",
        "": "not a JSON object",
        "{}": "bash takes command, timeout_seconds and requires command; check command",
        '{"command": "ls", "cwd": "/"}': "check cwd",
        '{"command": ["ls"]}': "command must be a string",
        '{"command": "ls", "timeout_seconds": "5"}': "timeout_seconds must be a whole number above 0",
        '{"command": "ls", "timeout_seconds": 0}': "timeout_seconds must be a whole number above 0",
    }
    calls = [Call("bash", text) for text in wrong]
    unknown = {name: f"there is no tool '{name}'; use bash, read_file," for name in ("python", "solve", "write")}
    calls += [Call(name, {}) for name in unknown]
    assert run(Answer(calls=[*calls, LOOK]), Answer("I see.")).exit_code == 0
    *errors, good = tool_results()
    for error, expected in zip(errors, [*wrong.values(), *unknown.values()], strict=True):
        assert error.startswith("Error: ")
        assert expected in error
    assert good == "[exit code 0]\n"
    assert len(environment.calls) == 2
    # Some servers parse the arguments of earlier calls again.
    for sent in model_server.requests[1].json["messages"][2]["tool_calls"]:
        assert json.loads(sent["function"]["arguments"]) is not None


def test_optional_arguments_may_be_null(run, tool_results):
    run(Answer(calls=[Call("bash", {"command": "ls", "timeout_seconds": None})]), Answer("x"))
    assert tool_results() == ["[exit code 0]\n"]


def test_command_that_cannot_be_started(run, environment, tool_results):
    environment.answers[shell("ls")] = CannotExecute("/bin/sh: No such file or directory")
    assert run(Answer(calls=[LOOK]), Answer("x")).exit_code == 0
    assert tool_results() == ["[exit code 126]\n/bin/sh: No such file or directory\n"]


def test_command_that_times_out(run, environment, tool_results, logged):
    environment.answers[shell("ls")] = ExecResult(-1, "half", timed_out=True)
    call = Call("bash", {"command": "ls", "timeout_seconds": 7})
    run(Answer(calls=[call]), Answer("x"))
    assert tool_results() == ["[timed out after 7 s; killed with every process it had started]\nhalf"]
    assert "timed out after 7 s" in logged(run.context)


@pytest.mark.parametrize(
    "output, omitted",
    [
        ("x" * 20_000, ""),
        ("x" * 20_007, "[... 7 "),
        ("x" * 15_000 + "[... 9 bytes omitted ...]" * 9_999, "[... more than "),
    ],
)
def test_long_output_is_truncated_in_the_middle(run, environment, tool_results, output, omitted):
    environment.answers[shell("ls")] = ExecResult(0, "begin" + output[10:] + "e n d")
    run(Answer(calls=[LOOK]), Answer("x"))
    (result,) = tool_results()
    assert result.startswith("[exit code 0]\nbegin")
    assert result.endswith("e n d")
    assert ("characters omitted" in result) == bool(omitted)
    assert omitted in result
    assert len(result) < 20_100


def test_max_turns(run, model_server, logged):
    report = run(*[Answer(calls=[LOOK])] * 9, HARBOR_AGENT_MAX_TURNS="3")
    assert report.exit_code == 0
    assert len(model_server.requests) == 3
    assert "The model used all of its 3 turns." in logged(run.context)


def test_truncated_answer_does_not_end_the_conversation(run, model_server, tool_results):
    cut_call = Call("bash", '{"command": "ec')
    run(
        Answer("Lon", finish="length"),
        Answer("", [cut_call], finish="length"),
        Answer("", finish="length"),
        Answer("x"),
    )
    assert len(model_server.requests) == 4
    assert [message["role"] for message in model_server.requests[-1].json["messages"]] == (
        ["system", "user", "assistant", "user", "assistant", "tool", "user", "assistant", "user"]
    )
    assert "not a JSON object" in tool_results()[0]
    # Some servers reject an empty message.
    assert model_server.requests[-1].json["messages"][-2]["content"]


@pytest.mark.parametrize("fields", [{"refusal": "I will not."}, {"content": None}])
def test_answer_without_text_and_calls_ends_the_conversation(run, model_server, fields, logged):
    assert run(Answer(fields=fields)).exit_code == 0
    assert len(model_server.requests) == 1
    assert fields.get("refusal") or "(no text)" in logged(run.context)


def test_unpaired_surrogates(run, model_server, tool_results, transcript):
    odd = Call("bash", '{"command": "echo \\ud800"}')
    assert run(Answer("\ud83d", [odd]), Answer("x")).exit_code == 0
    assert len(model_server.requests) == 2
    assert len(tool_results()) == 1
    assert transcript()[2]["content"] == "?"


def test_busy_server_is_retried(run, model_server):
    busy = failure(429, "slow down", retry_after_ms="1")
    assert run(busy, failure(500, "oh", retry_after_ms="1"), Answer("x")).exit_code == 0
    assert len(model_server.requests) == 3


WRONG_SERVERS = [
    (failure(404, "no such model"), ["127.0.0.1", "404", "no such model", "is the model's name right", "/v1?"]),
    (failure(400, "no such model", "model_not_found"), ["no such model", "is the model's name right"]),
    (failure(405, "use GET"), ["405", "end with /v1?"]),
    (Reply([b"<html>"], headers=[("content-type", "text/html")]), ["<html>", "OPENAI_BASE_URL", "/v1?"]),
    (Reply([b'{"error": "odd"}']), ["not a completion", "odd"]),
]


@pytest.mark.parametrize("reply, parts", WRONG_SERVERS)
def test_wrong_model_or_url_is_an_infrastructure_error(run, reply, parts):
    with pytest.raises(InfrastructureError) as caught:
        run(reply)
    assert not caught.value.retry
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("reply", [reply for reply, _ in WRONG_SERVERS])
def test_the_same_answer_after_a_successful_call_is_the_agents_own(run, reply, logged):
    report = run(Answer(calls=[LOOK]), reply)
    assert report.exit_code == 1
    assert report.note.startswith("raised ModelError: ")
    assert "ModelError" in logged(run.context)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "localhost/v1", "http:///v1", "ftp://host/v1"])
def test_malformed_url(run, url):
    with pytest.raises(InfrastructureError, match="is not a URL; use http://HOST:PORT/v1") as caught:
        run(OPENAI_BASE_URL=url)
    assert f"OPENAI_BASE_URL={url}" in str(caught.value)


@pytest.mark.parametrize(
    "reply, message, retry",
    [
        (failure(401, "wrong key"), r"wrong key.*; check OPENAI_API_KEY and OPENAI_BASE_URL", False),
        (failure(429, "slow down", x_should_retry="false"), "slow down", True),
        (failure(500, "oh", x_should_retry="false"), r"500 - .*oh", True),
    ],
)
def test_server_failure_is_an_infrastructure_error(run, reply, message, retry):
    with pytest.raises(InfrastructureError, match=message) as caught:
        run(Answer(calls=[LOOK]), reply)
    assert caught.value.retry is retry


def test_unreachable_server_is_an_infrastructure_error(run, model_server):
    model_server.close()
    with pytest.raises(InfrastructureError) as caught:
        run()
    address = model_server.url.removeprefix("http://")
    assert f"{address} failed: Connection error. ([Errno 111] Connection refused); check that it is running" in str(
        caught.value
    )
    assert caught.value.retry


@pytest.mark.parametrize(
    "reply, message",
    [
        (failure(429, "3 turns are over", "harbor_max_turns", x_should_retry="false"), "The budget is spent: "),
        (failure(400, "This model's maximum context length is 8 tokens.", "context_length_exceeded"), "too long"),
        (failure(400, "the request exceeds the available context size"), "too long"),
    ],
)
def test_exhausted_budget_or_context_ends_without_failure(run, model_server, reply, message, logged):
    report = run(Answer(calls=[LOOK]), reply)
    assert (report.exit_code, report.note) == (0, "")
    assert len(model_server.requests) == 2
    assert message in logged(run.context)


def test_no_request_after_the_timeout(run, model_server, transcript):
    gate = threading.Event()
    report = run(Answer("late", [LOOK], gates={0: gate}), Answer("later"), timeout=0.3)
    assert report.timed_out
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "harbor-agent-openai":
            thread.join(30)
            assert not thread.is_alive()
    # Zero if the machine was too slow for the first one.
    assert len(model_server.requests) <= 1


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"OPENAI_MODEL": None}, "no model is set; give --harbor-model=NAME"),
        ({"OPENAI_BASE_URL": None}, "no model server is set; set OPENAI_API_KEY"),
        ({"HARBOR_AGENT_MAX_TURNS": "many"}, "HARBOR_AGENT_MAX_TURNS=many is not valid"),
        ({"HARBOR_AGENT_MAX_TURNS": "0"}, "HARBOR_AGENT_MAX_TURNS=0 is not valid"),
    ],
)
def test_invalid_settings(run, variables, message):
    with pytest.raises(InfrastructureError, match=message) as caught:
        run(**variables)
    assert not caught.value.retry


def test_environment_variables_of_the_host_are_the_fallback(run, model_server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{model_server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    monkeypatch.setenv("OPENAI_MODEL", "other")
    assert run(Answer("x"), OPENAI_BASE_URL=None).exit_code == 0
    (request,) = model_server.requests
    assert (request.json["model"], request.header("authorization")) == ("tiny", "Bearer mine")


def test_name_and_location():
    agent = as_agent("openai")
    assert (agent.name, agent.where, as_agent("openai", "mine").name) == ("openai", "host", "mine")

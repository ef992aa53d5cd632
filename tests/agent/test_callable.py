"""An agent that is a Python callable."""

from __future__ import annotations

import asyncio
import functools
import threading
from importlib import import_module
from pathlib import Path

import anthropic
import openai
import pytest
from model_server import failure

from pytest_harbor.agent import AgentEnvironment, AsyncAgentEnvironment, CallableAgent
from pytest_harbor.agent.callable import AgentTimeout
from pytest_harbor.environment import ExecResult
from pytest_harbor.environment.tar.pack import UploadError
from pytest_harbor.errors import CannotExecute, EngineUnavailable, EnvironmentLost, InfrastructureError

# An attribute of the package hides the module's name.
callable_module = import_module("pytest_harbor.agent.callable")


def test_function_gets_task_and_environment(context):
    seen = []
    here = context()
    report = CallableAgent(lambda task, environment: seen.append((task, environment))).run(here)
    assert report.exit_code == 0
    assert not report.timed_out
    ((task, environment),) = seen
    assert task is here.task
    assert isinstance(environment, AgentEnvironment)
    assert environment.name == "harbor-fake"
    assert environment.workdir == "/work"
    assert environment.variables == here.variables


def test_first_process_precedes_the_agent(context, environment):
    report = CallableAgent(lambda task, env: env.exec("work")).run(context())
    assert environment.calls[0] == (["true"], {"user": "agent", "cwd": "/work"})
    assert report.first_process.pid == 101
    assert environment.calls[1][0] == "work"


def test_exec_uses_the_agents_user_variables_and_remaining_time(context, environment, logged):
    environment.answers["work"] = ExecResult(3, "hello\n")
    results = []
    here = context(timeout=50.0)

    def agent(task, env):
        results.append(env.exec("work"))
        env.exec("other", timeout=1.5, cwd="/tmp", env={"A": "1"}, user="root")
        env.exec("long", timeout=1e9)

    CallableAgent(agent).run(here)
    assert (results[0].exit_code, results[0].output) == (3, "hello\n")
    (_, first), (_, second), (_, third) = environment.calls[1:]
    assert (first["user"], first["cwd"], first["env"]) == ("agent", "/work", here.variables)
    assert 0 < first["timeout"] <= 50
    assert (second["user"], second["cwd"], second["timeout"]) == ("root", "/tmp", 1.5)
    assert second["env"] == {**here.variables, "A": "1"}
    assert third["timeout"] <= 50
    assert logged(here) == "hello\n"


def test_exec_takes_paths_and_numbers(context, environment):
    def agent(task, env):
        env.exec(["sleep", 1, Path("/x")], cwd=Path("sub"), env={"A": 1}, user=1000)

    assert CallableAgent(agent).run(context()).exit_code == 0
    command, options = environment.calls[-1]
    assert command == ["sleep", "1", "/x"]
    assert (options["cwd"], options["env"]["A"], options["user"]) == ("/work/sub", "1", "1000")


def test_exec_without_log(context, environment, logged):
    environment.answers["work"] = ExecResult(0, "hello\n")
    outputs = []
    here = context()
    CallableAgent(lambda task, env: outputs.append(env.exec("work", log=False).output)).run(here)
    assert outputs == ["hello\n"]
    assert logged(here) == ""


def test_async_function(context, environment):
    environment.answers["one"] = ExecResult(0, "1")
    environment.answers["two"] = ExecResult(0, "2")
    outputs = []

    async def agent(task, env):
        assert isinstance(env, AsyncAgentEnvironment)
        outputs.extend(result.output for result in await asyncio.gather(env.exec("one"), env.exec("two")))

    assert CallableAgent(agent).run(context()).exit_code == 0
    assert outputs == ["1", "2"]


def test_object_with_async_call(context):
    class Bot:
        async def __call__(self, task, env):
            await env.exec("x")
            return "done"

    agent = CallableAgent(Bot())
    assert agent.name == "Bot"
    assert agent.run(context()).exit_code == 0


def test_return_value_is_logged(context, logged):
    here = context()
    CallableAgent(lambda task, env: "all done").run(here)
    assert "all done" in logged(here)


def test_log_accepts_text_and_bytes(context, logged):
    here = context()

    def agent(task, env):
        env.log("text ü \ud800\n")
        env.log(b"bytes\n")

    CallableAgent(agent).run(here)
    assert logged(here) == "text ü ?\nbytes\n"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_exception_is_a_failure_of_the_agent(context, logged, kind):
    def fail(task, env):
        raise ValueError("no idea")

    async def fail_later(task, env):
        raise ValueError("no idea")

    here = context()
    report = CallableAgent(fail if kind == "sync" else fail_later).run(here)
    assert report.exit_code == 1
    assert report.note == "raised ValueError: no idea"
    assert "Traceback" in logged(here)
    assert "no idea" in logged(here)


@pytest.mark.parametrize("code, expected", [(3, 3), (None, 0), (0, 0), ("give up", 1)])
def test_sys_exit_ends_only_the_agent(context, code, expected):
    def leave(task, env):
        raise SystemExit(code)

    report = CallableAgent(leave).run(context())
    assert (report.exit_code, report.timed_out) == (expected, False)


def test_timeout_error_of_the_agent_is_not_a_timeout_of_the_trial(context):
    async def agent(task, env):
        raise asyncio.TimeoutError

    report = CallableAgent(agent).run(context())
    assert (report.exit_code, report.timed_out) == (1, False)

    def sync(task, env):
        raise TimeoutError("my own")

    report = CallableAgent(sync).run(context())
    assert (report.exit_code, report.timed_out) == (1, False)


def test_environment_rejects_calls_after_the_timeout(context, environment):
    go, ended, errors = threading.Event(), threading.Event(), []

    def agent(task, env):
        go.wait()
        for call in (
            lambda: env.exec("late"),
            lambda: env.upload(__file__, "/x"),
            lambda: env.download("/x", "/tmp/never"),
        ):
            try:
                call()
            except AgentTimeout as error:
                errors.append(error)
        ended.set()

    report = CallableAgent(agent).run(context(timeout=0.05))
    assert (report.exit_code, report.timed_out) == (None, True)
    assert report.first_process is not None
    go.set()
    assert ended.wait(10)
    assert len(errors) == 3
    assert [command for command, _ in environment.calls] == [["true"]]
    assert not environment.uploaded
    assert not environment.downloaded


def test_async_agent_is_cancelled_at_the_timeout(context):
    cancelled = threading.Event()

    async def agent(task, env):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    report = CallableAgent(agent).run(context(timeout=0.05))
    assert (report.exit_code, report.timed_out) == (None, True)
    assert cancelled.wait(10)


def test_agent_that_raises_agent_timeout_timed_out(context):
    release = threading.Event()

    def agent(task, env):
        release.wait()
        env.exec("late")

    report = CallableAgent(agent).run(context(timeout=0.05))
    release.set()
    assert report.timed_out


def test_command_that_cannot_start_has_an_exit_code(context, environment, logged):
    environment.answers["nosuch"] = CannotExecute("nosuch: command not found", exit_code=127)
    environment.answers["x" * 9] = CannotExecute("argument list too long")
    results = []
    here = context()
    report = CallableAgent(lambda task, env: results.extend(map(env.exec, ("nosuch", "x" * 9)))).run(here)
    assert report.exit_code == 0
    assert [(result.exit_code, result.output) for result in results] == [
        (127, "nosuch: command not found\n"),
        (126, "argument list too long\n"),
    ]
    assert logged(here) == "nosuch: command not found\nargument list too long\n"


def test_missing_user_is_not_the_agents_mistake(context, environment):
    environment.answers[("true",)] = CannotExecute("unable to find user agent")
    with pytest.raises(CannotExecute, match=r"unable to find user agent$"):
        CallableAgent(lambda task, env: None).run(context())


def test_missing_working_directory_is_not_the_agents_mistake(context, environment):
    environment.answers[("true",)] = CannotExecute("working directory /work: No such file or directory")
    with pytest.raises(CannotExecute, match="check --harbor-agent-workdir"):
        CallableAgent(lambda task, env: None).run(context())


def test_lost_environment_is_reported_even_if_the_agent_hides_it(context, environment):
    environment.answers["x"] = EnvironmentLost("it is gone")

    def hide(task, env):
        try:
            env.exec("x")
        except Exception:
            return

    with pytest.raises(EnvironmentLost, match="it is gone"):
        CallableAgent(hide).run(context())


def test_sync_callable_must_not_return_an_awaitable(context):
    async def inner():
        pass

    coroutines = []

    def agent(task, env):
        coroutines.append(inner())
        return coroutines[0]

    report = CallableAgent(agent).run(context())
    coroutines[0].close()
    assert report.exit_code == 1
    assert "async def" in report.note


def test_partial_of_async_function_is_async(context):
    async def work(task, env, model):
        await env.exec(model)

    assert CallableAgent(functools.partial(work, model="m")).run(context()).exit_code == 0


def test_upload_files_and_directories(context, environment, tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "a.txt").write_text("a")
    (source / "deep" / "b.txt").write_text("b")

    environment.answers["test", "-d", "/opt/a.txt"] = ExecResult(1, "")

    def agent(task, env):
        env.upload(source / "a.txt", "/opt/a.txt")
        env.upload(str(source), "/opt/all")

    assert CallableAgent(agent).run(context()).exit_code == 0
    assert [upload.target for upload in environment.uploaded] == [
        "/opt",
        "/opt/a.txt",
        "/opt",
        "/opt/all",
        "/opt/all/a.txt",
        "/opt/all/deep",
        "/opt/all/deep/b.txt",
    ]


@pytest.mark.parametrize(
    "problem, raised",
    [
        (InfrastructureError("uploading: not a directory"), OSError),
        (UploadError("relative is not an absolute path"), OSError),
        (EngineUnavailable("no engine"), EngineUnavailable),
    ],
)
def test_only_a_lost_engine_excuses_a_failed_upload(context, environment, problem, raised):
    def refuse(uploads):
        raise problem

    environment.upload = refuse
    environment.answers["test", "-d", "/x"] = ExecResult(1, "")
    caught = []

    def agent(task, env):
        with pytest.raises(raised) as error:
            env.upload(__file__, "/x")
        caught.append(error.value)

    assert CallableAgent(agent).run(context()).exit_code == 0
    assert str(problem) in str(caught[0])


@pytest.mark.parametrize(
    "source, problem", [("/nonexistent/file", "/nonexistent/file does not exist"), ("", "is empty")]
)
def test_upload_of_missing_file(context, source, problem):
    report = CallableAgent(lambda task, env: env.upload(source, "/x")).run(context())
    assert report.exit_code == 1
    assert problem in report.note


def test_download_files_and_directories(context, environment, tmp_path):
    environment.answers[("test", "-d", "/file")] = ExecResult(1, "")

    def agent(task, env):
        env.download("/directory", tmp_path / "d")
        env.download("/file", str(tmp_path / "f"))

    assert CallableAgent(agent).run(context()).exit_code == 0
    assert environment.downloaded == [("/directory", tmp_path / "d"), ("/file", tmp_path / "f")]


def test_interrupt_revokes_the_environment(context, monkeypatch):
    """Ctrl-C reaches the waiting thread; the agent's thread must not go on working."""
    release, ended, errors = threading.Event(), threading.Event(), []

    def agent(task, env):
        release.wait()
        try:
            env.exec("late")
        except AgentTimeout as error:
            errors.append(error)
        ended.set()

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            raise KeyboardInterrupt

    monkeypatch.setattr(
        callable_module._CallOutcome, "__init__", lambda self: vars(self).update(done=Interrupted(), error=None)
    )
    with pytest.raises(KeyboardInterrupt):
        CallableAgent(agent).run(context())
    release.set()
    assert ended.wait(10)
    assert errors


@pytest.mark.parametrize(
    "reply, retry",
    [(failure(404, "no model nosuch"), False), (failure(401, "bad key"), False), (failure(503, "busy"), True)],
)
def test_model_failure_of_a_client_library_is_an_infrastructure_error(context, model_server, reply, retry):
    model_server.script.append(reply)

    def solve(task, environment):
        with openai.OpenAI(base_url=f"{model_server.url}/v1", api_key="x", max_retries=0) as client:
            client.completions.create(model="nosuch", prompt="hi")

    with pytest.raises(InfrastructureError, match="a model call failed and the agent raised ") as caught:
        CallableAgent(solve).run(context())
    assert caught.value.retry is retry


def test_unreachable_model_of_a_client_library(context, model_server):
    model_server.close()

    def solve(task, environment):
        with anthropic.Anthropic(base_url=model_server.url, api_key="x", max_retries=0) as client:
            client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])

    with pytest.raises(InfrastructureError, match=r"APIConnectionError: .*Connection refused"):
        CallableAgent(solve).run(context())


def test_other_errors_of_a_client_library_are_the_agents_own(context, model_server):
    model_server.script += [failure(400, "temperature must be at most 2")] * 2

    def solve(task, environment):
        with openai.OpenAI(base_url=f"{model_server.url}/v1", api_key="x", max_retries=0) as client:
            client.completions.create(model="m", prompt="hi")

    report = CallableAgent(solve).run(context())
    assert report.exit_code == 1
    assert "raised BadRequestError" in report.note
    # With the model proxy, which counts every call, the proxy decides.
    model_server.script.append(failure(404, "no such thing"))
    report = CallableAgent(solve).run(context(host_variables={"OPENAI_API_KEY": "sk-harbor-1"}))
    assert report.exit_code == 1

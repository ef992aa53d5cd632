"""Agents that run in the environment: command, oracle and nop."""

from __future__ import annotations

import pytest

from pytest_harbor.agent import CommandAgent, NopAgent, OracleAgent
from pytest_harbor.environment import ExecResult
from pytest_harbor.errors import CannotExecute
from pytest_harbor.task import Task


def test_nop_does_nothing(context, environment):
    report = NopAgent().run(context())
    assert (report.exit_code, report.timed_out, report.first_process) == (0, False, None)
    assert environment.calls == []


def test_command_runs_with_the_settings_of_the_context(context, environment, logged):
    environment.answers["work hard"] = ExecResult(3, "out\n")
    here = context(timeout=7.0)
    report = CommandAgent("work hard").run(here)
    ((command, options),) = environment.calls
    assert command == "work hard"
    assert (options["user"], options["cwd"], options["timeout"]) == ("agent", "/work", 7.0)
    assert options["env"] == here.variables
    assert (report.exit_code, report.timed_out, report.first_process.pid) == (3, False, 101)
    assert logged(here) == "out\n"


def test_command_that_times_out_has_no_exit_code(context, environment):
    environment.answers["slow"] = ExecResult(137, "", timed_out=True)
    report = CommandAgent("slow").run(context())
    assert (report.exit_code, report.timed_out) == (None, True)


def test_command_that_cannot_be_started(context, environment):
    environment.answers["nosuch"] = CannotExecute("nosuch: command not found")
    with pytest.raises(CannotExecute, match=r"not found; install the agent with --harbor-agent-setup, .*-where=host"):
        CommandAgent("nosuch").run(context())


@pytest.mark.parametrize(
    "fact, fix",
    [
        ("./run.sh: no such file", "copy it with --harbor-agent-files"),
        ('chdir to cwd ("/work") failed: no such file or directory', "check --harbor-agent-workdir"),
        ("working directory /work: No such file or directory", "check --harbor-agent-workdir"),
        ("unable to find user nosuch", ""),
    ],
)
def test_fix_for_a_command_that_cannot_be_started(context, environment, fact, fix):
    environment.answers["run"] = CannotExecute(fact)
    with pytest.raises(CannotExecute) as caught:
        CommandAgent("run").run(context())
    assert fix in caught.value.fix
    assert bool(fix) is bool(caught.value.fix)


def solved(make_task, name="solved", toml="", solution="#!/bin/sh\nexit 0\n", **what) -> Task:
    return Task.load(make_task(f"tb2/{name}", toml, solution=solution, **what))


def test_oracle_uploads_and_runs_the_solution(context, environment, make_task):
    task = solved(make_task, files={"solution/data/x.txt": "x"})
    report = OracleAgent().run(context(task))
    targets = [upload.target for upload in environment.uploaded]
    assert targets == ["/solution", "/solution/data", "/solution/data/x.txt", "/solution/solve.sh"]
    ((command, options),) = environment.calls
    assert "/solution/solve.sh" in command
    assert options["env"]["DEBIAN_FRONTEND"] == "noninteractive"
    assert report.exit_code == 0


def test_oracle_fixes_execute_bit_and_line_endings(context, environment, make_task):
    OracleAgent().run(context(solved(make_task, solution="#!/bin/bash\r\nexit 0\r\n")))
    (script,) = [upload for upload in environment.uploaded if upload.target == "/solution/solve.sh"]
    assert script.source == b"#!/bin/bash\nexit 0\n"
    assert script.mode == 0o755


def test_oracle_env_is_filled_in_from_the_host(context, environment, make_task, monkeypatch):
    monkeypatch.setenv("FROM_HOST", "secret")
    toml = '[solution.env]\nKEY = "${FROM_HOST}"\nOTHER = "${NOT_SET:-fallback}"\nHARBOR_TASK_NAME = "own"\n'
    OracleAgent().run(context(solved(make_task, toml=toml)))
    ((_, options),) = environment.calls
    assert (options["env"]["KEY"], options["env"]["OTHER"]) == ("secret", "fallback")
    assert options["env"]["HARBOR_TASK_NAME"] == "own"

"""An agent that is a command line run on the host."""

from __future__ import annotations

import os
import shlex
import sys

import pytest

from pytest_harbor._util.process import process_token
from pytest_harbor.agent import HostCommandAgent
from pytest_harbor.errors import CannotExecute


def test_output_and_exit_code(context, logged):
    here = context()
    report = HostCommandAgent("echo out; echo err >&2; exit 3").run(here)
    assert (report.exit_code, report.timed_out) == (3, False)
    assert sorted(logged(here).split()) == ["err", "out"]


def test_first_process_precedes_the_command(context, environment):
    report = HostCommandAgent("true").run(context())
    assert environment.calls == [(["true"], {"user": "0", "cwd": "/"})]
    assert report.first_process.pid == 101


def test_environment_variables(context, logged, monkeypatch):
    monkeypatch.setenv("FROM_HOST", "host")
    monkeypatch.setenv("BOTH", "host")
    here = context(variables={"BOTH": "agent", "HARBOR_TRIAL_ID": "vars-of-host-agent"})
    HostCommandAgent('echo "$FROM_HOST $BOTH $HARBOR_CONTAINER $HARBOR_TRIAL_ID"').run(here)
    assert logged(here) == "host agent harbor-fake vars-of-host-agent\n"


def test_working_directory_contains_the_instruction(context, logged):
    here = context()
    HostCommandAgent("pwd; cat instruction.md; echo made > made.txt").run(here)
    workdir = here.directory / "host"
    assert logged(here) == f"{workdir}\n{here.task.instruction}"
    assert (workdir / "made.txt").read_text() == "made\n"


def test_stdin_is_empty(context):
    assert HostCommandAgent("cat").run(context()).exit_code == 0


@pytest.mark.parametrize(
    "line",
    [
        "no-such-program-anywhere --flag",
        "/no/such/program",
        "./no-such-script",
        "X=1 no-such-program-anywhere",
        "cd / && no-such-program-anywhere",
    ],
)
def test_missing_command_cannot_execute(context, line):
    with pytest.raises(CannotExecute, match="not found on the host"):
        HostCommandAgent(line).run(context())


def test_file_without_execute_bit_cannot_execute(context, tmp_path):
    script = tmp_path / "agent.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(CannotExecute, match="not executable"):
        HostCommandAgent(str(script)).run(context())


@pytest.mark.parametrize("line", ["{script}", "bash {script}", "cd / && X=1 {script} --flag"])
def test_script_with_crlf_cannot_execute(context, tmp_path, line):
    script = tmp_path / "agent.sh"
    script.write_bytes(b"#!/bin/sh\r\necho ran\r\n")
    script.chmod(0o755)
    with pytest.raises(CannotExecute, match=r"agent.sh has CRLF line endings, .*; convert it with dos2unix"):
        HostCommandAgent(line.format(script=script)).run(context())


def test_python_script_with_crlf_runs_with_python(context, tmp_path):
    script = tmp_path / "agent.py"
    script.write_bytes(b"#!/usr/bin/env python3\r\nraise SystemExit(4)\r\n")
    assert HostCommandAgent(f"{sys.executable} {script}").run(context()).exit_code == 4


@pytest.mark.parametrize(
    "line", ["exit 4", "cd / && exit 4", "X=1 sh -c 'exit 4'", "(exit 4)", ": ; exit 4", "if true; then exit 4; fi"]
)
def test_shell_builtins_and_syntax(context, line):
    assert HostCommandAgent(line).run(context()).exit_code == 4


def test_exit_127_of_a_later_command_is_not_cannot_execute(context):
    assert HostCommandAgent("true; no-such-program-anywhere").run(context()).exit_code == 127


def test_script_relative_to_invocation_directory(context, tmp_path, monkeypatch):
    """The agent runs in another directory; an agent that never ran must not count as failed."""
    (tmp_path / "agent.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "agent.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotExecute, match="absolute path"):
        HostCommandAgent("./agent.sh").run(context())


def test_large_output_does_not_block(context, logged):
    here = context()
    report = HostCommandAgent("head -c 3000000 /dev/zero | tr '\\0' x").run(here)
    assert report.exit_code == 0
    here.log.close()
    assert here.log.size == 3_000_000


def test_child_that_keeps_stdout_open_does_not_delay_the_end(context):
    report = HostCommandAgent("sleep 1000 & echo done").run(context(timeout=30.0))
    assert (report.exit_code, report.timed_out) == (0, False)


DAEMON = """
import os, sys
if os.fork(): sys.exit()
os.setsid()
if os.fork(): sys.exit()
with open({file!r} + ".tmp", "w") as file: file.write(str(os.getpid()))
os.rename({file!r} + ".tmp", {file!r})
import signal
signal.pause()
"""


def daemon_line(tmp_path, then: str) -> str:
    file = tmp_path / "daemon.pid"
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON.format(file=str(file)))
    wait = f"while [ ! -e {file} ]; do :; done"
    return f"{sys.executable} {shlex.quote(str(script))} >/dev/null 2>&1; {wait}; {then}"


@pytest.mark.parametrize("then, timed_out", [("exec cat /dev/fd/9 9<>$FIFO", True), ("true", False)])
def test_daemons_are_killed(context, tmp_path, then, timed_out):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # nobody writes to it, so a reader waits
    here = context(timeout=5.0 if timed_out else 60.0)
    here.variables["FIFO"] = str(fifo)
    report = HostCommandAgent(daemon_line(tmp_path, then)).run(here)
    assert report.timed_out is timed_out
    assert (report.exit_code is None) is timed_out
    daemon = int((tmp_path / "daemon.pid").read_text())
    assert process_token(daemon).endswith("."), "the daemon is still alive"


def test_processes_of_another_trial_are_not_killed(context, tmp_path):
    import subprocess

    with subprocess.Popen(
        ["/bin/sh", "-c", "echo ready; read line"],
        env={**os.environ, "HARBOR_TRIAL_ID": "another"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        other.stdout.readline()
        HostCommandAgent("true").run(context())
        assert other.poll() is None
        other.stdin.close()


def test_timeout_keeps_the_output_so_far(context, logged, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    here = context(timeout=0.5)
    report = HostCommandAgent(f"echo begun; exec cat {tmp_path}/fifo").run(here)
    assert report.timed_out
    assert "begun" in logged(here)

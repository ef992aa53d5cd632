"""Cleanup: however a run ends, it leaves no container and no trial without a result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harbor_runs import Harbor, alive, read_results, wait_for

WORKING = "echo I am working; sleep 300\n"

# Makes a run look like one on another machine, as other runs on this engine remove what dead processes here left.
OWN_MACHINE = """
import platform

platform.node = lambda: {name!r}
"""


def begin(harbor: Harbor, *args: str, trials: int = 1) -> subprocess.Popen[str]:
    """Start a run and wait until the agents of some trials are running."""
    process = harbor.spawn(*args)
    wait_for(lambda: process.poll() is not None or len(harbor.logs("I am working")) >= trials, "agents to run", 60)
    assert process.poll() is None, harbor.output
    assert harbor.containers()
    return process


def workers(harbor: Harbor) -> dict[int, str]:
    """Return the process id of each worker with the task that it is running."""
    notes = [json.loads(path.read_text()) for path in (harbor.path / "harbor-results").glob("*/*/trial.json")]
    return {int(note["owner"].partition(".")[0]): note["task"] for note in notes if note["state"] == "running"}


def outcomes(harbor: Harbor) -> dict[str, tuple[str, str]]:
    return {
        Path(line["task_path"]).name: (line["outcome"], line["reason"])
        for run in harbor.runs()
        for line in read_results(run)
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_a_single_process(harbor: Harbor, number: signal.Signals) -> None:
    harbor.task("a-done", "true")
    harbor.task("b-working", WORKING)
    harbor.task("c-later", WORKING)
    process = begin(harbor)
    process.send_signal(number)
    assert process.wait(20) == 2, harbor.output
    assert harbor.containers() == []
    found = outcomes(harbor)
    assert found.keys() == {"a-done", "b-working"}
    assert found["a-done"] == ("passed", "")
    assert found["b-working"][0] == "error"
    assert "interrupted" in found["b-working"][1]
    assert "1 passed" in harbor.output


def test_two_interrupts(harbor: Harbor) -> None:
    harbor.task("working", WORKING)
    process = begin(harbor)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    wait_for(lambda: harbor.run("--harbor-agent=nop", agent=()).code == 0, "a run that cleans up")
    assert harbor.containers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_signal_to_the_controller(harbor: Harbor, number: signal.Signals) -> None:
    for name in ("one", "two", "three"):
        harbor.task(name, WORKING)
    process = begin(harbor, "-n2", trials=2)
    process.send_signal(number)
    assert process.wait(30) == 2, harbor.output
    assert harbor.containers() == []
    found = outcomes(harbor)
    assert len(found) == 2
    assert {outcome for outcome, _ in found.values()} == {"error"}
    assert {process_id for process_id in workers(harbor) if alive(process_id)} == set()


def test_interrupt_to_the_process_group(harbor: Harbor) -> None:
    harbor.task("one", WORKING)
    harbor.task("two", WORKING)
    process = begin(harbor, "-n2", trials=2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 2, harbor.output
    assert harbor.containers() == []
    assert {outcome for outcome, _ in outcomes(harbor).values()} == {"error"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signal_to_a_worker(harbor: Harbor, number: signal.Signals) -> None:
    harbor.task("hit", WORKING)
    # Runs until the other task's container is gone.
    harbor.task("other", "echo I am working; while ! [ -e /go ]; do sleep 0.05; done")
    process = begin(harbor, "-n2", trials=2)
    victim = next(pid for pid, task in workers(harbor).items() if task == "ds/hit")
    os.kill(victim, number)
    if number == signal.SIGTERM:
        wait_for(lambda: not any("-hit-" in name for name in harbor.containers()), "the worker to clean up")
    else:
        wait_for(lambda: not alive(victim), "the worker to die")
    [other] = [name for name in harbor.containers() if "-other-" in name]
    harbor.client.containers.get(other).exec_run(["touch", "/go"])
    assert process.wait(60) != 0, harbor.output
    assert harbor.containers() == []
    found = outcomes(harbor)
    assert {name: outcome for name, (outcome, _) in found.items()} == {"hit": "error", "other": "passed"}
    assert ("interrupted" if number == signal.SIGTERM else "the worker process died") in found["hit"][1]
    assert "1 passed, 0 failed, 0 unverified, 1 error" in harbor.output


def test_next_run_cleans_up_after_a_kill(harbor: Harbor) -> None:
    harbor.pytester.makeconftest(OWN_MACHINE.format(name=str(harbor.path)))
    harbor.task("a-done", "true")
    harbor.task("b-working", WORKING)
    process = begin(harbor)
    process.kill()
    process.wait()
    [leftover] = harbor.containers()
    assert outcomes(harbor) == {"a-done": ("passed", "")}
    run = harbor.run("-k", "a-done")
    assert run.code == 0
    assert harbor.containers() == []
    assert f"removed environments of a dead run: {leftover}" in run.text


def test_other_runs_are_not_touched(harbor: Harbor) -> None:
    harbor.pytester.makeconftest(OWN_MACHINE.format(name=str(harbor.path)))
    harbor.task("working", "echo I am working; while ! [ -e /go ]; do sleep 0.05; done")
    process = begin(harbor)
    [name] = harbor.containers()
    harbor.task("short", "true")
    assert harbor.run("-k", "short").code == 0
    assert harbor.containers() == [name]
    harbor.client.containers.get(name).exec_run(["touch", "/go"])
    assert process.wait(30) == 0, harbor.output


def test_maxfail_leaves_nothing(harbor: Harbor) -> None:
    for name in ("a", "b", "c", "d"):
        harbor.task(name, test="echo 0 > /logs/verifier/reward.txt\n")
    run = harbor.run("-n2", "-x")
    assert run.code != 0
    assert harbor.containers() == []
    assert {result["outcome"] for result in run.results.values()} == {"failed"}


def test_teardown_has_no_grace_period(harbor: Harbor) -> None:
    # Nothing waits for PID 1 or for any other process that ignores SIGTERM.
    harbor.task("stubborn", "setsid -f sh -c 'trap \"\" TERM; while :; do sleep 1; done'; true")
    run = harbor.run("-v")
    note = json.loads((run.trial("stubborn") / "trial.json").read_text())
    assert note["state"] == "finished"
    assert note["phases"]["stop"] < 9


def test_clean_command(harbor: Harbor) -> None:
    # The command removes what a run on another machine left, and does not touch what runs on this one.
    harbor.task("dead", WORKING)
    harbor.pytester.makeconftest(OWN_MACHINE.format(name=str(harbor.path)))
    process = begin(harbor)
    process.kill()
    process.wait()
    [dead] = harbor.containers()
    (harbor.path / "conftest.py").unlink()
    harbor.task("alive", "echo I am working; while ! [ -e /go ]; do sleep 0.05; done")
    process = begin(harbor, "-k", "alive", trials=2)
    [running] = [name for name in harbor.containers() if name != dead]
    done = subprocess.run(
        [sys.executable, "-m", "pytest_harbor.cli", "clean"],
        capture_output=True,
        text=True,
        cwd=harbor.path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"removed container {dead}\n" in done.stdout
    assert "of runs that are still in progress" in done.stdout
    assert harbor.containers() == [running]
    harbor.client.containers.get(running).exec_run(["touch", "/go"])
    assert process.wait(30) == 0, harbor.output

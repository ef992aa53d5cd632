"""An engine that goes away during a run: the connection to it passes through a relay, which is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harbor_runs import Harbor, wait_for

RELAY = """
import os, socket, sys, threading

def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
print("ready", flush=True)
while True:
    near, _ = listener.accept()
    far = socket.socket(socket.AF_UNIX)
    far.connect(sys.argv[2])
    for pair in ((near, far), (far, near)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""


@pytest.fixture
def relay(harbor: Harbor, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        pytest.skip(f"the relay supports unix sockets only, and DOCKER_HOST is {host}")
    path = tmp_path / "relay.sock"
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY, str(path), host.removeprefix("unix://")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_trials_are_errors_and_the_next_run_cleans_up(
    harbor: Harbor, relay: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harbor.task("first", work="echo at work\nsleep 100\n")
    harbor.task("second")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'relay.sock'}")
    before = harbor.runs()
    run = harbor.spawn("-v")
    wait_for(lambda: harbor.logs("at work"), "the agent to run")
    relay.kill()
    code = run.wait(timeout=60)
    done = harbor.finished(before, code, harbor.output)
    assert code == 1
    assert done.outcomes() == {"first": "error", "second": "error"}
    assert done["first"]["phase"] in ("agent", "start")
    assert "ds/first [" in done.text
    assert "engine" in done["first"]["reason"].lower()
    assert "does not answer" in done.text or "no Docker Engine answers" in done.text
    assert "site-packages" not in done.text, "a traceback"
    # The container could not be removed through the dead connection. The next run removes it.
    monkeypatch.delenv("DOCKER_HOST")
    again = harbor.run("--harbor-task=second")
    assert again.outcomes() == {"second": "passed"}
    assert harbor.containers() == []

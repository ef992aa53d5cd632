"""The parts of env.py that run in a container, as far as they can be tested without one."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from pytest_harbor.hud.in_container.container import COLLECT_TIMEOUT, HEALTHCHECK, VERIFIER_TIMEOUT, env_strings
from pytest_harbor.hud.in_container.processes import CommandNotStarted, ExecContext, Processes, process_tree
from pytest_harbor.hud.in_container.sealed import SealError, seal_tasks
from pytest_harbor.task.schema import CollectConfig, HealthcheckConfig, VerifierConfig

SHELL = ["/bin/sh", "-c"]


def run(
    script: str,
    *,
    stdin: bytes = b"",
    timeout: float | None = 60,
    words: list[str] | None = None,
    background: bool = False,
) -> tuple[int | None, bytes]:
    output, stdout = os.pipe()
    received = bytearray()
    try:
        context = ExecContext(None, "/", dict(os.environ))
        command = Processes().start(words or [*SHELL, script], context, stdin=stdin, stdout=stdout)
    except CommandNotStarted:
        os.close(output)
        raise
    finally:
        os.close(stdout)
    code = command.wait(output, received.extend, timeout)
    assert background or process_tree(command.pid) == []
    return code, bytes(received)


def test_output_input_and_exit_codes() -> None:
    assert run("cat; echo error >&2; exit 3", stdin=b"in\x00put") == (3, b"in\x00puterror\n")
    assert run("kill -9 $$") == (137, b"")
    code, output = run("head -c 3000000 /dev/zero")
    assert (code, len(output)) == (0, 3_000_000)


def test_a_command_that_cannot_be_started() -> None:
    with pytest.raises(CommandNotStarted, match="/no/such/program"):
        run("", words=["/no/such/program"])


def test_background_processes_are_not_waited_for() -> None:
    began = time.monotonic()
    code, output = run("sleep 300 & echo $!", background=True)
    assert code == 0
    assert time.monotonic() - began < 60
    os.kill(int(output), 9)


@pytest.mark.skipif(sys.platform != "linux", reason="containers run Linux")
def test_a_timeout_kills_all_descendants() -> None:
    began = time.monotonic()
    code, output = run("setsid sh -c 'sleep 61 & sleep 62' & echo begun; sleep 63", timeout=3)
    assert (code, output) == (None, b"begun\n")
    assert time.monotonic() - began < 30


@pytest.fixture
def tasks(make_task, tmp_path: Path) -> Path:
    make_task(
        "tasks/one",
        "[agent]\nuser = 'me'\r\n",
        instruction="\ufeff# canary\r\n\r\nDo it.\r\n",
        test="#!/bin/sh\r\nls\r\n",
    )
    (tmp_path / "tasks/one/tests/data").write_text("data\r\n")
    (tmp_path / "tasks/one/tests/data").chmod(0o600)
    (tmp_path / "tasks/one/tests/link").symlink_to("data")
    return tmp_path / "tasks"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib, as in the layer's own Python")
def test_sealed_tasks_are_no_longer_in_the_file_system(tasks: Path, tmp_path: Path) -> None:
    sealed = seal_tasks(tasks, ["one", "absent"], tmp_path)
    assert not tasks.exists()
    assert list(sealed) == ["one"]
    assert sealed["one"].instruction == "Do it.\n"
    assert sealed["one"].table("agent") == {"user": "me"}
    assert sealed["one"].table("verifier") == {}
    sealed["one"].tests.seek(0)
    with tarfile.open(fileobj=sealed["one"].tests) as archive:
        modes = {entry.name: (entry.mode, entry.uid, entry.linkname) for entry in archive}
        script = archive.extractfile("./test.sh")
        assert script is not None
        assert script.read() == b"#!/bin/sh\nls\n"
    assert modes["./test.sh"][0] & 0o555 == 0o555
    assert modes["./data"][:2] == (0o644, 0)
    assert modes["./link"][2] == "data"
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    sealed["one"].tests.close()
    assert seal_tasks(tasks, ["one"], tmp_path) == {}


def test_mounted_tasks_are_not_touched(tasks: Path) -> None:
    with pytest.raises(SealError, match="is mounted"):
        seal_tasks(tasks, ["one"], Path("/proc"))
    assert (tasks / "one/task.toml").exists()


def test_task_toml_defaults_are_the_schemas() -> None:
    verifier = VerifierConfig.model_validate({"env": {"A": True, "B": 1.50, "C": 7, "D": "text"}})
    assert env_strings({"A": True, "B": 1.50, "C": 7, "D": "text"}) == verifier.env
    assert verifier.timeout_sec == VERIFIER_TIMEOUT
    assert CollectConfig(command="x").timeout_sec == COLLECT_TIMEOUT
    assert HealthcheckConfig(command="x").model_dump() == {"command": "x", **HEALTHCHECK}


def test_modified_modules_are_not_imported(tmp_path: Path) -> None:
    for name in ("as_built", "changed", "compiled"):
        (tmp_path / f"{name}.py").write_text("WHAT = 'as built'\n")
    script = """
import importlib.util, subprocess, sys, time
from pathlib import Path
from pytest_harbor.hud.in_container.sealed import block_modified_imports

block_modified_imports()
# File times have the resolution of the kernel's clock tick.
time.sleep(0.05)
path = Path(sys.path[0])
(path / "changed.py").write_text("WHAT = 'changed'")
compile = "import sys; from py_compile import *; compile(*sys.argv[1:], invalidation_mode=PycInvalidationMode(3))"
cached = importlib.util.cache_from_source(path / "compiled.py")
subprocess.run([sys.executable, "-c", compile, path / "changed.py", cached], check=True)
import as_built, compiled
print(as_built.WHAT, compiled.WHAT)
try:
    import changed
except OSError as error:
    print(error)
"""
    (tmp_path / "main.py").write_text(script)
    done = subprocess.run([sys.executable, tmp_path / "main.py"], capture_output=True, text=True, check=False)
    assert done.stdout == f"as built as built\n{tmp_path}/changed.py was changed after the start\n", done.stderr

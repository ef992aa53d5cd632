from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock
from inner_pytest import FEWER_PLUGINS
from model_server import ModelServer

# `pytest --help` loads this file too, and must work without the test dependencies.
with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import settings

    # A slow machine is not a failure.
    settings.register_profile("no-deadline", deadline=None)
    settings.load_profile("no-deadline")


@pytest.fixture(autouse=True)
def _no_github_summary(monkeypatch):
    """Keep the runs that tests start from writing to the summary of the CI job."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture(autouse=True)
def _fewer_plugins(monkeypatch):
    """Start each inner pytest without slow plugins; pytester restores the environment variable."""
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(FEWER_PLUGINS))


def write_task_files(
    directory: Path,
    toml: str | bytes = "",
    *,
    instruction: str | None = "Say hello.\n",
    test: str | None = "exit 0\n",
    solution: str | None = None,
    files: dict[str, str] | None = None,
) -> Path:
    """Write a task without the parts that are None and return its directory."""
    directory.mkdir(parents=True)
    (directory / "task.toml").write_bytes(toml if isinstance(toml, bytes) else toml.encode())
    texts = {"instruction.md": instruction, "tests/test.sh": test, "solution/solve.sh": solution, **(files or {})}
    for name, text in texts.items():
        if text is not None:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return directory


@pytest.fixture(name="write_task_files", scope="session")
def _write_task_files():
    """Return the function that writes a task to any path."""
    return write_task_files


@pytest.fixture
def make_task(tmp_path):
    """Return a function that writes a task below tmp_path and returns its directory."""

    def make(where="tb2/hello", toml="", **what) -> Path:
        return write_task_files(tmp_path / where, toml, **what)

    return make


@pytest.fixture
def model_server():
    """Yield a model server; a test puts its answers into `script`."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def examples_lock():
    """Let one test on this machine at a time run the examples on the namespace provider.

    The service of live-rates listens on a fixed port, and namespace environments share the ports of the host.
    """
    with FileLock(Path(tempfile.gettempdir()) / f"pytest-harbor-examples-{os.getuid()}.lock"):
        yield


@pytest.fixture(scope="session")
def hud_python(tmp_path_factory) -> Path:
    """Return the interpreter of a virtual environment with the hud-python version of converted environments.

    Created once for all workers. Tests that need it are skipped if it cannot be created.
    """
    uv = pytest.importorskip("uv").find_uv_bin()
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "hud-python"
    python, done, failure = directory / "venv" / "bin" / "python", directory / "done", directory / "failure.txt"
    directory.mkdir(exist_ok=True)
    with FileLock(directory / "lock"):
        if not done.exists() and not failure.exists():
            pins = Path(__file__).parents[1] / "pytest_harbor" / "image" / "layer" / "pyproject.toml"
            for command in (
                ["venv", "--no-python-downloads", "--python", ">=3.11,<3.13", str(directory / "venv")],
                ["pip", "install", "--python", str(python), "-r", str(pins)],
            ):
                process = subprocess.run([uv, *command], capture_output=True, text=True, check=False, timeout=600)
                if process.returncode:
                    failure.write_text(process.stderr, encoding="utf-8")
                    break
            else:
                done.touch()
    if failure.exists():
        pytest.skip(f"hud-python cannot be installed: {failure.read_text(encoding='utf-8').strip()[-300:]}")
    return python

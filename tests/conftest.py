from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock
from lean import LEAN
from model_server import ModelServer

# pytest loads this file for `pytest --help` too, which whoever has installed no more than the plugin may ask for.
with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import settings

    # A busy machine is no error.
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _not_on_github(monkeypatch):
    """Write no summary of what tests run to the job that runs them."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture(autouse=True)
def _lean_processes(monkeypatch):
    """Have each pytest that a test starts import no more than it needs; pytester takes this away again."""
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join(LEAN))


def write_task_files(
    directory: Path,
    toml: str | bytes = "",
    *,
    instruction: str | None = "Say hello.\n",
    test: str | None = "exit 0\n",
    solution: str | None = None,
    files: dict[str, str] | None = None,
) -> Path:
    """Write a task, complete but for what is None, and return its directory."""
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
    """The function that writes a task at any path."""
    return write_task_files


@pytest.fixture
def make_task(tmp_path):
    """Write a task below tmp_path and return its directory."""

    def make(where="tb2/hello", toml="", **what) -> Path:
        return write_task_files(tmp_path / where, toml, **what)

    return make


@pytest.fixture
def model_server():
    """A model server; what it is to say goes to its `script`."""
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="session")
def hud_python(tmp_path_factory) -> Path:
    """The interpreter of a virtual environment with the very hud-python of converted environments.

    Made once for all workers; where it cannot be made, tests that need it are skipped.
    """
    uv = pytest.importorskip("uv").find_uv_bin()
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "hud-python"
    python, done, failure = place / "venv" / "bin" / "python", place / "done", place / "failure.txt"
    place.mkdir(exist_ok=True)
    with FileLock(place / "lock"):
        if not done.exists() and not failure.exists():
            pins = Path(__file__).parents[1] / "pytest_harbor" / "image" / "layer" / "pyproject.toml"
            for command in (
                ["venv", "--no-python-downloads", "--python", ">=3.11,<3.13", str(place / "venv")],
                ["pip", "install", "--python", str(python), "-r", str(pins)],
            ):
                made = subprocess.run([uv, *command], capture_output=True, text=True, check=False, timeout=600)
                if made.returncode:
                    failure.write_text(made.stderr, encoding="utf-8")
                    break
            else:
                done.touch()
    if failure.exists():
        pytest.skip(f"hud-python cannot be installed: {failure.read_text(encoding='utf-8').strip()[-300:]}")
    return python

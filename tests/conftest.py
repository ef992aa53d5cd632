from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no error.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


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


@pytest.fixture(name="write_task_files")
def _write_task_files():
    """The function that writes a task at any path."""
    return write_task_files


@pytest.fixture
def make_task(tmp_path):
    """Write a task below tmp_path and return its directory."""

    def make(where="tb2/hello", toml="", **what) -> Path:
        return write_task_files(tmp_path / where, toml, **what)

    return make

from pathlib import Path

import pytest


@pytest.fixture
def write_task(tmp_path):
    """Return a function that writes a task, complete unless the test omits something, and returns its directory."""

    def write(where="tb2/hello", toml="", *, instruction="Say hello.\n", test="exit 0\n") -> Path:
        task = tmp_path / where
        task.mkdir(parents=True)
        content = toml if isinstance(toml, bytes) else toml.encode()
        (task / "task.toml").write_bytes(content)
        if instruction is not None:
            (task / "instruction.md").write_text(instruction, encoding="utf-8")
        if test is not None:
            (task / "tests").mkdir()
            (task / "tests" / "test.sh").write_text(test)
        return task

    return write

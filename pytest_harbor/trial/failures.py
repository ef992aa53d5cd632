"""Errors that end a phase or a trial: labeled with their phase, described in a line, written to a file."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from pytest_harbor._util.unpatched import replaced_fix
from pytest_harbor.environment.tar.pack import UploadError
from pytest_harbor.errors import EngineUnavailable, InfrastructureError, Phase, UnmetRequirement
from pytest_harbor.task import TaskError
from pytest_harbor.task.variables import MissingVariable


@contextlib.contextmanager
def error_phase(phase: Phase) -> Iterator[None]:
    """Label infrastructure errors that leave the block with their phase, and turn errors of the host into them.

    Raises:
        InfrastructureError: one left the block, or the host failed.

    """
    try:
        yield
    except InfrastructureError as error:
        error.phase = error.phase or phase
        if isinstance(error, EngineUnavailable):
            error.fix = "; ".join(filter(None, (replaced_fix(), error.fix)))
        raise
    except (UploadError, MissingVariable) as error:
        missing = isinstance(error, MissingVariable)
        unmet = UnmetRequirement(
            str(error), "set it, or give it a default in task.toml: ${NAME:-value}" if missing else ""
        )
        unmet.phase = phase
        raise unmet from error
    except OSError as error:
        failure = InfrastructureError(
            f"the host: {error}",
            replaced_fix() or "check whether its disk is full and the results directory is writable",
        )
        failure.phase = phase
        raise failure from error
    except Exception as error:
        # Without such a replacement, it is a bug, and its traceback is needed.
        fix = replaced_fix()
        if not fix:
            raise
        unmet = UnmetRequirement(f"{type(error).__name__}: {error}", fix)
        unmet.phase = phase
        raise unmet from error


def describe(error: BaseException) -> str:
    """Return an error as the reason in a result."""
    text = str(error) or type(error).__name__
    if isinstance(error, InfrastructureError | TaskError | MissingVariable):
        return text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if not isinstance(error, Exception | SystemExit):
        # Raised from outside to end a test, such as by a plugin that limits its time.
        return text
    return f"{type(error).__name__}: {text}"


def write_exception(error: BaseException, directory: Path) -> None:
    """Write an error with its traceback to exception.txt in a directory; do nothing if that fails."""
    with contextlib.suppress(Exception):
        directory.mkdir(parents=True, exist_ok=True)
        lines = traceback.format_exception(error)
        (directory / "exception.txt").write_text("".join(lines), encoding="utf-8", errors="replace")

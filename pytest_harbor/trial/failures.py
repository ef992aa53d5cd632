"""What becomes of an exception that ends a phase or a trial: an error with a phase, a text, a file."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from pytest_harbor.environment.tar.pack import UploadError
from pytest_harbor.errors import InfrastructureError, Phase, UnmetRequirement
from pytest_harbor.task import TaskError
from pytest_harbor.task.variables import MissingVariable


@contextlib.contextmanager
def raised_in(phase: Phase) -> Iterator[None]:
    """Give infrastructure errors that leave a block their phase, and make such errors of what is none yet.

    Raises:
        InfrastructureError: one was raised, or something of the host failed.

    """
    try:
        yield
    except InfrastructureError as error:
        error.phase = error.phase or phase
        raise
    except (UploadError, MissingVariable) as error:
        missing = isinstance(error, MissingVariable)
        wrapped = UnmetRequirement(
            str(error), "set it, or give it a default in task.toml: ${NAME:-value}" if missing else ""
        )
        wrapped.phase = phase
        raise wrapped from error
    except OSError as error:
        raised = InfrastructureError(f"the host: {error}", "see whether its disk is full and the results writable")
        raised.phase = phase
        raise raised from error


def describe(error: BaseException) -> str:
    """Return what a result says of an error."""
    text = str(error) or type(error).__name__
    if isinstance(error, InfrastructureError | TaskError | MissingVariable):
        return text
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {text}"


def keep(error: BaseException, directory: Path) -> None:
    """Write an error with its traceback to a directory, which is made; where that fails, nothing happens."""
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        lines = traceback.format_exception(error)
        (directory / "exception.txt").write_text("".join(lines), encoding="utf-8", errors="replace")

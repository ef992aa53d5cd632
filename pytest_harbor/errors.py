"""Infrastructure errors: failures that say nothing about the agent, and how their messages are written."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

Phase = Literal["build", "start", "setup", "agent", "verify", "stop"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class InfrastructureError(Exception):
    """A failure around a trial: the engine, a build, a start, an upload, a lost container, a missing command.

    It says nothing about the agent, so the trial ends with an error and never counts as a reward of 0.

    Attributes:
        fact: what happened.
        fix: what the user can do about it; empty if there is nothing better than a retry.
        log: the file with the details.
        phase: the phase in which it happened; set by the code that runs the phases.

    """

    retry = True
    """Whether a retry may succeed."""

    def __init__(self, fact: str, fix: str = "", *, log: Path | None = None) -> None:
        super().__init__(fact)
        self.fact = fact
        self.fix = fix
        self.log = log
        self.phase: Phase | None = None

    def __str__(self) -> str:
        return error_message(self.fact, self.fix, self.log)


class EngineUnavailable(InfrastructureError):
    """No container engine answers, or the one in use no longer does."""


class ImageError(InfrastructureError):
    """An image cannot be found, pulled or built, and a retry would not help."""

    retry = False


class ImageMissing(ImageError):
    """A registry answered that it does not have the image."""


class RegistryUnavailable(ImageError):
    """A registry does not answer, or refuses every request.

    Attributes:
        detail: what the registry or the engine reported.

    """

    def __init__(self, fact: str, fix: str = "", *, log: Path | None = None, detail: str = "") -> None:
        super().__init__(fact, fix, log=log)
        self.detail = detail or fact


class StartError(InfrastructureError):
    """An environment does not start, or does not become healthy."""


class EnvironmentLost(InfrastructureError):
    """A running environment is gone."""


class CannotExecute(InfrastructureError):
    """A command cannot be started in an environment: not found, not executable, no shell, or no process left.

    Attributes:
        exit_code: the exit code that a shell would return: 127 if the command was not found, else 126.

    """

    retry = False

    def __init__(self, fact: str, fix: str = "", *, log: Path | None = None, exit_code: int = 126) -> None:
        super().__init__(fact, fix, log=log)
        self.exit_code = exit_code


class HookError(InfrastructureError):
    """A hook raised an exception or returned an invalid value."""

    retry = False


class UnmetRequirement(InfrastructureError):
    """The host lacks something that a task or an option requires."""

    retry = False


class ConversionError(InfrastructureError):
    """Converted tasks cannot be written to the target folder."""

    retry = False


def error_message(fact: str, fix: str = "", log: Path | None = None) -> str:
    """Return the message of an error: `fact; fix. Log: path`."""
    # A fact that ends with a line break, such as a diff, keeps its last line to itself.
    joint = "" if fact.endswith("\n") else "; "
    text = fact.rstrip(" .;") + (f"{joint}{fix.rstrip(' .')}" if fix else "")
    return f"{text}{'' if text.endswith('?') else '.'} Log: {log}" if log else text

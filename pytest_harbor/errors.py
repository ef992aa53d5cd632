"""The errors that are not about an agent: what they carry, and how their message reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

Phase = Literal["build", "start", "setup", "agent", "verify", "stop"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class InfrastructureError(Exception):
    """The machinery around a trial failed: engine, build, start, upload, a lost container, no such command.

    A trial that ends with one says nothing about the agent: it is an error, never a reward of 0.

    Attributes:
        fact: what happened.
        cure: what the user can do about it; empty when there is nothing better than trying again.
        log: the file that tells more.
        phase: the phase it happened in; whoever runs the phases fills it in.

    """

    retry = True
    """Whether the same may well succeed the next time."""

    def __init__(self, fact: str, cure: str = "", *, log: Path | None = None) -> None:
        super().__init__(fact)
        self.fact = fact
        self.cure = cure
        self.log = log
        self.phase: Phase | None = None

    def __str__(self) -> str:
        return describe(self.fact, self.cure, self.log)


class EngineUnavailable(InfrastructureError):
    """No container engine answers, or the one that did has gone away."""


class ImageError(InfrastructureError):
    """An image can be neither found, pulled nor built, also when tried again."""

    retry = False


class ImageMissing(ImageError):
    """A registry has answered that it does not have an image."""


class RegistryUnavailable(ImageError):
    """A registry does not answer, or refuses: whatever it is asked for.

    Attributes:
        said: its words, or the engine's.

    """

    def __init__(self, fact: str, cure: str = "", *, log: Path | None = None, said: str = "") -> None:
        super().__init__(fact, cure, log=log)
        self.said = said or fact


class StartError(InfrastructureError):
    """An environment does not start, or never becomes healthy."""


class EnvironmentLost(InfrastructureError):
    """An environment that was running is gone."""


class CannotExecute(InfrastructureError):
    """A command cannot be started at all in an environment: not found, not executable, no shell, no process."""

    retry = False


class HookError(InfrastructureError):
    """A hook raised, or returned what it must not."""

    retry = False


class UnmetRequirement(InfrastructureError):
    """The host lacks what a task or an option asks for."""

    retry = False


class ConversionError(InfrastructureError):
    """A conversion cannot be written to the folder that it is for."""

    retry = False


def describe(fact: str, cure: str = "", log: Path | None = None) -> str:
    """Join a fact, its cure and its log into one message."""
    # What ends with a line of its own, such as a difference, is not to be followed on that line.
    joint = "" if fact.endswith("\n") else "; "
    text = fact.rstrip(" .;") + (f"{joint}{cure.rstrip(' .')}" if cure else "")
    return f"{text}. Log: {log}" if log else text

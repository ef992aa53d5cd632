"""A stage of a Dockerfile during a build without a container engine."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_harbor.environment.namespace.layers import LayerStack
from pytest_harbor.image.dockerfile import Piece

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass
class StageState:
    """A stage during a build: its layers, and the configuration that its instructions have set so far."""

    stack: LayerStack
    variables: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    shell: tuple[str, ...] = DEFAULT_SHELL
    entrypoint: tuple[str, ...] = ()
    triggers: list[Piece] = field(default_factory=list)

    @property
    def values(self) -> dict[str, str]:
        """The values that variables in instructions expand to: of ARG and ENV, the later one counts."""
        return {**self.variables, **self.arguments}

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """Set environment variables, as ENV does."""
        self.variables.update(variables)
        for name in variables:
            self.arguments.pop(name, None)

    def absolute(self, path: str) -> str:
        """Return an absolute path for one that may be relative to the working directory."""
        return posixpath.normpath(posixpath.join("/", self.workdir, path))

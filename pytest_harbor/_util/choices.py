"""Names that users choose from, and defaults that several modules share: each is written down here only.

Standard library only: options are read in every project that has the plugin installed.
"""

from __future__ import annotations

from typing import Literal, get_args

ORACLE = "oracle"
NOP = "nop"
OPENAI = "openai"
BUILT_IN_AGENTS = (ORACLE, NOP, OPENAI)
"""The agents that are chosen by name alone."""

COMMAND = "command"
"""The agent whose command line is given apart from its name."""

CALLABLE = "MODULE:CALLABLE"
"""The form of a Python callable that is an agent."""

FILE_CALLABLE = "FILE.py:CALLABLE"
"""The same in a file that need not be importable by name."""

CONFIG_TABLES = {
    "pytest.toml": ("pytest-harbor",),
    ".pytest.toml": ("pytest-harbor",),
    "pyproject.toml": ("tool", "pytest-harbor"),
}
"""The tables for agents and gates in pytest's configuration files, in the order in which pytest looks for these."""

ProviderChoice = Literal["auto", "docker", "namespace"]
PROVIDER_CHOICES: tuple[ProviderChoice, ...] = get_args(ProviderChoice)

DEFAULT_IMAGE = "python:3.11-slim"
"""The image for tasks that have neither a Dockerfile nor a docker_image."""

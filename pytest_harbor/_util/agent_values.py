"""Parsers for the settings of agents, as users write them in options and in agents.toml.

Standard library only: options are read in every project that has the plugin installed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path


def parse_env_variable(text: str) -> tuple[str, str]:
    """Return the name and value of `NAME=VALUE`, or of `NAME`, which takes the host's value.

    Raises:
        ValueError: the text is neither, or the variable is not set on the host; the message says what is valid.

    """
    name, equals, value = text.partition("=")
    if not is_env_name(name):
        raise ValueError(f"{text!r} is not valid; use NAME=VALUE, or NAME to pass the host's value")
    if equals:
        return name, value
    if name not in os.environ:
        raise ValueError(f"{name} is not set on the host; set it, or use {name}=VALUE")
    return name, os.environ[name]


def is_env_name(text: str) -> bool:
    """Return True if a text can name an environment variable in any shell."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None


def parse_file_mapping(text: str) -> tuple[str, str]:
    """Return the path on the host and the absolute path in the environment of `SRC:DST`.

    Raises:
        ValueError: the text is not valid; the message says what is.

    """
    source, _, target = text.rpartition(":")
    parts = target.split("/")
    if not source.strip() or not target.startswith("/") or ".." in parts or not any(parts):
        raise ValueError(f"{text!r} is not valid; use SRC:DST, where DST is an absolute path below /")
    return os.path.expanduser(source), "/" + "/".join(part for part in parts if part not in ("", "."))  # noqa: PTH111


def absolute_path(path: str, base: Path) -> Path:
    """Return a path that is relative to `base` as an absolute one, without following links."""
    return Path(os.path.abspath(base / os.path.expanduser(path)))  # noqa: PTH100, PTH111


def read_setup(text: str, base: Path) -> str:
    """Return the setup of an agent: a command line as it is, or the text of a script.

    Args:
        text: a command line, or the path of a script.
        base: the directory in which a relative path starts.

    Raises:
        ValueError: the script does not exist or cannot be read.

    """
    path = absolute_path(text, base)
    try:
        if text and path.is_file():
            return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if text.endswith((".sh", ".bash", ".py")) and not any(c.isspace() for c in text):
        raise ValueError(f"{path} does not exist; give a script's path or a command line")
    return text

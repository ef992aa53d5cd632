"""What users give as the name of an agent, and what to say about a name that is not valid.

Standard library only: options are read in every project that has the plugin installed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from pytest_harbor._util.choices import CALLABLE, FILE_CALLABLE
from pytest_harbor._util.text import alternatives

# Agents of Harbor and other programs that docs/agents.md has recipes for.
_WITH_RECIPE = frozenset(
    ("claude-code", "claude", "codex", "qwen-code", "qwen-coder", "opencode", "mini-swe-agent", "aider", "openhands")
)
# Others that Harbor runs by name.
_WITHOUT_RECIPE = frozenset(
    (
        "amp",
        "antigravity",
        "cline",
        "cline-cli",
        "copilot",
        "copilot-cli",
        "crush",
        "cursor",
        "cursor-cli",
        "droid",
        "gemini",
        "gemini-cli",
        "goose",
        "kimi-cli",
        "openhands-sdk",
        "pi",
        "rovodev-cli",
        "swe-agent",
        "terminus",
        "terminus-1",
        "terminus-2",
        "trae-agent",
    )
)
_FUNCTION = re.compile(r"^(?:async +)?def +([A-Za-z]\w*)\(", re.MULTILINE)
_SHOWN = 3


def is_callable_spec(value: str) -> bool:
    """Return True if a value has the form MODULE:CALLABLE or FILE.py:CALLABLE."""
    module, _, function = value.rpartition(":")
    is_module = module.endswith(".py") or all(part.isidentifier() for part in module.split("."))
    return is_module and module != "harbor" and all(part.isidentifier() for part in function.split("."))


def explain_invalid(value: str, valid: Sequence[str], base: Path | None = None) -> str:
    """Return what to say after a value that names no agent, with what the user may have meant.

    Args:
        value: the value.
        valid: the names that are valid.
        base: the directory in which a relative path starts; None for the current directory.

    """
    name = value.lower().removeprefix("harbor:").partition("@")[0]
    path = (base or Path()) / Path(value).expanduser()
    if name in _WITH_RECIPE or name in _WITHOUT_RECIPE:
        page = "docs/agents.md has a recipe" if name in _WITH_RECIPE else "docs/agents.md explains how"
        return (
            f"is not built in yet; install and run it with --harbor-agent-setup=CMD and "
            f"--harbor-agent-command=CMD, or list it with --harbor-agents=FILE: {page}"
        )
    command = f"is a command, not the name of an agent; use --harbor-agent-command={_quoted(value)}"
    if re.search(r"\s", value):
        return command
    if value.endswith(".py"):
        if not path.is_file():
            return "names no callable and does not exist; use FILE.py:CALLABLE"
        found = _FUNCTION.findall(path.read_text(encoding="utf-8", errors="replace"))
        names = [f"{value}:{function}" for function in (found or ["CALLABLE"])[:_SHOWN]]
        return f"names no callable; use {alternatives(names)}"
    if "/" in value or value.endswith((".sh", ".bash")) or shutil.which(value):
        return command
    from difflib import get_close_matches

    near = get_close_matches(name, valid, 1)
    hint = f"did you mean {near[0]!r}? Use" if near else "use"
    return f"is not valid; {hint} {alternatives((*valid, CALLABLE, FILE_CALLABLE))}"


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w./-]+", value) else f'"{value}"'

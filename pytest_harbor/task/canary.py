"""The canary lines with which benchmarks mark their texts."""

from __future__ import annotations

import re

# Harbor's own rule: leading lines that are an HTML comment or a # comment and hold the word.
_CANARY = re.compile(r"(?:<!--.*canary.*-->|#.*canary.*)", re.IGNORECASE)


def strip_canary(text: str) -> str:
    """Return an instruction without its leading canary lines, and without the empty lines that follow them."""
    lines = text.split("\n")
    start = 0
    while start < len(lines) and _CANARY.fullmatch(lines[start].strip()):
        start += 1
    while start < len(lines) and not lines[start].strip():
        start += 1
    return "\n".join(lines[start:])

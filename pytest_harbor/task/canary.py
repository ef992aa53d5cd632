"""Canary lines, which benchmarks put into their texts to detect training on them."""

from __future__ import annotations

import re

# Harbor's rule: leading lines that are an HTML or # comment and contain the word.
_CANARY = re.compile(r"(?:<!--.*canary.*-->|#.*canary.*)", re.IGNORECASE)


def strip_canary(text: str) -> str:
    """Return an instruction without its leading canary lines and the empty lines after them."""
    lines = text.split("\n")
    start = 0
    while start < len(lines) and _CANARY.fullmatch(lines[start].strip()):
        start += 1
    while start < len(lines) and not lines[start].strip():
        start += 1
    return "\n".join(lines[start:])

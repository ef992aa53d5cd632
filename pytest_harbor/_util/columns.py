"""Text in the columns of a terminal, where some characters take two and some take none."""

from __future__ import annotations

import re
import unicodedata


def width(text: str) -> int:
    """Return how many columns a text takes; escape sequences take none."""
    return sum(map(_columns, re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)))


def cut(text: str, columns: int) -> str:
    """Return the start of a text that fits into some columns."""
    kept = 0
    for number, character in enumerate(text):
        kept += _columns(character)
        if kept > columns:
            return text[:number]
    return text


def fit(text: str, columns: int) -> str:
    """Return a text that fits into some columns, with an ellipsis for the end that does not."""
    return text if width(text) <= columns else f"{cut(text, columns - 1)}…" if columns > 0 else ""


def fit_middle(text: str, columns: int) -> str:
    """Return a text that fits into some columns, with an ellipsis in the middle: names often differ at their ends."""
    if width(text) <= columns:
        return text
    if columns < 8:
        return fit(text, columns)
    end = cut(text[::-1], (columns - 1) // 2)[::-1]
    return f"{cut(text, columns - 1 - width(end))}…{end}"


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return a text with blanks after it, or before it, so that it takes some columns."""
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

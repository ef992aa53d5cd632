"""Texts of others, made fit for a line of ours."""

from __future__ import annotations

from pytest_harbor._util.logs import printable


def shorten(text: str, characters: int = 300) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def one_line(text: str, characters: int | None = 300) -> str:
    """Return the beginning of a text in one line, without what moves a terminal's cursor.

    Args:
        text: the text.
        characters: how many at most; None for all.

    """
    return " ".join(printable(text if characters is None else shorten(text, characters)).split())

"""Text for people: untrusted text made safe to print, counts with their nouns, and lists that stay short."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

# CSI sequences, OSC sequences with all they enclose, and two-character escapes.
_ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")

_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Return text that cannot move a terminal's cursor, ring its bell or break an XML report.

    Lines and tabs stay; escape sequences are removed, and every other control character becomes U+FFFD.
    """
    if text.isprintable():
        return text
    text = _ESCAPE_SEQUENCE.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Line by line, as nearly all lines can stay as they are.
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)
        for line in text.split("\n")
    )


def one_line(text: str, characters: int | None = 300) -> str:
    """Return the start of a text as one printable line.

    Args:
        text: the text.
        characters: the most to keep; None keeps all.

    """
    return " ".join(printable(text if characters is None else shorten(text, characters)).split())


def escaped(text: str, characters: int | None = None) -> str:
    r"""Return a text on one line with its unprintable characters as Python escapes, such as `\n`.

    Unlike one_line(), it drops no character, so this is for names.

    Args:
        text: the text.
        characters: the most to keep before escaping; None keeps all.

    """
    if characters is not None:
        text = shorten(text, characters)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def printable_name(text: str) -> str:
    """Return a name with `_` in place of each unprintable character, for node ids and file names."""
    return "".join(c if c.isprintable() else "_" for c in text)


def encodable_name(text: str) -> str:
    """Return a name with `_` in place of each character that the file system's encoding lacks, as ASCII does most."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode(sys.getfilesystemencoding(), "replace").decode(sys.getfilesystemencoding()).replace("?", "_")
    return text


def without_surrogates(value: Any) -> Any:
    """Return a value of dictionaries, lists and texts in which U+FFFD replaces what is not Unicode.

    Names of files that are not UTF-8 have such characters, and neither UTF-8 nor pytest-xdist's messages can hold them.
    """
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_surrogates, value))
    return value


def shorten(text: str, characters: int = 300) -> str:
    """Return the start of a text, with an ellipsis if something was cut."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def plural(count: int, noun: str, plural_noun: str = "") -> str:
    """Return a count with its noun: "1 task", "1,200 tasks"; the plural defaults to the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural_noun or f'{noun}s'}"


def capitalized(text: str) -> str:
    """Return a text with a capital first letter; unlike str.capitalize(), the rest stays."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str], limit: int) -> str:
    """Join at most `limit` names with commas and count the rest: "a, b and 3 more"."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def alternatives(names: Sequence[str]) -> str:
    """Join names that one can be chosen from: "auto, docker or namespace"."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def attempt_label(agent: str, attempt: int) -> str:
    """Return what distinguishes one trial of a task from another: "claude", "claude-2", "2", or "" for the only one."""
    return "-".join(part for part in (agent, str(attempt) if attempt > 1 else "") if part)

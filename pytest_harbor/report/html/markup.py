"""HTML that is escaped by construction: only what tag() returns is markup, everything else becomes text."""

from __future__ import annotations

import html
from collections.abc import Iterable

from pytest_harbor._util.text import one_line, printable

_EMPTY_ELEMENTS = ("input", "link", "meta", "rect", "line", "circle")


class Markup(str):
    """Text that is HTML already. Whatever is made from it by other means than these functions is plain text again."""

    __slots__ = ()


Child = str | int | None


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """Return an element.

    Args:
        name: its name.
        children: markup as it is, other text escaped, None left out.
        attributes: `class_` is class, and an underscore a dash; True is an attribute without a value, and one that is
            None or False is left out.

    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY_ELEMENTS:
        return Markup(f"<{opening}>" if name in _EMPTY_ELEMENTS[:3] else f"<{opening}/>")
    return Markup(f"<{opening}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Return markup and text in one piece of markup."""
    return Markup("".join(_escape(child) for child in children if child is not None))


def hidden(text: str) -> Markup:
    """Return text that is read aloud and not shown."""
    return tag("span", text, class_="aloud")


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def number(value: float | None) -> str:
    """Return a reward, short, but never rounded to a 0 or 1 that it is not."""
    if value is None:
        return "none"
    said = f"{value:.2f}"
    return repr(value) if float(said) in (0.0, 1.0) and float(said) != value else said


def duration(seconds: float) -> str:
    """Return a time that people can read."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _escape(child: str | int) -> str:
    return child if isinstance(child, Markup) else html.escape(printable(str(child)), quote=False)


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{html.escape(one_line(str(value)))}"'

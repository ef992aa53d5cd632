"""HTML that is escaped by construction: only tag() and join() return markup, everything else becomes text.

Not a template engine: both text and attributes also lose their control characters here, without a filter that a
template could forget.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from pytest_harbor._util.text import one_line, printable

_EMPTY_ELEMENTS = ("input", "link", "meta", "rect", "line", "circle")


class Markup(str):
    """Text that is HTML already. Formatting or concatenating it makes plain text again, which is escaped."""

    __slots__ = ()


Child = str | int | None


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """Return an element.

    Args:
        name: name of the element.
        children: markup is kept, other text is escaped, None is skipped.
        attributes: `class_` means class, and an underscore a dash; True makes an attribute without a value, None and
            False make none.

    """
    opening = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _EMPTY_ELEMENTS:
        return Markup(f"<{opening}>" if name in _EMPTY_ELEMENTS[:3] else f"<{opening}/>")
    return Markup(f"<{opening}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Join markup and text into one piece of markup."""
    return Markup("".join(_escape(child) for child in children if child is not None))


def screen_reader_text(text: str) -> Markup:
    """Return text that is read by screen readers and not shown."""
    return tag("span", text, class_="sr-only")


def number(value: float | None) -> str:
    """Return a reward with two decimals, but never round it to 0 or 1."""
    if value is None:
        return "none"
    text = f"{value:.2f}"
    return repr(value) if float(text) in (0.0, 1.0) and float(text) != value else text


def duration(seconds: float) -> str:
    """Return a duration for people: 4.2 s, 3 min 05 s, 1 h 02 min."""
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

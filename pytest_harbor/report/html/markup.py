"""HTML that is escaped by construction: only tag() and join() return markup, everything else becomes text.

Not a template engine: both text and attributes also lose their control characters here, without a filter that a
template could forget.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import datetime

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


def data_table(title: str, heads: Iterable[str], rows: Iterable[Markup], *, sortable: bool = False) -> Markup:
    """Return a table that scrolls by itself if it is too wide.

    Args:
        title: id of the heading that names it.
        heads: the heads of the columns.
        rows: the rows.
        sortable: whether the script lets readers sort it.

    """
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
            tag("tbody", *rows),
            class_="sortable" if sortable else None,
            aria_labelledby=title,
        ),
        class_="wide",
        tabindex=0,
        role="region",
        aria_labelledby=title,
    )


def share_bar(share: float) -> Markup:
    """Return a bar that is filled to a share."""
    return tag(
        "svg",
        tag("rect", class_="groove", width=100, height=8, rx=4),
        tag("rect", class_="bar", width=f"{100 * share:.2f}", height=8, rx=4),
        viewBox="0 0 100 8",
        class_="share",
        aria_hidden="true",
        preserveAspectRatio="none",
    )


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
    """Return a duration for people: 12.3 s, 2 min 5 s, 1 h 2 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(text: str) -> Markup | None:
    """Return a time in ISO 8601 as one for people, in this machine's time zone; the script makes it the reader's.

    Args:
        text: the time; what is not one is shown as it is, and nothing for an empty text.

    """
    try:
        local = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return join([one_line(text, 100)]) if text else None
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][local.month - 1]
    shown = f"{month} {local.day}, {local.year}, {local:%H:%M} {local.tzname()}"
    return tag("time", shown, datetime=local.isoformat(timespec="seconds"))


def _escape(child: str | int) -> str:
    return child if isinstance(child, Markup) else html.escape(printable(str(child)), quote=False)


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{html.escape(one_line(str(value)))}"'

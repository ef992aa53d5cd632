"""What differs: the failing tests of a trial, with each message once, however many tests it comes from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_harbor._util.text import one_line, plural, printable, shorten
from pytest_harbor.report.html.markup import Markup, join, tag
from pytest_harbor.trial.ctrf import InnerTest, InnerTests

MAX_NAMES = 12
# A line of a diff, also as pytest shows it, behind an E.
_ADDED = re.compile(r"(?:E\s*)?\s*\+")
_REMOVED = re.compile(r"(?:E\s*)?\s*-")


def failing_tests(tests: InnerTests, room: int) -> tuple[Markup, int]:
    """Return the failed tests, and how many characters of the room they took."""
    items: list[Markup] = []
    used = shown = 0
    for message, failures in _by_message(tests.failures):
        if used >= room:
            break
        text = shorten(message, max(200, room - used))
        used += len(text) + sum(len(failure.name) for failure in failures[:MAX_NAMES])
        shown += len(failures)
        items.append(tag("li", _names(failures), tag("pre", diff(text)) if text.strip() else None))
    more = tests.failed - shown
    if items and more > 0:
        items.append(tag("li", f"and {more:,} more", class_="quiet"))
    heading = tag("h3", f"{tests.failed:,} of {plural(tests.total, 'test')} failed")
    return join([heading, tag("ul", *items, class_="failures") if items else None]), used


def _by_message(failures: Sequence[InnerTest]) -> list[tuple[str, list[InnerTest]]]:
    groups: dict[str, list[InnerTest]] = {}
    for failure in failures:
        groups.setdefault(failure.message, []).append(failure)
    return list(groups.items())


def _names(failures: Sequence[InnerTest]) -> Markup:
    names = [tag("code", one_line(failure.name)) for failure in failures[:MAX_NAMES]]
    separated = [part for name in names for part in (", ", name)][1:]
    more = f" and {len(failures) - len(names):,} more" if len(failures) > len(names) else ""
    count = tag("span", f" ({len(failures):,} tests, same message)", class_="quiet") if len(failures) > 1 else None
    return tag("p", *separated, more, count)


def diff(text: str) -> Markup:
    """Return a text with the lines of a diff in it marked, if it has both added and removed lines."""
    lines = printable(text).split("\n")
    kinds = ["add" if _ADDED.match(line) else "del" if _REMOVED.match(line) else "" for line in lines]
    if not {"add", "del"} <= set(kinds):
        return join([text])
    marked = [tag("span", line, class_=kind) if kind else line for line, kind in zip(lines, kinds, strict=True)]
    return join([part for line in marked for part in ("\n", line)][1:])

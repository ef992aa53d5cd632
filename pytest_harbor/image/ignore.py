"""Ignore files (.dockerignore) with the semantics of BuildKit, quirks included.

Reading follows moby/patternmatcher's ignorefile, matching its patternmatcher, and the walk tonistiigi/fsutil's filter:
whatever a build with BuildKit sees must be what an image's digest covers and what a build without an engine copies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_harbor.errors import ImageError

# What Go's strings.TrimSpace() removes.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# Escapes of Go's regular expressions, as Python spells them; others with a letter or digit are not supported.
_ESCAPES = {letter: f"\\{letter}" for letter in "aftnrvdDsSwW"}
_OUTSIDE_CLASSES = {**_ESCAPES, "b": r"\b", "B": r"\B", "A": r"\A", "z": r"\Z"}
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t\ ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": r"\ -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r\ ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_REPETITION = re.compile(r"\{\d+(?:,\d*)?\}")


class IgnorePatternError(ImageError):
    """A pattern that BuildKit refuses."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"ignore pattern {fact}", "correct it in the .dockerignore file; BuildKit refuses it too")


def read_patterns(text: str) -> list[str]:
    """Return the patterns of an ignore file, without comments and blank lines."""
    patterns = []
    for line in text.removeprefix("\ufeff").split("\n"):
        # Only a # in the first column begins a comment.
        line = line.removesuffix("\r")
        pattern = "" if line.startswith("#") else line.strip(_SPACE)
        if not pattern:
            continue
        inverted = pattern.startswith("!")
        if inverted:
            pattern = pattern[1:].strip(_SPACE)
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        patterns.append(f"!{pattern}" if inverted else pattern)
    return patterns


def clean(path: str) -> str:
    """Return the shortest equivalent of a path, as Go's path.Clean() does."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part != ".." or (parts and parts[-1] != ".."):
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        elif not rooted:
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts) or "."


@dataclass(frozen=True)
class Pattern:
    """One pattern.

    Attributes:
        text: the pattern, without the exclamation mark of an exception.
        exception: whether it includes what an earlier pattern excluded.

    """

    text: str
    exception: bool

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Check a pattern.

        Raises:
            IgnorePatternError: BuildKit would refuse it.

        """
        cleaned = clean(text)
        if cleaned == "!":
            raise IgnorePatternError("'!' excepts nothing")
        pattern = cls(cleaned.removeprefix("!"), cleaned.startswith("!"))
        _check(pattern.text)
        return pattern

    @cached_property
    def matches(self) -> Callable[[str], bool]:
        """The function that returns True for a path that matches.

        Raises:
            IgnorePatternError: the pattern cannot be compiled.

        """
        kind, expression = _compile(self.text)
        text = self.text
        if kind == "exact":
            return lambda path: path == text
        if kind == "prefix":
            return lambda path: path.startswith(text[:-2])
        if kind == "suffix":
            return lambda path: path.endswith(text[2:]) or (text[2:3] == "/" and path == text[3:])
        try:
            compiled = re.compile(_python_expression(expression), re.ASCII)
        except (re.error, LookupError, OverflowError) as error:
            raise IgnorePatternError(f"{text!r} is not a valid pattern") from error
        return lambda path: compiled.search(path) is not None

    @cached_property
    def prefix(self) -> str:
        """The pattern without a final wildcard."""
        return self.text.removesuffix("/**").removesuffix("/*")


class IgnoreMatcher:
    """The patterns of an ignore file.

    Raises:
        IgnorePatternError: BuildKit refuses one of them.

    """

    def __init__(self, patterns: Iterable[str]) -> None:
        stripped = (pattern.strip(_SPACE) for pattern in patterns)
        self._patterns = [Pattern.parse(pattern) for pattern in stripped if pattern]
        exceptions = [pattern for pattern in self._patterns if pattern.exception]
        self._literal = not any(re.search(r"[*\[\]?^\\]", pattern.prefix) for pattern in exceptions)
        self._prefixes = [f"{pattern.prefix}/" for pattern in exceptions]

    def excludes(self, path: str) -> bool:
        """Return True if a path, or a directory above it, is excluded."""
        above: Sequence[bool] = ()
        excluded = False
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            excluded, above = self._match("/".join(parts[:count]), above)
        return excluded

    def walk(self, root: Path) -> Iterator[str]:
        """Yield the paths below a directory that are not excluded, and the directories on the way to them.

        Links are not followed. Directories come before what is in them.

        Raises:
            OSError: a directory cannot be read.

        """
        return self._walk(root, "", (), [])

    def _walk(self, root: Path, directory: str, above: Sequence[bool], pending: list[str]) -> Iterator[str]:
        with os.scandir(root / directory) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            path = f"{directory}/{entry.name}" if directory else entry.name
            excluded, matched = self._match(path, above)
            if not excluded:
                # An excluded directory comes with the first path below it that is not.
                yield from pending
                pending.clear()
                yield path
            if not entry.is_dir(follow_symlinks=False) or (excluded and not self._may_include_below(path)):
                continue
            if excluded:
                pending.append(path)
            yield from self._walk(root, path, matched, pending)
            if pending:
                pending.pop()

    def _match(self, path: str, above: Sequence[bool]) -> tuple[bool, list[bool]]:
        """Return whether a path is excluded, and which patterns it matched.

        Args:
            path: the path.
            above: the patterns that its directory matched.

        """
        excluded = False
        matched = [False] * len(self._patterns)
        for number, pattern in enumerate(self._patterns):
            match = bool(above) and above[number]
            if not match:
                if pattern.exception != excluded:
                    continue
                match = pattern.matches(path)
            matched[number] = match
            if match:
                excluded = not pattern.exception
        return excluded, matched

    def _may_include_below(self, directory: str) -> bool:
        """Return False if no exception can match anything below an excluded directory."""
        return not self._literal or any(prefix.startswith(f"{directory}/") for prefix in self._prefixes)


def _check(pattern: str) -> None:
    """Raise IgnorePatternError where BuildKit refuses a pattern: where Go's filepath.Match(pattern, ".") does.

    That stops at the first part between two stars that does not match, so not every bad pattern is refused.
    """
    rest = pattern.lstrip("*")
    end = _check_part(rest)
    following = rest[end:].lstrip("*")
    if following and Pattern(rest[:end], False).matches("."):
        _check_part(following)


def _check_part(pattern: str) -> int:
    """Check the syntax of a pattern up to the first star outside character classes, and return where that is."""
    at = 0

    def character() -> None:
        """Skip a character of a class; the class must go on after it."""
        nonlocal at
        if pattern[at : at + 1] in ("", "-", "]"):
            raise IgnorePatternError(f"{pattern!r} has an invalid character class")
        at += 2 if pattern[at] == "\\" else 1
        if at >= len(pattern):
            raise IgnorePatternError(f"{pattern!r} has an unclosed character class")

    while at < len(pattern) and pattern[at] != "*":
        start = pattern[at]
        at += 1
        if start == "\\":
            if at == len(pattern):
                raise IgnorePatternError(f"{pattern!r} ends with a backslash")
            at += 1
        elif start == "[":
            at += pattern[at : at + 1] == "^"
            empty = True
            while empty or pattern[at] != "]":
                character()
                if pattern[at] == "-":
                    at += 1
                    character()
                empty = False
            at += 1
    return at


def _compile(pattern: str) -> tuple[str, str]:
    """Return how to match a pattern (exact, prefix, suffix or regexp), and its regular expression in Go's syntax."""
    kind, expression, at = "exact", "^", 0
    while at < len(pattern):
        first, char = at == 0, pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            at += 1
            # Treat **/ as **.
            at += pattern[at : at + 1] == "/"
            if at < len(pattern):
                expression += "(.*/)?"
                kind = "regexp"
            elif kind == "exact":
                kind = "prefix"
            else:
                expression += ".*"
                kind = "regexp"
            if first:
                kind = "suffix"
        elif char in "*?":
            expression += "[^/]*" if char == "*" else "[^/]"
            kind = "regexp"
        elif char in ".+()$":
            expression += f"\\{char}"
        elif char == "\\" and at < len(pattern):
            expression += f"\\{pattern[at]}"
            kind = "regexp"
            at += 1
        else:
            expression += char
            if char in "[]":
                kind = "regexp"
    return kind, f"{expression}$"


def _python_expression(expression: str) -> str:
    """Translate a regular expression from Go's syntax to Python's."""
    out, at = "", 0
    while at < len(expression):
        char = expression[at]
        repetition = _REPETITION.match(expression, at)
        if char == "\\":
            out += _escape(expression[at + 1], _OUTSIDE_CLASSES)
            at += 2
        elif char == "[":
            text, at = _character_class(expression, at + 1)
            out += text
        elif repetition:
            out += repetition[0]
            at = repetition.end()
        else:
            out += "\\Z" if char == "$" else char if char in "^.*?()|" else re.escape(char)
            at += 1
    return out


def _character_class(expression: str, at: int) -> tuple[str, int]:
    """Translate a character class; return it and where it ends."""
    out = "["
    if expression[at] == "^":
        out += "^"
        at += 1
    empty = True
    while expression[at] != "]" or empty:
        empty = False
        end = expression.find(":]", at + 2)
        if expression.startswith("[:", at) and end >= 0:
            out += _CLASSES[expression[at + 2 : end]]
            at = end + 2
            continue
        text, at = _class_character(expression, at)
        out += text
        if expression[at] == "-" and expression[at + 1] != "]":
            text, at = _class_character(expression, at + 1)
            out += f"-{text}"
    return f"{out}]", at + 1


def _class_character(expression: str, at: int) -> tuple[str, int]:
    if expression[at] == "\\":
        return _escape(expression[at + 1], _ESCAPES), at + 2
    return f"\\{expression[at]}" if expression[at] in "[]\\^-&~|" else expression[at], at + 1


def _escape(char: str, known: dict[str, str]) -> str:
    if char.isalnum():
        return known[char]
    return re.escape(char)

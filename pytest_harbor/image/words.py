"""Words of Dockerfile instructions: splitting, quotes and variables.

It follows BuildKit: parseWords() of frontend/dockerfile/parser, and the lexer of frontend/dockerfile/shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# What BuildKit splits instructions at.
BLANKS = " \t\v\f\r"
_BLANKS = re.compile(r"[ \t\v\f\r]+")
_SPECIAL_PARAMETERS = "@*#?-$!0"
_IN_PATTERNS = {"*": ".*", "?": "."}


class DockerfileError(ValueError):
    """A Dockerfile cannot be parsed; the message names the line."""


def split_blanks(text: str, most: int = 0) -> list[str]:
    """Split at blanks, whether quoted or not, as COPY, VOLUME and FROM do; at most so many times, if not 0."""
    return _BLANKS.split(text, maxsplit=most) if text else []


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Split at blanks outside quotes, as ENV, LABEL and ARG do; quotes and escapes are kept."""
    words, word, quote, at = [], "", "", 0
    started = False
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace():
            if started:
                words.append(word)
            word, started = "", False
            continue
        if char == escape and quote != "'":
            if at == len(text):
                break
            char += text[at]
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        word += char
        started = True
    return [*words, word] if started else words


def split_flags(text: str, escape: str = "\\") -> tuple[list[str], str]:
    """Split into the leading words that begin with two dashes, without quotes and escapes, and the rest."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, quote = "", ""
        while at < len(text) and (quote or not text[at].isspace()):
            char = text[at]
            at += 1
            if quote and char == quote:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
            elif char != escape:
                word += char
            elif at < len(text):
                word += text[at]
                at += 1
        if word == "--":
            return flags, text[at:].lstrip()
        flags.append(word)


def expand(word: str, values: Mapping[str, str], escape: str = "\\", *, quotes: bool = True) -> str:
    """Expand variables as instructions other than RUN do, and remove quotes and escapes.

    Args:
        word: the text.
        values: the variables; an unknown one expands to nothing.
        escape: the escape character.
        quotes: whether quotes are special; in heredocs they are not.

    Raises:
        DockerfileError: a quote or brace is not closed, a form of `${...}` does not exist, or `${name:?why}` applies.

    """
    return _Expansion(word, values, escape, quotes=quotes).result()


def unquote(word: str, escape: str = "\\") -> str:
    """Remove quotes and escapes, and leave variables alone."""
    return _Expansion(word, None, escape, quotes=True).result()


def path_pattern(pattern: str) -> re.Pattern[str]:
    """Return the expression for one component of a path in COPY and ADD, as Go's filepath.Match() reads it.

    Raises:
        DockerfileError: the pattern is not valid.

    """
    match = re.fullmatch(r"(?:\\.|\[\^?(?:(?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?)+\]|[^\\\[])*", pattern, re.DOTALL)
    if not match:
        raise DockerfileError(f"{pattern} is not a valid pattern")
    out = ""
    for part in re.findall(r"\\.|\[\^?(?:\\.|[^\\\]])+\]|.", pattern, re.DOTALL):
        if part == "*":
            out += ".*"
        elif part == "?":
            out += "."
        elif part.startswith("["):
            negated = part.startswith("[^")
            inner = re.sub(
                r"\\?(.)", lambda char: "-" if char[0] == "-" else re.escape(char[1]), part[1 + negated : -1]
            )
            out += f"[{'^' if negated else ''}{inner}]"
        else:
            out += re.escape(part[-1])
    return re.compile(out, re.DOTALL)


class _Expansion:
    def __init__(self, text: str, values: Mapping[str, str] | None, escape: str, *, quotes: bool) -> None:
        self._text = text
        self._values = values
        self._escape = escape
        self._quotes = quotes
        self._at = 0

    def result(self) -> str:
        try:
            return self._until("")
        except DockerfileError as error:
            raise DockerfileError(f"{self._text!r}: {error}") from None

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _until(self, stop: str, *, keep_escapes: bool = False) -> str:
        """Return the expansion of everything before a character, which is skipped; or before the end."""
        out = ""
        while char := self._peek():
            if stop and char == stop:
                self._at += 1
                return out
            if char == "$" and self._values is not None:
                out += self._dollar()
            elif self._quotes and char == "'":
                out += self._single_quoted()
            elif self._quotes and char == '"':
                out += self._double_quoted(keep_escapes=keep_escapes)
            elif char == self._escape:
                self._at += 1
                out += (char if keep_escapes else "") + self._next()
            else:
                out += self._next()
        if stop:
            raise DockerfileError(f"{stop} is missing")
        return out

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise DockerfileError("a single quote is not closed")
        out = self._text[self._at + 1 : end]
        self._at = end + 1
        return out

    def _double_quoted(self, *, keep_escapes: bool) -> str:
        out = ""
        self._at += 1
        while (char := self._peek()) != '"':
            if not char:
                raise DockerfileError("a double quote is not closed")
            if char == "$" and self._values is not None:
                out += self._dollar()
                continue
            self._at += 1
            if char == self._escape:
                out += char if keep_escapes else ""
                # Any other character keeps its backslash.
                if self._peek() and self._peek() in f'"${self._escape}':
                    char = self._next()
            out += char
        self._at += 1
        return out

    def _dollar(self) -> str:
        assert self._values is not None
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            return self._values.get(name, "") if name else "$"
        self._at += 1
        if self._peek() in ("", "{", "}", ":"):
            raise DockerfileError("this substitution is not valid")
        name = self._name()
        operator = self._next()
        if operator == "}":
            return self._values.get(name, "")
        if operator == ":":
            operator += self._next()
        if not operator:
            raise DockerfileError("} is missing")
        if operator in ("#", "%"):
            return self._trimmed(name, operator, self._until("}", keep_escapes=True))
        if operator == "/":
            return self._replaced(name)
        if operator.removeprefix(":") in ("-", "+", "?") and operator.removeprefix(":"):
            return self._alternative(name, operator, self._until("}"))
        raise DockerfileError(f"the substitution ${{{name}{operator}}} does not exist")

    def _name(self) -> str:
        match = re.compile(r"\d+|[^\W\d]\w*").match(self._text, self._at)
        if not match and self._peek() and self._peek() in _SPECIAL_PARAMETERS:
            return self._next()
        if not match:
            return ""
        self._at = match.end()
        return match[0]

    def _alternative(self, name: str, operator: str, word: str) -> str:
        assert self._values is not None
        value = self._values.get(name, "")
        is_set = name in self._values and not (operator.startswith(":") and not value)
        if operator.endswith("-"):
            return value if is_set else word
        if operator.endswith("+"):
            return word if is_set else ""
        if not is_set:
            raise DockerfileError(f"{name}: {word or 'is not set'}")
        return value

    def _trimmed(self, name: str, operator: str, pattern: str) -> str:
        assert self._values is not None
        value = self._values.get(name, "")
        greedy = pattern.startswith(operator)
        expression = _pattern(pattern.removeprefix(operator), greedy=greedy)
        if operator == "#":
            found = expression.match(value)
            return value[found.end() :] if found else value
        # The shortest or the longest end that matches.
        ends = range(len(value) + 1) if greedy else range(len(value), -1, -1)
        return next((value[:at] for at in ends if expression.fullmatch(value, at)), value)

    def _replaced(self, name: str) -> str:
        assert self._values is not None
        everywhere = self._peek() == "/"
        self._at += everywhere
        expression = _pattern(self._until("/", keep_escapes=True), greedy=True)
        replacement = self._until("}", keep_escapes=True)
        return expression.sub(lambda match: replacement, self._values.get(name, ""), count=0 if everywhere else 1)


def _pattern(pattern: str, *, greedy: bool) -> re.Pattern[str]:
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            escaped = pattern[at : at + 1]
            if not escaped or escaped not in "*?\\}/":
                raise DockerfileError(f"\\{escaped} is not an escape in a pattern")
            out += re.escape(escaped)
            at += 1
        elif char in _IN_PATTERNS:
            out += _IN_PATTERNS[char] + ("?" if char == "*" and not greedy else "")
        else:
            out += re.escape(char)
    return re.compile(out)

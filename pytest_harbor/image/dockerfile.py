"""A Dockerfile scanner that keeps the exact source text of each instruction.

It follows BuildKit's parser (frontend/dockerfile/parser): parser directives, comments and blank lines within
continuations, heredocs. The texts of all pieces, joined, are the original file, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_DIRECTIVE = re.compile(r"^#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*?)\s*$")
_DIRECTIVES = {"syntax", "escape", "check"}
_WITH_HEREDOCS = {"RUN", "COPY", "ADD"}
_HEREDOC = re.compile(r"^\d*<<(-?)([^<]+)$", re.DOTALL)
_BLANKS = " \t\v\f\r"
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=((?:\"[^\"]*\"|'[^']*'|\S)*))?(?:[ \t\v\f\r]+|$)")


class DockerfileError(ValueError):
    """A Dockerfile cannot be parsed; the message names the line."""


@dataclass(frozen=True)
class Heredoc:
    """A heredoc of an instruction.

    Attributes:
        name: the delimiter that ends it.
        content: its lines; without leading tabs if it begins with `<<-`.
        expand: whether variables in it are expanded; they are not if the delimiter is quoted.

    """

    name: str
    content: str
    expand: bool


@dataclass(frozen=True)
class Piece:
    """A piece of a Dockerfile: an instruction, or a comment, blank line or directive between instructions.

    Attributes:
        text: the exact source text, with line ends.
        line: the number of its first line, from 1.
        keyword: the instruction in upper case; empty if the piece is not an instruction.
        arguments: the text after the keyword, with continuations joined, without comments and heredocs.
        heredocs: the heredocs of the instruction.

    """

    text: str
    line: int
    keyword: str = ""
    arguments: str = ""
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def flags(self) -> tuple[tuple[str, str], ...]:
        """The leading flags, as names and values."""
        return self._split()[0]

    @property
    def operands(self) -> str:
        """The arguments after the flags."""
        return self._split()[1]

    @property
    def words(self) -> tuple[str, ...] | None:
        """The operands, if they are a JSON list of strings; None otherwise."""
        try:
            found = json.loads(self.operands) if self.operands.startswith("[") else None
        except ValueError:
            return None
        return tuple(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else None

    def _split(self) -> tuple[tuple[tuple[str, str], ...], str]:
        rest, flags = self.arguments, []
        while match := _FLAG.match(rest):
            flags.append((match[1], match[2] or ""))
            rest = rest[match.end() :]
        return tuple(flags), rest


@dataclass(frozen=True)
class Stage:
    """A build stage.

    Attributes:
        base: the image or earlier stage in FROM, as written.
        name: the stage's name in lower case; empty if it has none.
        begin: the FROM instruction.
        instructions: the instructions after it.

    """

    base: str
    name: str
    begin: Piece
    instructions: tuple[Piece, ...]


@dataclass(frozen=True)
class Dockerfile:
    """A scanned Dockerfile.

    Attributes:
        pieces: all pieces, in order.
        escape: the line continuation character: a backslash, or a backtick if a directive says so.

    """

    pieces: tuple[Piece, ...]
    escape: Literal["\\", "`"] = "\\"

    @classmethod
    def parse(cls, text: str) -> Dockerfile:
        """Scan a text.

        Raises:
            DockerfileError: a heredoc is not terminated.

        """
        lines = [line for line in re.split(r"(?<=\n)", text) if line]
        directives = dict(_directives(lines))
        escape: Literal["\\", "`"] = "`" if directives.get("escape") == "`" else "\\"
        return cls(tuple(_Scanner(lines, escape).pieces()), escape)

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        """Scan a file; bytes that are not UTF-8 are preserved.

        Raises:
            DockerfileError: a heredoc is not terminated.
            OSError: the file cannot be read.

        """
        return cls.parse(path.read_bytes().decode("utf-8", "surrogateescape"))

    @property
    def text(self) -> str:
        """The original text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def instructions(self) -> tuple[Piece, ...]:
        """The pieces that are instructions."""
        return tuple(piece for piece in self.pieces if piece.keyword)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages; instructions before the first FROM belong to none of them."""
        found: list[Stage] = []
        for piece in self.instructions:
            if piece.keyword == "FROM":
                words = piece.operands.split()
                named = len(words) == 3 and words[1].lower() == "as"
                found.append(Stage(words[0] if words else "", words[2].lower() if named else "", piece, ()))
            elif found:
                last = found[-1]
                found[-1] = Stage(last.base, last.name, last.begin, (*last.instructions, piece))
        return tuple(found)


def _directives(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        match = _DIRECTIVE.match(line.lstrip("\ufeff").strip())
        if not match or match[1].lower() not in _DIRECTIVES:
            return
        yield match[1].lower(), match[2]


class _Scanner:
    def __init__(self, lines: list[str], escape: str) -> None:
        self._lines = lines
        self._at = 0
        self._escape = escape
        mark = re.escape(escape)
        # Not after another escape character, which would escape it.
        self._continued = re.compile(rf"(?:^|(?<=[^{mark}])){mark}[ \t]*$")

    def pieces(self) -> Iterator[Piece]:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            bare = line.lstrip("\ufeff") if self._at == 0 else line
            if not bare.strip() or bare.strip().startswith("#"):
                self._at += 1
                yield Piece(line, self._at)
            else:
                yield self._instruction()

    def _instruction(self) -> Piece:
        first = self._at
        logical, continues = "", True
        while continues and self._at < len(self._lines):
            line = self._lines[self._at].rstrip("\r\n")
            if self._at == 0:
                line = line.lstrip("\ufeff")
            self._at += 1
            if self._at - 1 > first and (not line.strip() or line.strip().startswith("#")):
                continue
            match = self._continued.search(line)
            continues = match is not None
            logical += line[: match.start()] if match else line
        keyword, arguments = _split_first_word(logical.strip())
        keyword = keyword.upper()
        # The instruction after ONBUILD may have heredocs too.
        inner = _split_first_word(arguments)[0].upper() if keyword == "ONBUILD" else keyword
        heredocs: tuple[Heredoc, ...] = ()
        if inner in _WITH_HEREDOCS and "<<" in arguments:
            heredocs = tuple(self._heredoc(*start, first + 1) for start in self._heredoc_starts(arguments))
        return Piece("".join(self._lines[first : self._at]), first + 1, keyword, arguments, heredocs)

    def _heredoc_starts(self, arguments: str) -> list[tuple[str, bool, bool]]:
        """Return the heredocs that a line starts: delimiter, whether tabs are removed, whether it is quoted."""
        found = []
        for word in split_words(arguments, self._escape):
            match = _HEREDOC.match(word)
            if match:
                name = unquote(match[2], self._escape)
                if name:
                    found.append((name, bool(match[1]), name != match[2]))
        return found

    def _heredoc(self, name: str, chomp: bool, quoted: bool, line: int) -> Heredoc:
        content: list[str] = []
        while self._at < len(self._lines):
            raw = self._lines[self._at]
            self._at += 1
            text = raw.lstrip("\t") if chomp else raw
            if text.rstrip("\r\n") == name:
                return Heredoc(name, "".join(content), not quoted)
            content.append(text)
        raise DockerfileError(f"line {line}: heredoc {name} is not terminated")


def _split_first_word(text: str) -> tuple[str, str]:
    """Return the first word and the rest."""
    match = re.match(rf"([^{_BLANKS}]*)[{_BLANKS}]*(.*)", text, re.DOTALL)
    assert match is not None
    return match[1], match[2]


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Split at blanks outside quotes; quotes and escapes are kept."""
    words, word, quote, at = [], "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in _BLANKS + "\n":
            if word:
                words.append(word)
            word, at = "", at + 1
            continue
        word += char
        at += 1
    return [*words, word] if word else words


def unquote(word: str, escape: str = "\\") -> str:
    """Remove quotes and escapes."""
    return expand(word, {}, escape, variables=False)


_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*|[0-9])|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+?])|\}))")


def expand(
    word: str,
    values: dict[str, str],
    escape: str = "\\",
    *,
    variables: bool = True,
    quotes: bool = True,
) -> str:
    """Expand variables as instructions other than RUN do, and remove quotes.

    Args:
        word: the text.
        values: the variables; an unknown one expands to nothing.
        escape: the escape character.
        variables: whether to expand variables.
        quotes: whether quotes are special; in heredocs they are not.

    Raises:
        DockerfileError: an unsupported form of `${...}`, or `${name:?why}` with an unset variable.

    """
    out, quote, at = "", "", 0
    while at < len(word):
        char = word[at]
        if char == escape and quote != "'" and at + 1 < len(word):
            following = word[at + 1]
            # In double quotes and heredocs, an escape only affects the characters that are special there.
            literal = (quote == '"' or not quotes) and following not in f'"${escape}'
            out += char + following if literal else following
            at += 2
        elif quotes and quote and char == quote:
            quote, at = "", at + 1
        elif quotes and not quote and char in "\"'":
            quote, at = char, at + 1
        elif variables and char == "$" and quote != "'":
            text, at = _variable(word, at, values, escape)
            out += text
        else:
            out, at = out + char, at + 1
    return out


def _variable(word: str, at: int, values: dict[str, str], escape: str) -> tuple[str, int]:
    match = _VARIABLE.match(word, at)
    if not match:
        if word.startswith("${", at):
            raise DockerfileError(f"{word[at:]!r}: this form of variable expansion is not supported")
        return "$", at + 1
    name, operator = match[1] or match[2], match[3]
    if not operator:
        return values.get(name, ""), match.end()
    end, depth = match.end(), 1
    while end < len(word) and depth:
        depth += {"{": 1, "}": -1}.get(word[end], 0)
        end += 1
    if depth:
        raise DockerfileError(f"{word[at:]!r} has no closing brace")
    other = expand(word[match.end() : end - 1], values, escape)
    is_set = name in values and (not operator.startswith(":") or values[name] != "")
    if operator.endswith("-"):
        return (values[name] if is_set else other), end
    if operator.endswith("+"):
        return (other if is_set else ""), end
    if not is_set:
        raise DockerfileError(f"{name}: {other or 'it is not set'}")
    return values[name], end

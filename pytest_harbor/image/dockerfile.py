"""A Dockerfile scanner that keeps the exact source text of each instruction.

It follows BuildKit's parser (frontend/dockerfile/parser): parser directives, comments and blank lines within
continuations, heredocs. The texts of all pieces, joined, are the original file, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pytest_harbor.image.words import BLANKS, DockerfileError, split_flags, split_words, unquote

_DIRECTIVE = re.compile(r"^#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*?)\s*$")
_DIRECTIVES = {"syntax", "escape", "check"}
_WITH_HEREDOCS = {"RUN", "COPY", "ADD"}
_HEREDOC = re.compile(r"^\d*<<(-?)([^<]+)$", re.DOTALL)
_HEREDOC_MARK = re.compile(r"^\d*<<-?$")


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
        escape: the Dockerfile's escape character.

    """

    text: str
    line: int
    keyword: str = ""
    arguments: str = ""
    heredocs: tuple[Heredoc, ...] = ()
    escape: str = "\\"

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
        """The operands, if they are a JSON list; None otherwise.

        Raises:
            DockerfileError: it holds something else than strings.

        """
        try:
            found = json.loads(self.operands) if self.operands.startswith("[") else None
        except ValueError:
            return None
        if found is not None and not all(isinstance(word, str) for word in found):
            raise DockerfileError(f"line {self.line}: the list after {self.keyword} may only hold strings")
        return None if found is None else tuple(found)

    @property
    def trigger(self) -> Piece:
        """The instruction after ONBUILD.

        Raises:
            DockerfileError: there is none, or it may not be there.

        """
        keyword, arguments = _split_first_word(self.arguments)
        if keyword.upper() in ("", "FROM", "MAINTAINER", "ONBUILD"):
            raise DockerfileError(f"line {self.line}: ONBUILD needs another instruction")
        return replace(self, keyword=keyword.upper(), arguments=arguments)

    def _split(self) -> tuple[tuple[tuple[str, str], ...], str]:
        words, rest = split_flags(self.arguments, self.escape)
        flags = (word.removeprefix("--").partition("=") for word in words)
        return tuple((name, value) for name, _, value in flags), rest


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
            DockerfileError: a heredoc is not terminated, or a parser directive is not valid.

        """
        lines = [line for line in re.split(r"(?<=\n)", text) if line]
        value = _directives(lines).get("escape", "\\")
        if value not in ("\\", "`"):
            raise DockerfileError(f"the escape character can only be a backslash or a backtick, not {value!r}")
        escape: Literal["\\", "`"] = "`" if value == "`" else "\\"
        return cls(tuple(_Scanner(lines, escape).pieces()), escape)

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        """Scan a file; bytes that are not UTF-8 are preserved.

        Raises:
            DockerfileError: a heredoc is not terminated, or a parser directive is not valid.
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


def _directives(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line.lstrip("\ufeff").strip())
        if not match or match[1].lower() not in _DIRECTIVES:
            break
        if match[1].lower() in found:
            raise DockerfileError(f"line {number}: there is more than one {match[1]} directive")
        found[match[1].lower()] = match[2]
    return found


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
        return Piece("".join(self._lines[first : self._at]), first + 1, keyword, arguments, heredocs, self._escape)

    def _heredoc_starts(self, arguments: str) -> list[tuple[str, bool, bool]]:
        """Return the heredocs that a line starts: delimiter, whether tabs are removed, whether it is quoted."""
        found = []
        words = split_words(arguments, self._escape)
        for word, following in zip(words, [*words[1:], ""], strict=True):
            spaced = _HEREDOC_MARK.match(word) is not None
            match = _HEREDOC.match(word + following if spaced else word)
            name = self._delimiter(match[2]) if match else ""
            # With a space, it may also be an operator of arithmetic.
            if match and name and (not spaced or self._has_line(name)):
                found.append((name, bool(match[1]), name != match[2]))
        return found

    def _delimiter(self, word: str) -> str:
        try:
            return unquote(word, self._escape)
        except DockerfileError:
            return ""  # a quote is not closed, so the shell has to complain

    def _has_line(self, text: str) -> bool:
        return any(line.strip("\t\r\n") == text for line in self._lines[self._at :])

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
    match = re.match(rf"([^{BLANKS}]*)[{BLANKS}]*(.*)", text, re.DOTALL)
    assert match is not None
    return match[1], match[2]

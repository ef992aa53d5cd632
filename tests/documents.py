"""The documentation as tests: the blocks of a page, and how they run.

A page runs section by section (one `##` heading each), every section in a directory of its own with a copy of
examples/. Shell blocks are executed, Python blocks run as a script, TOML, YAML, INI and JSON blocks are parsed. An
HTML comment in front of a block changes that:

    <!-- not run: REASON -->    the block is not run
    <!-- exits with 1 -->       the exit status of the block's last command; the others exit with 0
    <!-- file: PATH -->         the block is written to PATH; if the comment has more lines, those are, and no block
    <!-- needs: engine -->      the section needs a Docker Engine (tests/docker runs it), or the module that is named
    <!-- run: COMMAND -->       the command is run at this place; it prepares what a reader has already
    <!-- printed -->            the last command printed these lines, among others; numbers, spaces and … may differ
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from inner_pytest import FEWER_PLUGINS, NO_RERUNS
from markdown_it import MarkdownIt
from markdown_it.token import Token

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(REPOSITORY.glob("docs/*.md"))]
OUTPUT = {"text", "diff"}
UNCHECKED_FILES = {"dockerfile", "markdown"}
SHELL = {"sh", "console"}
_DIRECTIVE = re.compile(r"<!--\s*(not run|exits with|file|needs|run|printed):?\s*(.*?)\s*-->", re.DOTALL)


class Problem(Exception):
    """A block that breaks the rules above, or does not do what the page says."""


@dataclass
class Block:
    """A fenced block with the comments in front of it."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str = ""
    status: int = 0
    file: str = ""
    printed: bool = False

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The command lines of a shell block, continuation lines joined; of a console block, those behind a `$`."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]


@dataclass
class Section:
    """What is below one heading."""

    page: Path
    title: str
    blocks: list[Block] = field(default_factory=list)
    needs: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}: {self.title}"

    @property
    def runs(self) -> bool:
        """Whether any block has something to do."""
        return any(not block.not_run and block.language not in OUTPUT for block in self.blocks)


def sections(page: Path) -> list[Section]:
    """Read a page.

    Raises:
        Problem: a block has no language, is indented instead of fenced, or no block follows a comment.

    """
    found = [Section(page, "(top)")]
    pending: list[tuple[str, str, int]] = []
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    for place, token in enumerate(tokens):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "heading_open" and token.tag == "h2":
            found.append(Section(page, tokens[place + 1].content))
        elif token.type == "html_block":
            pending += _directives(found[-1], token, line)
        elif token.type == "code_block":
            raise Problem(f"{page.name}:{line}: indented code; fence it and name its language")
        elif token.type == "fence":
            found[-1].blocks.append(_block(page, found[-1], token, pending))
            pending = []
        elif pending and token.type != "paragraph_close":
            raise Problem(f"{page.name}:{pending[0][2]}: no block follows this comment")
    return found


def _directives(section: Section, token: Token, line: int) -> Iterator[tuple[str, str, int]]:
    for name, value in _DIRECTIVE.findall(token.content):
        path, _, text = value.partition("\n")
        if name == "file" and text:
            section.blocks.append(Block(section.page, line, "file", text + "\n", file=path))
        elif name == "run":
            section.blocks.append(Block(section.page, line, "sh", value))
        else:
            yield name, value, line


def _block(page: Path, section: Section, token: Token, directives: list[tuple[str, str, int]]) -> Block:
    block = Block(page, token.map[0] + 1 if token.map else 0, token.info.strip(), token.content)
    if not block.language:
        raise Problem(f"{block}: the block has no language")
    for name, value, _ in directives:
        if name == "not run" and not value:
            raise Problem(f"{block}: say why the block is not run")
        if name == "not run":
            block.not_run = value
        elif name == "exits with":
            block.status = int(value)
        elif name == "file":
            block.file = value
        elif name == "printed":
            block.printed = True
        else:
            section.needs.add(value)
    return block


def run(section: Section, directory: Path, *options: str) -> None:
    """Run the blocks of a section in an empty directory, each pytest with further options.

    Raises:
        Problem: a block did not do what the page says.

    """
    shutil.copytree(REPOSITORY / "examples", directory / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTEST_ADDOPTS": " ".join([*FEWER_PLUGINS, *NO_RERUNS, *options]),
        "COLUMNS": "80",
    }
    output = ""
    for block in section.blocks:
        if block.file:
            file = directory / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        if block.printed:
            _compare(block, output)
        if block.not_run or block.language in OUTPUT or block.language == "file":
            continue
        if block.language in SHELL:
            for number, command in enumerate(block.commands, 1):
                expected = block.status if number == len(block.commands) else 0
                output = _execute(block, ["sh", "-c", command], expected, directory, environ)
        elif block.language == "python" and not block.file:
            _execute(block, [sys.executable, "-c", block.text], block.status, directory, environ)
        elif not (block.file and block.language in UNCHECKED_FILES):
            _parse(block)


def _execute(block: Block, command: list[str], expected: int, directory: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    output = done.stdout + done.stderr
    if done.returncode != expected:
        shown = output[-6000:]
        raise Problem(f"{block}: {command[-1]}\nexited with {done.returncode} instead of {expected}:\n{shown}")
    return output


def _compare(block: Block, output: str) -> None:
    lines = iter(output.splitlines())
    for shown in filter(None, map(str.strip, block.text.splitlines())):
        pattern = re.sub(r"(?:\\ )+", r"\\s+", re.escape(shown)).replace("…", ".*")
        pattern = re.sub(r"\d+(?:\\\.\d+)?", r"[\\d.]+", pattern)
        if not any(re.fullmatch(pattern, line.strip()) for line in lines):
            raise Problem(f"{block}: the command did not print {shown!r}, or not in this order:\n{output[-6000:]}")


def _parse(block: Block) -> None:
    try:
        if block.language == "python":
            compile(block.text, str(block), "exec")
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "ini":
            configparser.ConfigParser().read_string(block.text)
        elif block.language == "json":
            json.loads(block.text)
        else:
            raise Problem(f"{block}: nothing is known about blocks in {block.language}")
    except (SyntaxError, ValueError, yaml.YAMLError, configparser.Error) as error:
        raise Problem(f"{block}: {error}") from error

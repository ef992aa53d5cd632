"""The tools of an agent that speaks MCP: bash, edit, read, grep, glob, list, with the parameters that HUD's have.

Whatever they do in the environment is done by scripts (see `scripts`), as the task's user and in the task's WORKDIR: so
there need be no Python, and nothing is done that the user could not do anyway.

Standard library only: the text of this module is also part of every env.py.
"""

import asyncio
import posixpath
import re
import secrets
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pytest_harbor.hud.tools.scripts import (
    BASH,
    CREATE,
    FILE_LIMIT,
    GREP,
    IGNORED,
    PAGE,
    PROBLEMS,
    REMOVE,
    SESSION,
    WALK,
    WHOLE,
    WRITE,
    fill_script,
)
from pytest_harbor.hud.tools.shell import SCRIPT_LIMIT, Kept, Shell, ShellResult
from pytest_harbor.hud.tools.text import (
    MATCHES,
    TEXT_LIMIT,
    ToolError,
    around_line,
    brace_patterns,
    cut_text,
    decoded,
    drawn_tree,
    encoded,
    glob_regex,
    inserted,
    limited_text,
    name_test,
    needed,
    numbered_lines,
    quoted,
    quoted_path,
    replaced,
    shown_matches,
    shown_name,
)

__all__ = ["Kept", "Shell", "ShellResult", "ToolError", "Tools"]

PAGE_LINES = 2000
"""Lines that read returns when it is not told how many."""
UNDO_STEPS = 20
"""Edits of one file that can be undone."""
IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


class DirectoryError(ToolError):
    """There is a directory where a file was to be read."""


class Tools:
    """The tools; each method but `close` is one, by its own name.

    Args:
        shell: runs scripts in the environment.
        image: makes what the server returns for an image out of its bytes and its MIME type; without it, read says of
            an image only that it is one.

    """

    def __init__(self, shell: Shell, image: Callable[[bytes, str], Any] | None = None) -> None:
        self._shell = shell
        self._image = image
        self._token = secrets.token_hex(8)
        self._editing = asyncio.Lock()
        self._history: dict[str, list[bytes | None]] = {}
        self._kept = False

    async def bash(self, command: str | None = None, restart: bool = False, timeout: float | None = None) -> str:
        """Run a command with bash (with sh where there is no bash) and return its output and its exit code.

        The working directory and exported variables are kept for the next command; other variables, functions and
        options of the shell are not. A program that is to go on running belongs into the background: `server &`.

        Args:
            command: the command, of one or many lines; it has nothing to read on its standard input.
            restart: begin anew, in the first working directory and with the first variables.
            timeout: seconds after which the command is killed; without it, it runs as long as it takes.

        """
        if restart:
            await self.close()
        if command is None:
            if not restart:
                raise ToolError("give a command, or restart=true")
            return "The shell was restarted."
        if timeout is not None and not timeout > 0:
            raise ToolError("timeout must be a number of seconds above 0")
        if "\0" in command:
            raise ToolError("a command cannot hold a NUL character; write it as an escape, as in printf '\\000'")
        given = encoded(command, "command")
        quoted = shlex.quote(command)
        short = len(quoted.encode()) < SCRIPT_LIMIT // 2
        self._kept = True
        script = fill_script(
            BASH, TOKEN=self._token, FORGET="", SESSION=shlex.quote(SESSION), COMMAND=quoted if short else ""
        )
        result = await self._shell(script, b"" if short else given, timeout)
        text = cut_text(result.output, result.left_out)
        if result.exit_code == 0:
            return text or "(no output)"
        note = f"killed after {timeout:g} s" if result.exit_code is None else f"exit code {result.exit_code}"
        return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}[{note}]"

    async def edit(
        self,
        command: Literal["view", "create", "str_replace", "insert", "undo_edit"],
        path: str,
        file_text: str | None = None,
        view_range: Sequence[int] | None = None,
        old_str: str | None = None,
        new_str: str | None = None,
        insert_line: int | None = None,
    ) -> str:
        """View, create and change text files.

        Args:
            command: view (a file with line numbers, or what is two levels deep in a directory), create (a new file),
                str_replace (old_str, which must be in the file exactly once, by new_str), insert (new_str as lines
                after line insert_line; 0 for the beginning) or undo_edit (take the last change back).
            path: the file; absolute, or relative to the task's working directory.
            file_text: the content for create.
            view_range: first and last line for view, counted from 1; -1 as the last for the end of the file.
            old_str: what str_replace replaces, with its whitespace and line ends.
            new_str: what str_replace puts in its place (nothing when left out), or what insert inserts.
            insert_line: the line after which insert inserts.

        """
        if command == "view":
            return await self._view(path, view_range)
        async with self._editing:
            if command == "create":
                return await self._create(path, needed(file_text, "file_text", command))
            if command == "undo_edit":
                return await self._undo(path)
            before = await self._whole(path)
            if command == "str_replace":
                old = needed(old_str, "old_str", command)
                after, at = replaced(path, before, old, encoded(new_str or "", "new_str"))
            elif command == "insert":
                text = needed(new_str, "new_str", command)
                if insert_line is None:
                    raise ToolError("insert needs insert_line")
                after, at = inserted(before, insert_line, text)
            else:
                raise ToolError(f"{command!r} is no command; valid are view, create, str_replace, insert, undo_edit")
            self._remember(path, before)
            await self._write(WRITE, path, after)
            return f"{path} was changed; around line {at} it is now:\n{around_line(after, at)}"

    async def read(self, filePath: str, offset: int | None = None, limit: int | None = None) -> Any:
        """Read a text file, with line numbers; an image is returned as an image.

        Args:
            filePath: the file; absolute, or relative to the task's working directory.
            offset: how many lines to leave out at the beginning; 0 when not given.
            limit: how many lines to read; 2000 when not given. Of a longer line, 2000 characters are shown.

        """
        if (offset or 0) < 0 or (limit is not None and limit < 1):
            raise ToolError("offset must be 0 or more, and limit 1 or more")
        size, total, page = await self._page(filePath, (offset or 0) + 1, limit or PAGE_LINES)
        kind = next((mime for magic, mime in IMAGES.items() if page.startswith(magic)), None)
        if page[:4] == b"RIFF" and page[8:12] == b"WEBP":
            kind = "image/webp"
        if kind and not offset:
            if self._image is None:
                return f"{filePath} is an image ({kind}, {size:,} bytes)"
            return self._image(await self._whole(filePath), kind)
        if b"\0" in page:
            raise ToolError(f"{filePath} is no text ({size:,} bytes); use bash, with od -c for instance")
        return numbered_lines(page, (offset or 0) + 1, total)

    async def grep(self, pattern: str, path: str | None = None, include: str | None = None) -> str:
        """Search files for lines that match an extended regular expression, as `grep -E` does.

        Directories named .git, node_modules, __pycache__ and .venv are left out, unless path is in one.

        Args:
            pattern: the regular expression.
            path: a directory, searched with all below it, or a file; the task's working directory when not given.
            include: which files, as a glob of their names: `*.py`, `*.{ts,tsx}`.

        """
        names = "".join(f" -o {name_test(one)}" for one in brace_patterns(include or "*"))
        script = self._script(
            GREP,
            PATH=quoted_path(path or "."),
            PATTERN=quoted(pattern, "pattern"),
            NAMES=f"\\( {names[4:]} \\)",
            COUNT=str(MATCHES + 1),
        )
        result = await self._shell(script, b"", None)
        if result.exit_code == 2:
            raise ToolError(f"grep: {decoded(result.output).strip()}")
        kind, *chunks = self._content(path or ".", result).split(f"\n{self._token}".encode())
        found = []
        for chunk in chunks:
            name, _, lines = chunk.partition(b"\0")
            relative = decoded(name) if kind.strip() == b"directory" else ""
            found.append((posixpath.normpath(posixpath.join(path or ".", relative)), lines))
        return shown_matches(sorted(found))

    async def glob(self, pattern: str, path: str | None = None) -> str:
        """Find files by a pattern: `*`, `?`, `[abc]` and `{a,b}` within a name, `**` for any number of directories.

        Directories named .git, node_modules, __pycache__ and .venv are left out, unless the search begins in one.

        Args:
            pattern: the pattern, `**/*.py` or `src/*.ts` for instance.
            path: the directory where it begins; the task's working directory when not given.

        """
        parts = pattern.split("/")
        fixed = next((i for i, part in enumerate(parts) if re.search(r"[*?\[{]", part)), len(parts) - 1)
        start = "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else "")
        base = posixpath.join(path or "", start) if start else path or ""
        rest = "/".join(parts[fixed:])
        deep = "**" in rest or "{" in rest
        matches = glob_regex(rest).fullmatch
        found = await self._walk(base or ".", None if deep else rest.count("/") + 1)
        names = sorted(name for name in found if not name.endswith("/") and matches(name))
        if not names:
            return "No files found."
        shown = [shown_name(posixpath.join(base, name)) for name in names[:MATCHES]]
        return limited_text("\n".join(shown), len(names), "files")

    async def list(self, path: str | None = None, ignore: Sequence[str] | None = None) -> str:
        """List a directory with all below it, as a tree.

        Directories named .git, node_modules, __pycache__ and .venv are left out, unless path is in one. Of a large tree
        the deepest levels are left out.

        Args:
            path: the directory; the task's working directory when not given.
            ignore: globs of names, or of paths relative to the directory, that are left out too.

        """
        return await self._tree(path or ".", ignore or (), None)

    async def close(self) -> None:
        """Remove what the tools keep in the environment."""
        if script := self.closing_script():
            await self._shell(script, b"", None)

    def closing_script(self) -> str:
        """Return the script that removes what the tools keep in the environment; empty where that is nothing."""
        if not self._kept:
            return ""
        self._kept = False
        return fill_script(BASH, TOKEN=self._token, FORGET="yes", SESSION="''", COMMAND="")

    async def _view(self, path: str, view_range: Sequence[int] | None) -> str:
        if view_range is None:
            try:
                size, total, page = await self._page(path, 1, 1 << 30)
            except DirectoryError:
                return await self._tree(path, (".*",), 2)
            first = 1
        else:
            if len(view_range) != 2:
                raise ToolError("view_range must be two numbers: the first and the last line")
            first, last = view_range
            if first < 1 or (last != -1 and last < first):
                raise ToolError(f"view_range {list(view_range)} is no range of lines; they are counted from 1")
            size, total, page = await self._page(path, first, 1 << 30 if last == -1 else last - first + 1)
            if first > max(total, 1):
                raise ToolError(f"view_range begins at line {first}, but {path} has {total} lines")
        if b"\0" in page:
            raise ToolError(f"{path} is no text ({size:,} bytes)")
        return numbered_lines(page, first, total)

    async def _create(self, path: str, text: bytes) -> str:
        await self._write(CREATE, path, text)
        self._remember(path, None)
        return f"{path} was created ({len(text):,} bytes)."

    async def _undo(self, path: str) -> str:
        history = self._history.get(posixpath.normpath(path))
        if not history:
            raise ToolError(f"there is no change of {path} to take back")
        before = history[-1]
        await self._write(REMOVE if before is None else WRITE, path, before or b"")
        history.pop()
        return f"The last change of {path} was taken back" + ("; it is gone again." if before is None else ".")

    def _remember(self, path: str, content: bytes | None) -> None:
        history = self._history.setdefault(posixpath.normpath(path), [])
        history.append(content)
        del history[:-UNDO_STEPS]

    async def _write(self, template: str, path: str, content: bytes) -> None:
        result = await self._shell(self._script(template, PATH=quoted_path(path)), content, None)
        if result.exit_code in PROBLEMS:
            raise ToolError(f"{path} {PROBLEMS[result.exit_code]}")
        if result.exit_code != 0:
            undo = "; undo_edit puts back what it was" if template == WRITE else ""
            raise ToolError(f"{path} could not be written: {decoded(result.output).strip()}{undo}")

    async def _whole(self, path: str) -> bytes:
        script = self._script(WHOLE, PATH=quoted_path(path), LIMIT=str(FILE_LIMIT))
        return self._content(path, await self._shell(script, b"", None))

    async def _page(self, path: str, first: int, count: int) -> tuple[int, int, bytes]:
        """Return the size of a file, the number of its lines, and some of them."""
        script = self._script(
            PAGE, PATH=quoted_path(path), FIRST=str(first), COUNT=str(count), LIMIT=str(TEXT_LIMIT + 1)
        )
        result = await self._shell(script, b"", None)
        if result.exit_code == 41:
            raise DirectoryError(f"{path} is a directory; use list")
        size, lines, content = self._content(path, result).split(b"\n", 2)
        return int(size), int(lines), content

    async def _tree(self, path: str, ignore: Sequence[str], depth: int | None) -> str:
        patterns = [glob_regex(one.rstrip("/")) for one in ignore]

        def ignored(name: str) -> bool:
            parts = name.rstrip("/").split("/")
            tails = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            return any(
                p.fullmatch(part) or p.fullmatch(tail)
                for p in patterns
                for part, tail in zip(parts, tails, strict=True)
            )

        found = [name for name in await self._walk(path, depth) if not patterns or not ignored(name)]
        if not found:
            return f"{path} is empty."
        return drawn_tree(path, found)

    async def _walk(self, path: str, depth: int | None) -> Sequence[str]:
        """Return what is below a directory, relative to it; directories end in a slash."""
        prune = ""
        if depth is not None:
            deep = quoted("./" + "/".join("*" * depth), "depth")
            prune = f"\\( -path {deep} -prune -o ! -path {deep} \\)"
        script = self._script(WALK, PATH=quoted_path(path), DEPTH=prune)
        content = self._content(path, await self._shell(script, b"", None))
        return [decoded(name[2:]) for name in content.split(b"\0") if name[2:] not in (b"", b"/")]

    def _script(self, template: str, **values: str) -> str:
        ignored = "".join(f" -o -name {name}" for name in IGNORED)
        return fill_script(template, TOKEN=self._token, IGNORED=ignored, **values)

    def _content(self, path: str, result: ShellResult) -> bytes:
        """Return what follows the token in the output of a script that may say what the problem is."""
        if result.exit_code in PROBLEMS:
            raise ToolError(f"{path} {PROBLEMS[result.exit_code]}")
        said, mark, content = result.output.partition(f"{self._token}\n".encode())
        if not mark:
            raise ToolError(f"{path}: {decoded(said).strip() or f'exit code {result.exit_code}'}")
        if result.left_out:
            raise ToolError(f"{path}: there is too much of it; ask for less at once")
        return content

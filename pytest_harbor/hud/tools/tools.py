"""The tools of an agent that uses MCP: bash, edit, read, grep, glob and list, with the parameters of HUD's tools.

They act on the environment through scripts (see `scripts`), which run as the task's user in the task's WORKDIR. So the
environment needs no Python, and the tools can do nothing that this user could not do.

Standard library only: this module is also part of every env.py.
"""

import asyncio
import posixpath
import re
import secrets
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pytest_harbor._util.text import escaped, plural
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
from pytest_harbor.hud.tools.shell import SCRIPT_LIMIT, Shell, ShellResult
from pytest_harbor.hud.tools.text import (
    MATCHES,
    TEXT_LIMIT,
    ToolError,
    decode_text,
    encode_text,
    expand_braces,
    find_name_test,
    format_matches,
    format_tree,
    glob_regex,
    insert_lines,
    limit_results,
    lines_around,
    numbered_lines,
    quote_argument,
    quote_path,
    replace_text,
    require_argument,
    truncate_output,
)

PAGE_LINES = 2000
"""Default number of lines that read returns."""
UNDO_STEPS = 20
"""Maximum number of edits of one file that can be undone."""
IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


class DirectoryError(ToolError):
    """The path to read is a directory."""


class Tools:
    """The tools: each public method except `close` and `closing_script` is one.

    Args:
        shell: runs scripts in the environment.
        image: converts an image's bytes and MIME type to the server's result; without it, read only reports that the
            file is an image.

    """

    def __init__(self, shell: Shell, image: Callable[[bytes, str], Any] | None = None) -> None:
        self._shell = shell
        self._image = image
        self._token = secrets.token_hex(8)
        self._editing = asyncio.Lock()
        self._history: dict[str, list[bytes | None]] = {}
        self._has_state = False

    async def bash(self, command: str | None = None, restart: bool = False, timeout: float | None = None) -> str:
        """Run a command in bash (in sh if there is no bash) and return its output and exit code.

        The working directory and exported variables persist between commands; other variables, functions and shell
        options do not. Run long-lived programs in the background: `server &`.

        Args:
            command: the command, one line or several; its standard input is empty.
            restart: reset the working directory and the variables to their initial values.
            timeout: kill the command after this many seconds; no limit by default.

        """
        if restart:
            await self.close()
        if command is None:
            if not restart:
                raise ToolError("give a command, or restart=true")
            return "The shell was restarted."
        if timeout is not None and not timeout > 0:
            raise ToolError("timeout must be a number of seconds greater than 0")
        if "\0" in command:
            raise ToolError("a command cannot have a NUL character; write it as an escape, as in printf '\\000'")
        stdin = encode_text(command, "command")
        quoted = shlex.quote(command)
        short = len(quoted.encode()) < SCRIPT_LIMIT // 2
        self._has_state = True
        script = fill_script(
            BASH, TOKEN=self._token, RESET="", SESSION=shlex.quote(SESSION), COMMAND=quoted if short else ""
        )
        result = await self._shell(script, b"" if short else stdin, timeout)
        text = truncate_output(result.output, result.omitted)
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
            command: view (show a file with line numbers, or two levels of a directory), create (create a new file),
                str_replace (replace old_str, which must occur exactly once, with new_str), insert (insert new_str as
                lines after line insert_line; 0 for the beginning) or undo_edit (undo the last change).
            path: the file's path, absolute or relative to the task's working directory.
            file_text: the content for create.
            view_range: the first and last line for view, counted from 1; -1 as the last means the end of the file.
            old_str: the text for str_replace to replace, with exact whitespace and line ends.
            new_str: the replacement for str_replace (default: empty), or the text for insert.
            insert_line: the line after which to insert.

        """
        if command == "view":
            return await self._view(path, view_range)
        async with self._editing:
            if command == "create":
                return await self._create(path, require_argument(file_text, "file_text", command))
            if command == "undo_edit":
                return await self._undo(path)
            before = await self._read_whole(path)
            if command == "str_replace":
                old = require_argument(old_str, "old_str", command)
                after, at = replace_text(path, before, old, encode_text(new_str or "", "new_str"))
            elif command == "insert":
                text = require_argument(new_str, "new_str", command)
                if insert_line is None:
                    raise ToolError("insert requires insert_line")
                after, at = insert_lines(before, insert_line, text)
            else:
                raise ToolError(f"unknown command {command!r}; use view, create, str_replace, insert or undo_edit")
            self._remember(path, before)
            await self._write(WRITE, path, after)
            return f"Changed {path}. It now reads around line {at}:\n{lines_around(after, at)}"

    async def read(self, filePath: str, offset: int | None = None, limit: int | None = None) -> Any:
        """Read a text file with line numbers, or an image.

        Args:
            filePath: the file's path, absolute or relative to the task's working directory.
            offset: the number of lines to skip (default 0).
            limit: the number of lines to read (default 2000). Lines are cut after 2000 characters.

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
            return self._image(await self._read_whole(filePath), kind)
        if b"\0" in page:
            raise ToolError(f"{filePath} is not a text file ({size:,} bytes); use bash, for example with od -c")
        return numbered_lines(page, (offset or 0) + 1, total)

    async def grep(self, pattern: str, path: str | None = None, include: str | None = None) -> str:
        """Search files for lines that match an extended regular expression, as in `grep -E`.

        Directories named .git, node_modules, __pycache__ and .venv are skipped, unless path is in one.

        Args:
            pattern: the regular expression.
            path: the file, or the directory to search recursively (default: the task's working directory).
            include: a glob for file names, such as `*.py` or `*.{ts,tsx}`.

        """
        names = "".join(f" -o {find_name_test(one)}" for one in expand_braces(include or "*"))
        script = self._script(
            GREP,
            PATH=quote_path(path or "."),
            PATTERN=quote_argument(pattern, "pattern"),
            NAMES=f"\\( {names[4:]} \\)",
            COUNT=str(MATCHES + 1),
        )
        result = await self._shell(script, b"", None)
        if result.exit_code == 2:
            raise ToolError(f"grep: {decode_text(result.output).strip()}")
        kind, *chunks = self._content(path or ".", result).split(f"\n{self._token}".encode())
        found = []
        for chunk in chunks:
            name, _, lines = chunk.partition(b"\0")
            relative = decode_text(name) if kind.strip() == b"directory" else ""
            found.append((posixpath.normpath(posixpath.join(path or ".", relative)), lines))
        return format_matches(sorted(found))

    async def glob(self, pattern: str, path: str | None = None) -> str:
        """Find files by a pattern: `*`, `?`, `[abc]` and `{a,b}` within a name, `**` for any number of directories.

        Directories named .git, node_modules, __pycache__ and .venv are skipped, unless the search starts in one.

        Args:
            pattern: the pattern, such as `**/*.py` or `src/*.ts`.
            path: the directory to search (default: the task's working directory).

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
        shown = [escaped(posixpath.join(base, name)) for name in names[:MATCHES]]
        return limit_results("\n".join(shown), len(names), "files")

    async def list(self, path: str | None = None, ignore: Sequence[str] | None = None) -> str:
        """List a directory recursively, as a tree.

        Directories named .git, node_modules, __pycache__ and .venv are skipped, unless path is in one. The deepest
        levels of a large tree are omitted.

        Args:
            path: the directory (default: the task's working directory).
            ignore: globs of names, or of paths relative to the directory, to skip as well.

        """
        return await self._tree(path or ".", ignore or (), None)

    async def close(self) -> None:
        """Remove the tools' state from the environment."""
        if script := self.closing_script():
            await self._shell(script, b"", None)

    def closing_script(self) -> str:
        """Return a script that removes the tools' state from the environment; empty if there is none."""
        if not self._has_state:
            return ""
        self._has_state = False
        return fill_script(BASH, TOKEN=self._token, RESET="yes", SESSION="''", COMMAND="")

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
                raise ToolError(f"view_range {list(view_range)} is not a range of lines, which are counted from 1")
            size, total, page = await self._page(path, first, 1 << 30 if last == -1 else last - first + 1)
            if first > max(total, 1):
                raise ToolError(f"view_range starts at line {first}, but {path} has {plural(total, 'line')}")
        if b"\0" in page:
            raise ToolError(f"{path} is not a text file ({size:,} bytes)")
        return numbered_lines(page, first, total)

    async def _create(self, path: str, text: bytes) -> str:
        await self._write(CREATE, path, text)
        self._remember(path, None)
        return f"Created {path} ({len(text):,} bytes)."

    async def _undo(self, path: str) -> str:
        history = self._history.get(posixpath.normpath(path))
        if not history:
            raise ToolError(f"no change to {path} to undo")
        before = history[-1]
        await self._write(REMOVE if before is None else WRITE, path, before or b"")
        history.pop()
        return f"Undid the last change to {path}" + ("; the file is removed." if before is None else ".")

    def _remember(self, path: str, content: bytes | None) -> None:
        history = self._history.setdefault(posixpath.normpath(path), [])
        history.append(content)
        del history[:-UNDO_STEPS]

    async def _write(self, template: str, path: str, content: bytes) -> None:
        result = await self._shell(self._script(template, PATH=quote_path(path)), content, None)
        if result.exit_code in PROBLEMS:
            raise ToolError(f"{path} {PROBLEMS[result.exit_code]}")
        if result.exit_code != 0:
            undo = "; undo_edit restores the old content" if template == WRITE else ""
            raise ToolError(f"{path} could not be written: {decode_text(result.output).strip()}{undo}")

    async def _read_whole(self, path: str) -> bytes:
        script = self._script(WHOLE, PATH=quote_path(path), LIMIT=str(FILE_LIMIT))
        return self._content(path, await self._shell(script, b"", None))

    async def _page(self, path: str, first: int, count: int) -> tuple[int, int, bytes]:
        """Return the size of a file, the number of its lines, and a range of them."""
        script = self._script(
            PAGE, PATH=quote_path(path), FIRST=str(first), COUNT=str(count), LIMIT=str(TEXT_LIMIT + 1)
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
        return format_tree(path, found)

    async def _walk(self, path: str, depth: int | None) -> Sequence[str]:
        """Return the paths below a directory, relative to it; directories end with a slash."""
        prune = ""
        if depth is not None:
            deep = shlex.quote("./" + "/".join("*" * depth))
            prune = f"\\( -path {deep} -prune -o ! -path {deep} \\)"
        script = self._script(WALK, PATH=quote_path(path), DEPTH=prune)
        content = self._content(path, await self._shell(script, b"", None))
        return [decode_text(name[2:]) for name in content.split(b"\0") if name[2:] not in (b"", b"/")]

    def _script(self, template: str, **values: str) -> str:
        ignored = "".join(f" -o -name {name}" for name in IGNORED)
        return fill_script(template, TOKEN=self._token, IGNORED=ignored, **values)

    def _content(self, path: str, result: ShellResult) -> bytes:
        """Return the part of a script's output after the token; raise ToolError if the script failed."""
        if result.exit_code in PROBLEMS:
            raise ToolError(f"{path} {PROBLEMS[result.exit_code]}")
        before, token, content = result.output.partition(f"{self._token}\n".encode())
        if not token:
            raise ToolError(f"{path}: {decode_text(before).strip() or f'exit code {result.exit_code}'}")
        if result.omitted:
            raise ToolError(f"{path}: the result is too large; narrow the request")
        return content

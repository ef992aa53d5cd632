"""What the tools of an agent take and return, as text.

Standard library only: the text of this module is also part of every env.py.
"""

import itertools
import posixpath
import re
import shlex
from collections.abc import Sequence

TEXT_LIMIT = 1024 * 1024
"""Bytes of text that a tool returns, half of it from the beginning and half from the end of what was longer."""
LINE_LIMIT = 2000
"""Characters of a line that read and grep return."""
MATCHES = 1000
"""Matches of grep, paths of glob and entries of list."""


class ToolError(Exception):
    """A tool cannot do what it was asked for; the message is for the model."""


def encoded(text: str, what: str) -> bytes:
    """Return a text as bytes."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ToolError(f"{what} holds what is no character (half of a surrogate pair)") from None


def decoded(data: bytes) -> str:
    """Return bytes as text, whatever they are."""
    return data.decode("utf-8", "replace")


def quoted(text: str, what: str) -> str:
    """Return a text as one word of a script."""
    if "\0" in text:
        raise ToolError(f"{what} holds a NUL character")
    if len(encoded(text, what)) > 4096:
        raise ToolError(f"{what} is longer than 4,096 bytes")
    return shlex.quote(text)


def quoted_path(path: str) -> str:
    """Return a path quoted for a script, where it does not look like an option."""
    if not path:
        raise ToolError("the path is empty")
    return quoted(path if path.startswith("/") else f"./{path}", "the path")


def needed(value: str | None, name: str, command: str) -> bytes:
    """Return an argument that a command of edit cannot do without."""
    if value is None:
        raise ToolError(f"{command} needs {name}")
    return encoded(value, name)


def replaced(path: str, before: bytes, old: bytes, new: bytes) -> tuple[bytes, int]:
    """Return a content with one text replaced, and the line where that was."""
    if not old:
        raise ToolError("old_str is empty; use insert to add text")
    count = before.count(old)
    if count == 0:
        windows = b"\r\n" in before and old.replace(b"\n", b"\r\n") in before
        hint = "its lines end in \\r\\n, and those of old_str do not" if windows else "it must match exactly"
        raise ToolError(f"old_str is not in {path}; {hint}")
    if count > 1:
        starts = itertools.islice(re.finditer(re.escape(old), before), 20)
        lines = ", ".join(str(before.count(b"\n", 0, found.start()) + 1) for found in starts)
        raise ToolError(f"old_str is in {path} {count} times (lines {lines}); make it longer")
    at = before.index(old)
    return before.replace(old, new), before.count(b"\n", 0, at) + 1


def inserted(before: bytes, line: int, text: bytes) -> tuple[bytes, int]:
    """Return a content with lines inserted, and where they begin."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+\Z", before)
    if not 0 <= line <= len(lines):
        raise ToolError(f"insert_line must be 0 to {len(lines)}, the number of lines")
    head, tail = b"".join(lines[:line]), b"".join(lines[line:])
    if head and not head.endswith(b"\n"):
        head += b"\n"
    if tail and not text.endswith(b"\n"):
        text += b"\n"
    return head + text + tail, line + 1


def around_line(content: bytes, at: int) -> str:
    """Return the lines before and after one, with their numbers."""
    lines = content.split(b"\n")
    first = max(1, at - 4)
    return "\n".join(shown_line(n, line) for n, line in enumerate(lines[first - 1 : at + 8], first))


def shown_line(number: int, line: bytes) -> str:
    """Return a line with its number, or the beginning of a long one."""
    # No line of LINE_LIMIT characters is longer in bytes, so this does not decode a gigabyte to show a little.
    text = decoded(line[: LINE_LIMIT * 4])
    more = f" [... of {len(line):,} bytes]" if len(text) > LINE_LIMIT else ""
    return f"{number:6}\t{text[:LINE_LIMIT]}{more}"


def numbered_lines(page: bytes, first: int, total: int) -> str:
    """Return lines of a file with their numbers, and a note when there are more."""
    if not page:
        return "(the file is empty)" if total == 0 else f"(the file has {total} lines)"
    cut = len(page) > TEXT_LIMIT
    lines = page[:TEXT_LIMIT].removesuffix(b"\n").split(b"\n")
    if cut and len(lines) > 1:
        del lines[-1]
    text = "\n".join(shown_line(number, line) for number, line in enumerate(lines, first))
    last = first + len(lines) - 1
    return text if last >= total and not cut else f"{text}\n[lines {first} to {last} of {total}]"


def cut_text(data: bytes, left_out: int) -> str:
    """Return output as text, without its middle when it is long."""
    half = TEXT_LIMIT // 2
    if len(data) <= TEXT_LIMIT and not left_out:
        return decoded(data)
    missing = len(data) - 2 * half + left_out
    return f"{decoded(data[:half])}\n[... {missing:,} bytes left out; redirect to a file to see all ...]\n" + decoded(
        data[-half:]
    )


def limited_text(text: str, count: int, what: str) -> str:
    """Return what was found, and a note where that is not all."""
    if count <= MATCHES and len(text) <= TEXT_LIMIT:
        return text
    text = text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT].rpartition("\n")[0]
    return f"{text}\n[there are more: {count:,} {what} in all; ask for less at once]"


def shown_matches(found: Sequence[tuple[str, bytes]]) -> str:
    """Return what grep has printed for each file."""
    blocks, count = [], 0
    for name, content in found:
        lines = content.removesuffix(b"\n").split(b"\n")
        shown = []
        for line in lines[: max(0, MATCHES - count)]:
            number, colon, text = line.partition(b":")
            # What grep says of a file that it takes for a binary one has no number.
            shown.append(
                shown_line(int(number), text) if colon and number.isdigit() else "       (binary file matches)"
            )
        count += len(lines)
        if shown:
            blocks.append("\n".join([f"{shown_name(name)}:", *shown]))
    return limited_text("\n\n".join(blocks), count, "matches") if blocks else "No matches."


def drawn_tree(path: str, names: Sequence[str]) -> str:
    """Return a tree; of one that is too large, as many whole levels as there is room for, at least one."""
    depths = [name.rstrip("/").count("/") for name in names]
    level, fit = 0, depths.count(0)
    while fit < len(names) and fit + depths.count(level + 1) <= MATCHES:
        level += 1
        fit += depths.count(level)
    kept = sorted(name.split("/") for name, depth in zip(names, depths, strict=True) if depth <= level)[:MATCHES]
    lines = [f"{path.rstrip('/')}/"]
    for parts in kept:
        is_directory = parts[-1] == ""
        own = parts[:-1] if is_directory else parts
        lines.append("  " * len(own) + shown_name(own[-1]) + ("/" if is_directory else ""))
    if len(kept) < len(names):
        lines.append(f"[{len(names) - len(kept):,} more, deeper or further down; list one of the directories]")
    return "\n".join(lines)


def shown_name(name: str) -> str:
    """Return a name on one line, whatever is in it."""
    return name if name.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def name_test(pattern: str) -> str:
    """Return a test of find for a glob of a name, or of a path where it has a slash."""
    if "/" in pattern:
        return f"-path {quoted('*/' + pattern.lstrip('/').replace('**/', '*'), 'include')}"
    return f"-name {quoted(pattern, 'include')}"


def brace_patterns(pattern: str) -> Sequence[str]:
    """Return the patterns that the alternatives in braces stand for."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    parts = [pattern[: found.start()] + one + pattern[found.end() :] for one in found.group(1).split(",")]
    if len(parts) > 100:
        raise ToolError("there are too many alternatives in braces")
    return [one for part in parts for one in brace_patterns(part)][:1000]


def glob_regex(pattern: str) -> re.Pattern[str]:
    """Return what a glob means for a path that begins where the search does."""
    every = []
    for one in brace_patterns(posixpath.normpath(pattern) if pattern else "*"):
        text, at = "", 0
        while at < len(one):
            rest = one[at:]
            bracket = re.match(r"\[([!^]?)(\]?[^\]/]*)\]", rest)
            if rest.startswith("**/"):
                text, at = text + "(?:[^/]+/)*", at + 3
            elif rest.startswith("**"):
                text, at = text + ".*", at + 2
            elif rest[0] in "*?":
                text, at = text + ("[^/]*" if rest[0] == "*" else "[^/]"), at + 1
            elif bracket:
                inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", bracket.group(2))
                text, at = text + f"[{'^/' if bracket.group(1) else ''}{inside}]", at + bracket.end()
            else:
                text, at = text + re.escape(rest[0]), at + 1
        every.append(text)
    try:
        return re.compile("|".join(every), re.DOTALL)
    except re.error as error:
        raise ToolError(f"{pattern!r} is no pattern: {error}") from None

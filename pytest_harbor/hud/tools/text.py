"""The arguments and results of an agent's tools, as text.

Standard library only: this module is also part of every env.py.
"""

import itertools
import posixpath
import re
import shlex
from collections.abc import Sequence

from pytest_harbor._util.text import escaped, plural

TEXT_LIMIT = 1024 * 1024
"""Maximum size of a tool's text in bytes; of a longer text, the first and the last half of that are returned."""
LINE_LIMIT = 2000
"""Maximum length of a line in the results of read and grep, in characters."""
MATCHES = 1000
"""Maximum number of matches of grep, paths of glob and entries of list."""


class ToolError(Exception):
    """A tool cannot do what the model asked for; the message is for the model."""


def encode_text(text: str, name: str) -> bytes:
    """Return an argument as bytes."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ToolError(f"{name} has an invalid character (half of a surrogate pair)") from None


def decode_text(data: bytes) -> str:
    """Return bytes as text, with replacement characters for bytes that are not UTF-8."""
    return data.decode("utf-8", "replace")


def quote_argument(text: str, name: str) -> str:
    """Return an argument quoted as one word of a script."""
    if "\0" in text:
        raise ToolError(f"{name} has a NUL character")
    if len(encode_text(text, name)) > 4096:
        raise ToolError(f"{name} is longer than 4,096 bytes")
    return shlex.quote(text)


def quote_path(path: str) -> str:
    """Return a path quoted as one word of a script, so that it cannot be mistaken for an option."""
    if not path:
        raise ToolError("the path is empty")
    return quote_argument(path if path.startswith("/") else f"./{path}", "the path")


def require_argument(value: str | None, name: str, command: str) -> bytes:
    """Return an argument that a command of edit requires."""
    if value is None:
        raise ToolError(f"{command} requires {name}")
    return encode_text(value, name)


def replace_text(path: str, content: bytes, old: bytes, new: bytes) -> tuple[bytes, int]:
    """Replace the only occurrence of a text; return the new content and the line of the change."""
    if not old:
        raise ToolError("old_str is empty; use insert to add text")
    count = content.count(old)
    if count == 0:
        windows = b"\r\n" in content and old.replace(b"\n", b"\r\n") in content
        hint = "its lines end in \\r\\n, but those of old_str do not" if windows else "it must match exactly"
        raise ToolError(f"old_str is not in {path}; {hint}")
    if count > 1:
        starts = itertools.islice(re.finditer(re.escape(old), content), 20)
        lines = ", ".join(str(content.count(b"\n", 0, found.start()) + 1) for found in starts)
        raise ToolError(f"old_str occurs {count} times in {path} (lines {lines}); include more context")
    at = content.index(old)
    return content.replace(old, new), content.count(b"\n", 0, at) + 1


def insert_lines(content: bytes, line: int, text: bytes) -> tuple[bytes, int]:
    """Insert lines after a line; return the new content and the number of the first inserted line."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+\Z", content)
    if not 0 <= line <= len(lines):
        raise ToolError(f"insert_line must be 0 to {len(lines)}, the number of lines")
    head, tail = b"".join(lines[:line]), b"".join(lines[line:])
    if head and not head.endswith(b"\n"):
        head += b"\n"
    if tail and not text.endswith(b"\n"):
        text += b"\n"
    return head + text + tail, line + 1


def lines_around(content: bytes, at: int) -> str:
    """Return a line and its neighbors, with their numbers."""
    lines = content.split(b"\n")
    first = max(1, at - 4)
    return "\n".join(numbered_line(n, line) for n, line in enumerate(lines[first - 1 : at + 8], first))


def numbered_line(number: int, line: bytes) -> str:
    """Return a line with its number; of a long line, the beginning."""
    # A character has at most 4 bytes in UTF-8, so this does not decode a gigabyte to show 2,000 characters.
    text = decode_text(line[: LINE_LIMIT * 4])
    more = f" [... {len(line):,} bytes in total]" if len(text) > LINE_LIMIT else ""
    return f"{number:6}\t{text[:LINE_LIMIT]}{more}"


def numbered_lines(page: bytes, first: int, total: int) -> str:
    """Return lines of a file with their numbers, and a note if the file has more."""
    if not page:
        return "(the file is empty)" if total == 0 else f"(the file has {plural(total, 'line')})"
    cut = len(page) > TEXT_LIMIT
    lines = page[:TEXT_LIMIT].removesuffix(b"\n").split(b"\n")
    if cut and len(lines) > 1:
        del lines[-1]
    text = "\n".join(numbered_line(number, line) for number, line in enumerate(lines, first))
    last = first + len(lines) - 1
    return text if last >= total and not cut else f"{text}\n[lines {first} to {last} of {total}]"


def truncate_output(data: bytes, omitted: int) -> str:
    """Return output as text, without its middle if it is long.

    Args:
        data: the output.
        omitted: the number of bytes already omitted from its middle.

    """
    half = TEXT_LIMIT // 2
    if len(data) <= TEXT_LIMIT and not omitted:
        return decode_text(data)
    omitted += len(data) - 2 * half
    note = f"[... {omitted:,} bytes omitted; redirect to a file to see everything ...]"
    return f"{decode_text(data[:half])}\n{note}\n{decode_text(data[-half:])}"


def limit_results(text: str, count: int, noun: str) -> str:
    """Return results, with a note if there are more."""
    if count <= MATCHES and len(text) <= TEXT_LIMIT:
        return text
    text = text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT].rpartition("\n")[0]
    return f"{text}\n[truncated: {count:,} {noun} in total; narrow the search]"


def format_matches(matches: Sequence[tuple[str, bytes]]) -> str:
    """Return grep's output for each file, with line numbers."""
    blocks, count = [], 0
    for name, content in matches:
        lines = content.removesuffix(b"\n").split(b"\n")
        shown = []
        for line in lines[: max(0, MATCHES - count)]:
            number, colon, text = line.partition(b":")
            # grep's message about a binary file has no line number.
            shown.append(
                numbered_line(int(number), text) if colon and number.isdigit() else "       (binary file matches)"
            )
        count += len(lines)
        if shown:
            blocks.append("\n".join([f"{escaped(name)}:", *shown]))
    return limit_results("\n\n".join(blocks), count, "matches") if blocks else "No matches."


def format_tree(path: str, names: Sequence[str]) -> str:
    """Return a tree; if it is too large, only as many whole levels as fit, but at least one."""
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
        lines.append("  " * len(own) + escaped(own[-1]) + ("/" if is_directory else ""))
    if len(kept) < len(names):
        lines.append(f"[{len(names) - len(kept):,} more entries; list a subdirectory to see them]")
    return "\n".join(lines)


def find_name_test(pattern: str) -> str:
    """Return the find expression for a glob: -path if it has a slash, otherwise -name."""
    if "/" in pattern:
        return f"-path {quote_argument('*/' + pattern.lstrip('/').replace('**/', '*'), 'include')}"
    return f"-name {quote_argument(pattern, 'include')}"


def expand_braces(pattern: str) -> Sequence[str]:
    """Return the patterns that a pattern with alternatives in braces expands to."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    parts = [pattern[: found.start()] + one + pattern[found.end() :] for one in found.group(1).split(",")]
    if len(parts) > 100:
        raise ToolError("too many alternatives in braces")
    return [one for part in parts for one in expand_braces(part)][:1000]


def glob_regex(pattern: str) -> re.Pattern[str]:
    """Return a regular expression that matches the same paths as a glob, relative to the search's directory."""
    every = []
    for one in expand_braces(posixpath.normpath(pattern) if pattern else "*"):
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
        raise ToolError(f"{pattern!r} is not a valid pattern: {error}") from None

"""Reading text and TOML files of tasks, and formatting TOML values for messages."""

from __future__ import annotations

import datetime
import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any

from pytest_harbor._util.text import shorten
from pytest_harbor.task.errors import TaskError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

_POSITION = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.S)
# A table's name in messages of tomllib: "('agent', 'env')".
_QUOTED = r"'([^']*)'"
_KEYS = re.compile(rf"\({_QUOTED}(?:, {_QUOTED})*,?\)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHORT = 60


def read_text(path: Path) -> str:
    r"""Read a UTF-8 file; a byte order mark is removed and ``\r\n`` becomes ``\n``, as in Harbor.

    Raises:
        TaskError: the file is missing, not a regular file, unreadable, or not UTF-8.

    """
    try:
        # Checked first, because opening a FIFO would block forever.
        if path.exists() and not path.is_file():
            raise TaskError(path, "is not a file")
        data = path.read_bytes()
    except FileNotFoundError:
        raise TaskError(path, "the file is missing") from None
    except OSError as error:
        raise TaskError(path, f"cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TaskError(path, f"line {line}: not UTF-8 (byte 0x{data[error.start]:02x})") from None
    return text.replace("\r\n", "\n")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        TaskError: the file cannot be read or is not TOML; the reason starts with the line and the column.

    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise TaskError(path, "not valid TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or Python's limit on the digits of an integer
        found = _POSITION.match(str(error))
        if found is None:
            raise TaskError(path, f"not valid TOML: {error}") from None
        line = found["line"] or text.count("\n") + 1
        column = found["column"] or len(text) - text.rfind("\n")
        what = _KEYS.sub(lambda match: f"[{'.'.join(re.findall(_QUOTED, match[0]))}]", found["what"])
        raise TaskError(path, f"line {line}, column {column}: {what}") from None


def json_values(value: Any) -> Any:
    """Convert TOML values to JSON values.

    Dates and times become ISO 8601 strings. NaN and the infinities, which JSON lacks, become strings too.
    """
    if isinstance(value, dict):
        return {key: json_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_values(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def format_value(value: Any) -> str:
    """Return any value in TOML syntax, shortened to fit into a message."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and value.bit_length() > 128:
        # Python refuses to print very long integers, but TOML can contain them in hexadecimal.
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        text = json.dumps(value[: _SHORT + 1], ensure_ascii=False)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(json_values(value))
    return shorten(text, _SHORT)


def key_path(location: tuple[str | int, ...]) -> str:
    """Return a place in a TOML document: ``[agent] timeout_sec``, ``[environment.mcp_servers[0]] url``."""
    names: list[str] = []
    for part in location:
        if isinstance(part, int) and names:
            names[-1] += f"[{part}]"
        else:
            names.append(part if isinstance(part, str) and _BARE_KEY.fullmatch(part) else format_value(part))
    *tables, key = names
    return f"[{'.'.join(tables)}] {key}" if tables else key

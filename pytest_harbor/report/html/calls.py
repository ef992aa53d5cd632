"""The model calls of a trial, from a file in a directory that an agent may have written to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_harbor._util.logs import read_last_bytes
from pytest_harbor._util.text import one_line, plural
from pytest_harbor.report.html.markup import Markup, duration, join, tag
from pytest_harbor.report.usage_text import money
from pytest_harbor.trial import TrialResult

CALLS = "proxy/calls.jsonl"

# The most bytes that a page reads from such files and the most calls it shows; trials get equal shares within limits.
MAX_BYTES = 1 << 29
BYTES_PER_TRIAL = (1 << 18, 1 << 25)
MAX_ROWS = 10_000
ROWS_PER_TRIAL = (10, 200)

_HEADS = ("call", "after", "path", "model", "status", "time", "input", "cached", "output", "cost", "source")
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens")
# Requests and responses come last in a line and may be long. Inside a JSON string, the quotes would be escaped.
_BODIES = re.compile(rb',\s*"(?:request|response)"\s*:')


@dataclass(frozen=True)
class Share:
    """A trial's share of the page: the most bytes to read, and the most calls to show."""

    bytes: int
    rows: int

    @classmethod
    def of(cls, trials: int) -> Share:
        """Return the share of one trial out of `trials`."""
        return cls(_share(MAX_BYTES, BYTES_PER_TRIAL, trials), _share(MAX_ROWS, ROWS_PER_TRIAL, trials))


def _share(total: int, limits: tuple[int, int], trials: int) -> int:
    return min(limits[1], max(limits[0], total // max(1, trials)))


def calls_table(result: TrialResult, share: Share) -> Markup | None:
    """Return the last calls of a trial with a heading, or None if there are none."""
    found, least = _read(Path(result.directory), share.bytes) if result.directory else ([], 0)
    if not found:
        return None
    shown = sorted(found, key=lambda call: _count(call.get("number")) or 0)[-share.rows :]
    omitted = max(least, len(found)) - len(shown)
    cut = f", last {plural(len(shown), 'call')}; {omitted:,} omitted" if omitted else ""
    return join(
        [
            tag("h3", "Model calls", tag("span", f" {CALLS}{cut}", class_="quiet")),
            tag(
                "div",
                tag(
                    "table",
                    tag("caption", f"Model calls, {result.task}", class_="sr-only"),
                    tag("thead", tag("tr", *(tag("th", head, scope="col") for head in _HEADS))),
                    tag("tbody", *(_row(call, result.started_at) for call in shown)),
                    class_="calls",
                ),
                class_="wide",
                tabindex=0,
                role="region",
                aria_label=f"Model calls, {result.task}",
            ),
        ]
    )


def _read(directory: Path, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Return the calls in the last bytes of the file, and a lower bound for the number of calls in it."""
    try:
        data, size = read_last_bytes(directory, CALLS, limit)
    except (OSError, ValueError):
        return [], 0
    complete = len(data) == size
    calls = list(_calls(data, 0 if complete else data.find(b"\n") + 1 or len(data)))
    return calls, len(calls) if complete else max((_count(call.get("number")) or 0 for call in calls), default=0)


def _calls(data: bytes, start: int) -> Iterator[dict[str, Any]]:
    """Yield the calls from an offset on, without copying requests and responses."""
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        bodies = _BODIES.search(data, start, end)
        line = data[start : bodies.start()] + b"}" if bodies else data[start:end]
        start = end + 1
        try:
            call = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(call, dict):
            yield call


def _row(call: dict[str, Any], started_at: str) -> Markup:
    value = call.get("usage")
    usage: dict[str, Any] = value if isinstance(value, dict) else {}
    sign = "~" if usage.get("estimated") is True else ""
    cost = _amount(call.get("cost"))
    error = _text(call.get("error"))
    return tag(
        "tr",
        tag("th", _number(call.get("number")), scope="row"),
        tag("td", _offset(call.get("at"), started_at), class_="number"),
        tag("td", " ".join(filter(None, (_text(call.get("method")), _text(call.get("path")))))),
        tag("td", _text(call.get("model"))),
        tag("td", _number(call.get("status")), f" {error}" if error else None),
        tag("td", _seconds(call.get("seconds")), class_="number"),
        *(tag("td", _number(usage.get(name), sign), class_="number") for name in _TOKENS),
        tag("td", money(cost, estimated=bool(sign)) if usage or cost is not None else "", class_="number"),
        tag("td", _text(call.get("source")), " (retry)" if call.get("retry") is True else None),
    )


def _text(value: Any) -> str:
    return one_line(value, 120) if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 10**12 else None


def _amount(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < 1e9 else None


def _number(value: Any, sign: str = "") -> str:
    number = _count(value)
    return "" if number is None else f"{sign}{number:,}"


def _seconds(value: Any) -> str:
    seconds = _amount(value)
    return "" if seconds is None else duration(seconds)


def _offset(at: Any, started_at: str) -> str:
    """Return the time from the start of the trial to a call."""
    try:
        return _seconds((datetime.fromisoformat(at) - datetime.fromisoformat(started_at)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return ""

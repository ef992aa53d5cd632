"""A verifier's single tests, read leniently from its CTRF report (https://ctrf.io): they do not affect the outcome."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_harbor._util.text import shorten
from pytest_harbor.trial.reward import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

_FILE_BYTES = 16 * 2**20
_NAME_CHARACTERS = 300
_MESSAGE_CHARACTERS = 2_000
# A message is cleaned before it is shortened; this keeps a message of megabytes from being cleaned as a whole.
_CLEANED_CHARACTERS = 10 * _MESSAGE_CHARACTERS
# No honest report counts further, and larger floats are not exact integers.
_LARGEST_COUNT = 2**53
# CSI sequences, then OSC and other string sequences with all they enclose, then two-character escapes.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)


@dataclass
class InnerTest:
    """A failed test: its name on one line, and its message or else its trace, without control characters."""

    name: str
    message: str


@dataclass
class InnerTests:
    """The verifier's tests, counted by status, and the first failures.

    Attributes:
        passed: tests with status "passed".
        failed: tests with status "failed".
        skipped: tests with status "skipped" or "pending", which did not run.
        other: tests with any other status.
        failures: the first failed tests.
        from_output: whether all this is from the verifier's output, which shows more of a failure than its message.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    other: int = 0
    failures: list[InnerTest] = field(default_factory=list)
    from_output: bool = False

    @property
    def total(self) -> int:
        """The number of tests."""
        return self.passed + self.failed + self.skipped + self.other

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> InnerTests:
        """Read the output of `dataclasses.asdict`.

        Raises:
            TypeError: a key is unknown or missing, or a value is not an object.
        """
        return cls(**{**data, "failures": [InnerTest(**test) for test in data.get("failures", [])]})


def read_ctrf(path: Path, limit: int = 20) -> InnerTests | None:
    """Read a CTRF report.

    The counts are those of the listed tests; the report's own summary is used only if no test is listed.

    Args:
        path: the report; need not exist.
        limit: how many failures to keep.

    Returns:
        None if the report is not usable: no file, more than 16 MiB, not JSON, or neither tests nor a summary.
    """
    content, _ = read_bounded(path, _FILE_BYTES)
    if content is None:
        return None
    try:
        # parse_int: an integer of thousands of digits becomes infinity, not a ValueError or a long wait.
        document = json.loads(content.decode("utf-8"), parse_int=float)
    except (ValueError, RecursionError):
        return None
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict):
        return None
    tests = results.get("tests")
    listed = [test for test in tests if isinstance(test, dict)] if isinstance(tests, list) else []
    if not listed:
        return _from_summary(results.get("summary"))
    inner = InnerTests()
    for test in listed:
        status = test.get("status")
        if status == "passed":
            inner.passed += 1
        elif status == "failed":
            inner.failed += 1
            if len(inner.failures) < limit:
                inner.failures.append(_failure(test))
        elif status in ("skipped", "pending"):
            inner.skipped += 1
        else:
            inner.other += 1
    return inner


def _from_summary(summary: Any) -> InnerTests | None:
    if not isinstance(summary, dict):
        return None
    counts = {name: _count(summary.get(name)) for name in ("passed", "failed", "skipped", "pending", "other")}
    if all(count is None for count in counts.values()):
        return None
    passed, failed, skipped, pending, other = (count or 0 for count in counts.values())
    return InnerTests(passed, failed, skipped + pending, other)


def _count(value: Any) -> int | None:
    # json.loads returns every number as a float here, and a bool is not a float.
    if isinstance(value, float) and math.isfinite(value) and 0 <= value <= _LARGEST_COUNT:
        return int(value)
    return None


def _failure(test: dict[str, Any]) -> InnerTest:
    name = " ".join(_clean(test.get("name")).split())
    message = _clean(test.get("message")).strip() or _clean(test.get("trace")).strip()
    return InnerTest(shorten(name, _NAME_CHARACTERS) or "(unnamed)", shorten(message, _MESSAGE_CHARACTERS))


def _clean(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    text = _ANSI.sub("", value[:_CLEANED_CHARACTERS]).replace("\r\n", "\n")
    return "".join(c for c in text if c.isprintable() or c in "\n\t\u00a0\u3000")

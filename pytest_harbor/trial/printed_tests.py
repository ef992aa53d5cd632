"""A verifier's single tests, read from what pytest or unittest printed, for tests that write no CTRF report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pytest_harbor._util.logs import read_tail
from pytest_harbor._util.text import one_line
from pytest_harbor.trial.ctrf import InnerTest, InnerTests

_BYTES = 256 * 1024
_LINES = 20_000
_CHARACTERS = 300

# "===== 2 failed, 3 passed in 0.12s =====", and the same without the bars with -q.
_PYTEST = re.compile(r"(?:=+ )?((?:\d+ [a-z]+, )*\d+ [a-z]+) in [\d.]+ ?s(?:econds)?(?: \([\d:, a-z]+\))?(?: =+)?")
_PYTEST_FAILURE = re.compile(r"(?:FAILED|ERROR) (\S+?::.+?|\S+\.py)(?: - (.*))?")
_UNITTEST = re.compile(r"Ran (\d+) tests? in [\d.]+s")
_UNITTEST_END = re.compile(r"(?:OK|FAILED)(?: \((.*)\))?")
_UNITTEST_FAILURE = re.compile(r"(?:FAIL|ERROR): (.+)")


def read_printed_tests(directory: Path, name: str, limit: int = 20) -> InnerTests | None:
    """Read the counts and the first failures from the end of a verifier's output.

    Args:
        directory: the trial's directory.
        name: path of the log in the directory.
        limit: how many failures to keep.

    Returns:
        None if the output does not end like that of pytest or unittest.

    """
    tail = read_tail(directory, name, _BYTES, _LINES)
    if tail is None:
        return None
    lines = [line.strip() for line in tail.text.splitlines()]
    for number in range(len(lines) - 1, -1, -1):
        if match := _PYTEST.fullmatch(lines[number]):
            tests = _pytest_counts(match[1])
            if tests is not None:
                tests.failures = _failures(_PYTEST_FAILURE, lines[:number], limit) if tests.failed else []
                return tests
        elif match := _UNITTEST.fullmatch(lines[number]):
            tests = _unittest_counts(int(match[1]), lines[number + 1 :])
            if tests is not None:
                tests.failures = _failures(_UNITTEST_FAILURE, lines[:number], limit) if tests.failed else []
                return tests
    return None


def _pytest_counts(text: str) -> InnerTests | None:
    counts = {word.rstrip("s"): int(number) for number, word in (part.split() for part in text.split(", "))}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    tests = InnerTests(
        counts.get("passed", 0),
        failed,
        counts.get("skipped", 0),
        counts.get("xfailed", 0) + counts.get("xpassed", 0),
        from_output=True,
    )
    return tests if tests.total else None


def _unittest_counts(ran: int, after: list[str]) -> InnerTests | None:
    for line in after:
        if match := _UNITTEST_END.fullmatch(line):
            counts = {name: int(number) for name, number in re.findall(r"([a-z ]+)=(\d+)", match[1] or "")}
            counts = {name.strip(): number for name, number in counts.items()}
            failed = counts.get("failures", 0) + counts.get("errors", 0)
            other = counts.get("expected failures", 0) + counts.get("unexpected successes", 0)
            skipped = counts.get("skipped", 0)
            passed = max(0, ran - failed - skipped - other)
            return InnerTests(passed, failed, skipped, other, from_output=True) if ran else None
    return None


def _failures(pattern: re.Pattern[str], lines: Iterable[str], limit: int) -> list[InnerTest]:
    found: dict[str, str] = {}
    for line in lines:
        if match := pattern.fullmatch(line):
            name, message = match[1], match[2] if match.re.groups > 1 else ""
            found.setdefault(one_line(name, _CHARACTERS), one_line(message or "", _CHARACTERS))
    return [InnerTest(name, message) for name, message in list(found.items())[:limit]]

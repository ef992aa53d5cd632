"""What is printed of a trial that did not pass: facts, failing inner tests, ends of the logs, and where they are."""

from __future__ import annotations

from pathlib import Path

from pytest_harbor._util.logs import read_tail
from pytest_harbor._util.text import one_line, printable
from pytest_harbor.report.usage_text import budget
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

# The end of a log that is printed.
_LINES = 20
_BYTES = 16_384


def headline(result: TrialResult) -> str:
    """Return a result in one line, as in the short summary."""
    if result.outcome == "error":
        return one_line(f"{_where(result)} {result.reason}", None)
    said = f"reward {_number(result.reward)}, needs {_number(result.threshold)}"
    if result.outcome == "unverified":
        said = f"unverified: {result.reason}"
    return one_line(f"{said} ({agent_end(result)}{f'; {result.budget}' if result.budget else ''})", None)


def agent_end(result: TrialResult) -> str:
    """Return how the agent ended, in a phrase."""
    if result.agent_timed_out:
        return f"agent {result.agent} {result.agent_note}"
    if result.agent_exit is None:
        return f"agent {result.agent}: {result.agent_note}" if result.agent_note else f"agent {result.agent}"
    note = f", {result.agent_note}" if result.agent_note else ""
    return f"agent {result.agent} ended with {result.agent_exit}{note}"


def describe_failure(result: TrialResult, *, logs: bool = True) -> str:
    """Return the report of a trial that failed or is unverified, with the ends of its logs if wanted."""
    directory = Path(result.directory)
    lines = [f"{_where(result)} {headline(result)}"]
    tests = result.tests
    if tests is not None:
        total = tests.passed + tests.failed + tests.skipped + tests.other
        lines.append(f"tests: {tests.failed} of {total} failed")
        for failure in tests.failures:
            lines.append(f"  {printable(failure.name)}")
            lines += [f"    {line}" for line in printable(failure.message).splitlines()[:8]]
    if logs and (tests is None or not tests.failures):
        lines += _log("end of the tests' output", directory, TEST_LOG)
    if logs:
        lines += _log("end of the agent's output", directory, AGENT_LOG)
    return _close(lines, result)


def describe_error(result: TrialResult) -> str:
    """Return the report of a trial that an infrastructure error ended."""
    lines = [printable(f"{_where(result)} {result.reason}")]
    if "Log: " in result.reason:
        path = Path(result.reason.rpartition("Log: ")[2])
        # Below the trial's directory an agent may have left links in place of directories, too.
        inside = bool(result.directory) and path.is_relative_to(result.directory)
        directory = Path(result.directory) if inside else path.parent
        # What is written for programs is no reading for people, and of a difference the reason shows the beginning.
        if path.suffix not in (".jsonl", ".diff"):
            lines += _log("end of that log", directory, path.relative_to(directory).as_posix())
    for retry in result.retries:
        lines.append(f"an earlier try failed in [{retry.phase}] too; its files: {retry.directory}")
    return _close(lines, result)


def _close(lines: list[str], result: TrialResult) -> str:
    if result.budget:
        lines.append(f"note: {printable(budget(result))}")
    lines += [f"note: {printable(warning)}" for warning in result.warnings]
    if Path(result.directory).is_dir():
        lines.append(f"Logs: {result.directory}")
    return "\n".join(lines) + "\n"


def _where(result: TrialResult) -> str:
    return f"{result.task} [{result.phase}]" if result.phase else f"{result.task}:"


def _log(title: str, directory: Path, name: str) -> list[str]:
    end = read_tail(directory, name, _BYTES, _LINES)
    return [f"--- {title} ({Path(name).name}) ---", end.text, "---"] if end else []


def _number(value: float | None) -> str:
    # Exact: a reward just below the threshold must not read like it.
    return "none" if value is None else f"{value!r}".removesuffix(".0")

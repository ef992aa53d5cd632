"""What is printed of a trial that did not pass: facts, failing inner tests, ends of the logs, and where they are."""

from __future__ import annotations

from pathlib import Path

from pytest_harbor.environment.output import printable, tail
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.verify import AGENT_LOG, TEST_LOG


def headline(result: TrialResult) -> str:
    """Return a result in one line, as in the short summary."""
    if result.outcome == "error":
        return _line(f"{_where(result)} {result.reason}")
    said = f"reward {_number(result.reward)}, needs {_number(result.threshold)}"
    if result.outcome == "unverified":
        said = f"unverified: {result.reason}"
    return _line(f"{said} ({agent_end(result)})")


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
        lines += _log("end of the tests' output", directory / TEST_LOG)
    if logs:
        lines += _log("end of the agent's output", directory / AGENT_LOG)
    return _close(lines, result)


def describe_error(result: TrialResult) -> str:
    """Return the report of a trial that an infrastructure error ended."""
    lines = [printable(f"{_where(result)} {result.reason}")]
    if "Log: " in result.reason:
        lines += _log("end of that log", Path(result.reason.rpartition("Log: ")[2]))
    for retry in result.retries:
        lines.append(f"an earlier try failed in [{retry.phase}] too; its files: {retry.directory}")
    return _close(lines, result)


def _close(lines: list[str], result: TrialResult) -> str:
    lines += [f"note: {printable(warning)}" for warning in result.warnings]
    if Path(result.directory).is_dir():
        lines.append(f"Logs: {result.directory}")
    return "\n".join(lines) + "\n"


def _where(result: TrialResult) -> str:
    return f"{result.task} [{result.phase}]" if result.phase else f"{result.task}:"


def _log(title: str, path: Path) -> list[str]:
    said = tail(path)
    return [f"--- {title} ({path.name}) ---", said, "---"] if said else []


def _number(value: float | None) -> str:
    # Exact: a reward just below the threshold must not read like it.
    return "none" if value is None else f"{value!r}".removesuffix(".0")


def _line(text: str) -> str:
    """Return a text of several lines, or of hostile characters, as one line."""
    return " ".join(printable(text).split())

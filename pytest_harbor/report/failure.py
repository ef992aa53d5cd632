"""The report of a trial that did not pass: facts, failing inner tests, the last lines of its logs, and their paths."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_harbor._util.logs import read_tail
from pytest_harbor._util.text import one_line, printable
from pytest_harbor.report.reason import reason, reward_text
from pytest_harbor.report.usage_text import spent_budget
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

# The most lines and bytes to print of a log.
_LINES = 20
_BYTES = 16_384


def headline(result: TrialResult) -> str:
    """Return a result as one line that begins with the reason, as in pytest's short summary."""
    if result.outcome in ("error", "skipped"):
        text, why = one_line(result.reason, None), reason(result)
        # The reason may lack the task's path.
        return text if why in text else f"{why}; {text}"
    if result.outcome == "unverified":
        budget = f"; {result.budget}" if result.budget else ""
        return one_line(f"{result.reason} (unverified; {agent_end(result)}{budget})", None)
    # The reason may have the reward, or the end of an agent that did not end well.
    why, reward = reason(result) or result.outcome, reward_text(result)
    end = agent_end(result) if result.agent_exit in (None, 0) and not result.agent_note else f"agent {result.agent}"
    return one_line(f"{why}{'' if reward in why else f'; {reward}'} ({end})", None)


def agent_end(result: TrialResult) -> str:
    """Return how the agent ended, as a phrase."""
    if result.agent_timed_out:
        return f"agent {result.agent} {result.agent_note}"
    if result.agent_exit is None:
        return f"agent {result.agent}: {result.agent_note}" if result.agent_note else f"agent {result.agent}"
    note = f", {result.agent_note}" if result.agent_note else ""
    return f"agent {result.agent} exited with {result.agent_exit}{note}"


def describe_failure(result: TrialResult, *, logs: bool = True, base: Path | None = None) -> str:
    """Return the report of a trial that was graded.

    Args:
        result: the result.
        logs: whether to add the last lines of the trial's logs.
        base: the directory that paths below it are relative to; None for absolute paths.

    """
    directory = Path(result.directory)
    lines = [f"{_where(result)} {relative_paths(headline(result), base)}"]
    tests = result.tests
    listed = tests is not None and bool(tests.failures) and not tests.from_output
    if tests is not None:
        lines.append(f"tests: {tests.failed} of {tests.total} failed")
        for failure in tests.failures if listed else ():
            lines.append(f"  {printable(failure.name)}")
            lines += [f"    {line}" for line in printable(failure.message).splitlines()[:8]]
    if logs and not listed:
        lines += _log(directory, TEST_LOG)
    if logs:
        lines += _log(directory, AGENT_LOG)
    return _finish(lines, result, base)


def describe_error(result: TrialResult, *, base: Path | None = None) -> str:
    """Return the report of a trial that ended with an infrastructure error.

    Args:
        result: the result.
        base: the directory that paths below it are relative to; None for absolute paths.

    """
    # The path of a task's file says which task it is.
    where = "" if result.reason.startswith(f"{result.task_path}{os.sep}") else f"{_where(result)} "
    lines = [printable(f"{where}{relative_paths(result.reason, base)}")]
    if "Log: " in result.reason:
        path = Path(result.reason.rpartition("Log: ")[2])
        # Inside the trial's directory, an agent may have replaced directories by links too.
        inside = bool(result.directory) and path.is_relative_to(result.directory)
        directory = Path(result.directory) if inside else path.parent
        # JSON lines are not for people to read, and the reason already shows the beginning of a diff.
        if path.suffix not in (".jsonl", ".diff"):
            lines += _log(directory, path.relative_to(directory).as_posix())
    for retry in result.retries:
        files = relative_paths(retry.directory, base)
        lines.append(f"an earlier attempt also failed in [{retry.phase}]; its files are in {files}")
    return _finish(lines, result, base)


def relative_paths(text: str, base: Path | None) -> str:
    """Return a text with the paths below a directory relative to it."""
    return text.replace(f"{base}{os.sep}", "") if base and base != base.parent else text


def _finish(lines: list[str], result: TrialResult, base: Path | None) -> str:
    if result.budget:
        lines.append(f"note: {printable(spent_budget(result))}")
    lines += [f"note: {printable(warning)}" for warning in result.warnings]
    if Path(result.directory).is_dir():
        lines.append(f"Logs: {relative_paths(result.directory, base)}")
    return "\n".join(lines) + "\n"


def _where(result: TrialResult) -> str:
    return f"{result.task} [{result.phase}]" if result.phase else f"{result.task}:"


def _log(directory: Path, name: str) -> list[str]:
    tail = read_tail(directory, name, _BYTES, _LINES)
    return [f"--- last lines of {Path(name).name} ---", tail.text, "---"] if tail else []

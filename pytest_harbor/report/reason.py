"""Why a trial ended as it did, in a few words that begin with what differs from trial to trial."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_harbor._util.logs import read_tail, tail
from pytest_harbor._util.text import one_line
from pytest_harbor.report.usage_text import spent_budget
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG

_CHARACTERS = 200
_BYTES = 16_384
_LINES = 100

# "bash: line 1: pip: command not found", and "sh: 1: pip: not found" of other shells.
_NOT_FOUND = re.compile(r"(?:.*\s)?(\S+): command not found\b|.*\d: (\S+): not found$")
# Where a shell says that it found an error: "/tests/test.sh: line 6: ".
_SHELL_PLACE = re.compile(r"^\S+: line \d+: ")
# What precedes the status, or another error, of a model call.
_MODEL_CALL = re.compile(r"the (?:(?:trial's first|last) model call|model server \S+) failed: (?:Error code: )?")
_BUILD = re.compile(r"build failed\b|building \S+ failed")
# What a builder adds to the output of a build: the step and the time before lines, and lines of its own.
_BUILDER = re.compile(r"^(?:#\d+ )?\d+\.\d+ |^(?:#\d+ )?(?:ERROR:|\[|>|--).*$|^#\d+ .*$", re.MULTILINE)
_TELLING = re.compile(
    r"^E:? |\w*(?:Error|Exception)\b|\b(?:error|fail(?:s|ed|ure)?|fatal|missing|differs?|expected|wrong|invalid|no such"
    r"|not (?:found|exist|equal|match)|cannot|can.?t|unable|denied)\b",
    re.IGNORECASE,
)


def reason(result: TrialResult) -> str:
    """Return why a trial ended as it did, on one line; empty for a trial that passed without anything to mention.

    Such as "5 of 5 tests failed", "timed out after 60 s" or "pip: command not found".
    """
    if result.outcome == "skipped":
        return one_line(result.reason)
    if result.outcome in ("error", "unverified"):
        # A row names the task already.
        return _fact(result.reason.removeprefix(f"{result.task_path}{os.sep}"))
    if result.outcome == "passed":
        timeout = f"agent {result.agent_note}" if result.agent_timed_out else ""
        return _joined(timeout, spent_budget(result))
    agent, tests = _agent(result), _tests(result)
    # A spent budget explains most. How the agent failed explains more than the tests of what it did not do, unless it
    # is a mere exit code.
    known = result.agent_timed_out or result.agent_note or result.agent_exit in (126, 127)
    return _joined(result.budget, *((agent, tests) if known else (tests, agent)))


def reward_text(result: TrialResult) -> str:
    """Return the reward and what passes, exactly: a reward just below the threshold must not look equal to it."""
    return f"reward {exact(result.reward)}, needs {exact(result.threshold)}"


def exact(value: float | None) -> str:
    """Return a number with all its digits, "none" for None."""
    return "none" if value is None else f"{value!r}".removesuffix(".0")


def _joined(*parts: str) -> str:
    return one_line("; ".join(filter(None, parts)))


def _fact(text: str) -> str:
    """Return the fact of a message without the fix, or the telling line of the output that it quotes."""
    text, _, log = text.partition(". Log: ")
    fact, _, output = text.partition("last output:\n")
    if _BUILD.match(fact) and (line := _telling_line(_BUILDER.sub("", tail(Path(log), _LINES)) if log else "")):
        return one_line(f"build failed: {line}", _CHARACTERS)
    if output and (line := _telling_line(output)):
        return one_line(line, _CHARACTERS)
    if match := _NOT_FOUND.match(fact):
        return f"{match[1] or match[2]}: command not found"
    if match := _MODEL_CALL.match(fact):
        fact = fact[match.end() :]
        fact = fact if fact[:1].isdigit() else f"model call failed: {fact}"
    return one_line(fact.partition("; ")[0].rstrip(" ,:"), _CHARACTERS)


def _agent(result: TrialResult) -> str:
    """Return how the agent failed; empty if it did not."""
    if result.agent_timed_out:
        return result.agent_note
    if result.agent_exit in (126, 127) and (line := _log_line(result, AGENT_LOG)):
        return line
    if result.agent_note:
        return result.agent_note if result.agent_exit is None else f"agent {result.agent_note}"
    return f"agent exited with {result.agent_exit}" if result.agent_exit else ""


def _tests(result: TrialResult) -> str:
    """Return what is known of the tests; if nothing is, the reward and what test.sh printed last."""
    tests = result.tests
    if tests is not None and tests.failed:
        names = [failure.name.rpartition("::")[2] for failure in tests.failures]
        which = f": {', '.join(names[:3])}" if names and tests.failed < tests.total else ""
        return f"{tests.failed} of {tests.total} tests failed{which}"
    if result.reward:
        return reward_text(result)
    return _log_line(result, TEST_LOG) or reward_text(result)


def _log_line(result: TrialResult, name: str) -> str:
    log = read_tail(Path(result.directory), name, _BYTES, _LINES) if result.directory else None
    return one_line(_telling_line(log.text), _CHARACTERS) if log else ""


def _telling_line(text: str) -> str:
    """Return the line of an output that most likely says what failed; empty if there is none."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"[^\W\d_]{2}", line)]
    # Neither the lines of a diff nor those of tests that passed.
    lines = [line for line in lines if not re.match(r"[<>+-]|(?:ok|pass(?:ed)?)\b", line, re.IGNORECASE)]
    telling = [line for line in lines if _TELLING.search(line)]
    line = (telling or lines or [""])[-1]
    match = _NOT_FOUND.match(line)
    # What follows a colon is on another line, or missing.
    return f"{match[1] or match[2]}: command not found" if match else _SHELL_PLACE.sub("", line).rstrip(" :;,")

"""A trial's result in pytest's report of its test: outcome, status word, message and properties."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

from pytest_harbor.errors import InfrastructureError
from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.plugin.collection import HarborItem
from pytest_harbor.plugin.outcome import NoReward, TrialFailed
from pytest_harbor.plugin.session import session_of
from pytest_harbor.plugin.trials import TRIAL, trial_of
from pytest_harbor.report.failure import describe_error, describe_failure, headline
from pytest_harbor.report.github import escape_commands, is_github_actions
from pytest_harbor.task import TaskError

if TYPE_CHECKING:
    from pytest_harbor.trial import Trial, TrialResult


USAGE_PROPERTIES = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost")
"""The parts of a trial's usage that become properties of its test, next to the number of calls."""


def complete(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Add a trial's result to the report of its test, and make sure that every test has a result."""
    error = call.excinfo.value if call.excinfo is not None else None
    trial = _finish(item, report, error)
    if trial is None:
        return
    result = trial.result
    extra: Any = report
    if report.when == "teardown":
        if "stop" in result.phases:
            extra.harbor_stop = {"node_id": item.nodeid, "seconds": result.phases["stop"]}
        session_of(item.config).open_trials.discard(trial)
        if isinstance(error, InfrastructureError):
            where = f"{result.task} [{error.phase or 'stop'}] {error}"
            report.longrepr = _longrepr(where, f"{where}\n", trial.task.toml_path)
        return
    final = report.when == "call" or not report.passed
    if final:
        extra.harbor = result.to_json()
        extra.harbor_word = _word(result)
        extra.harbor_scored = isinstance(item, HarborItem) and session_of(item.config).gate.scores
        for name, value in _properties(result):
            item.user_properties.append((name, value))
        report.user_properties = list(item.user_properties)
    if error is None or not report.failed:
        return
    if isinstance(error, InfrastructureError | TaskError | NoReward):
        extra.harbor_error = True
    text = None
    if isinstance(error, TrialFailed):
        # With -s the logs are on the screen already.
        text = describe_failure(error.result, logs=getattr(item.config.option, "capture", "") != "no")
    elif isinstance(error, InfrastructureError | TaskError):
        text = describe_error(result)
    if text is not None:
        # GitHub Actions would execute workflow commands that an agent printed.
        text = escape_commands(text) if is_github_actions(os.environ) else text
        report.longrepr = _longrepr(headline(result), text, trial.task.toml_path)


def _finish(item: pytest.Item, report: pytest.TestReport, error: BaseException | None) -> Trial | None:
    """Return a test's trial; if the trial did not get to a result, derive one from the report."""
    trial = item.stash.get(TRIAL, None)
    if report.when == "teardown" or (report.passed and report.when == "setup"):
        return trial
    if trial is None:
        assignment = assignment_of(item)
        if assignment is None:
            return None
        trial = trial_of(item, assignment.task)
    if report.skipped:
        trial.skip(str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else "")
    elif error is not None and report.when == "setup":
        trial.fail(error, "" if isinstance(error, TaskError) else "setup")
    return trial


def _word(result: TrialResult) -> str:
    return "" if result.reward is None else f"reward {result.reward:.2f}"


def status(report: Any) -> tuple[str, str, Any] | None:
    """Return category, letter and word of a report with a trial's result, or None to use pytest's own."""
    if report.when == "teardown" or report.skipped:
        return None
    reward = f" {report.harbor_word}" if report.harbor_word else ""
    if getattr(report, "harbor_scored", False) and report.passed and report.when == "call":
        return "scored", "~", (f"SCORED{reward}", {"cyan": True})
    if report.failed and (report.when == "setup" or getattr(report, "harbor_error", False)):
        return "error", "E", "ERROR"
    if report.passed and report.when == "call":
        return "passed", ".", f"PASSED{reward}"
    if report.failed:
        word = "UNVERIFIED" if report.harbor["outcome"] == "unverified" else "FAILED"
        return "failed", "F", f"{word}{reward}"
    return None


def _properties(result: TrialResult) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [
        ("harbor_task", result.task),
        ("harbor_agent", result.agent),
        ("harbor_attempt", result.attempt),
        ("harbor_outcome", result.outcome),
        ("harbor_directory", result.directory),
    ]
    if result.reward is not None:
        found.append(("harbor_reward", result.reward))
    found += [(f"harbor_metric_{name}", value) for name, value in result.metrics.items()]
    found += [(f"harbor_seconds_{name}", value) for name, value in result.phases.items()]
    if result.usage is not None:
        usage = {"calls": result.usage.requests, **{name: getattr(result.usage, name) for name in USAGE_PROPERTIES}}
        found += [(f"harbor_{name}", value) for name, value in usage.items() if value is not None]
    if result.budget:
        found.append(("harbor_budget", result.budget))
    return found


def _longrepr(message: str, text: str, path: Path) -> ReprExceptionInfo:
    """Return a report without a traceback that still has a line in the short summary, with pytest-xdist too."""
    return ReprExceptionInfo(
        reprtraceback=ReprTraceback(reprentries=[ReprEntryNative([text])], extraline=None, style="native"),
        reprcrash=ReprFileLocation(str(path), 1, message),
    )

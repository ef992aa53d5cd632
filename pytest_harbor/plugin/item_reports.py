"""A trial's result in pytest's report of its test: outcome, status word, message and properties."""

from __future__ import annotations

import dataclasses
import os
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ExceptionRepr, ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

from pytest_harbor._util.text import one_line
from pytest_harbor._util.unpatched import replaced_fix
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.plugin.collection import HarborItem
from pytest_harbor.plugin.outcome import NoReward, TrialFailed
from pytest_harbor.plugin.session import session_of
from pytest_harbor.plugin.trials import TRIAL, is_requested, trial_of
from pytest_harbor.report.failure import describe_error, describe_failure, headline, relative_paths
from pytest_harbor.report.workflow_commands import escape_commands, is_github_actions
from pytest_harbor.task import TaskError
from pytest_harbor.task.variables import MissingVariable
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.failures import describe

if TYPE_CHECKING:
    from pytest_harbor.trial import Trial


USAGE_PROPERTIES = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost")
"""The parts of a trial's usage that become properties of its test, next to the number of calls."""


def hide_internals(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Take the plugin's own frames out of the traceback of a user's test, unless --full-trace is given."""
    if call.excinfo is None or getattr(item.config.option, "fulltrace", False):
        return
    if all(entry.path != item.path for entry in call.excinfo.traceback):
        return
    # pytest follows the links of the traceback itself.
    entry: types.TracebackType | None = call.excinfo.tb
    while entry is not None:
        following = entry.tb_next
        while following is not None and following.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            following = following.tb_next
        entry.tb_next = following
        entry = following


def complete(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Add a trial's result to the report of its test, and make sure that every test of a trial has a result."""
    try:
        _complete(item, call, report)
    except Exception as error:
        # What the test replaces may be replaced until the end of its teardown. An error here would end the session.
        fix = replaced_fix()
        if not fix:
            raise
        extra: Any = report
        extra.outcome, extra.harbor_error, extra.harbor_word = "failed", True, ""
        message = f"{type(error).__name__}: {error}; {fix}"
        report.longrepr = _longrepr(one_line(message, None), f"{item.name}: {message}\n", item.path)


def _complete(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    error = call.excinfo.value if call.excinfo is not None else None
    if report.when == "teardown":
        _complete_teardown(item, error, report)
        return
    if not is_requested(item):
        if report.when == "setup" and isinstance(error, InfrastructureError | TaskError):
            _explain(item, _unrecorded(item, error), report)
        return
    trial = _finish(item, report, error)
    if trial is None or not trial.ended:
        return
    result = trial.result
    if report.when == "call" or not report.passed:
        _add_result(item, result, report)
    if error is None or not report.failed:
        return
    # What ends a trial also ends a user's own test, before its first line.
    by_trial = result.outcome == "error"
    if by_trial or isinstance(error, NoReward):
        extra: Any = report
        extra.harbor_error = True
    if isinstance(error, TrialFailed | NoReward) or (by_trial and isinstance(error, _ENDS_TRIALS)):
        _explain(item, result, report)
    elif not by_trial and isinstance(report.longrepr, ExceptionRepr):
        report.longrepr.addsection(f"trial {one_line(result.task)}", _text(item, result).rstrip())


_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"

# Infrastructure errors, and what other plugins raise to end a test, such as at its time limit.
_ENDS_TRIALS = (InfrastructureError, TaskError, MissingVariable, pytest.fail.Exception)


def _complete_teardown(item: pytest.Item, error: BaseException | None, report: pytest.TestReport) -> None:
    trial = item.stash.get(TRIAL, None)
    if trial is None:
        return
    result = trial.result
    if "stop" in result.phases and is_requested(item):
        extra: Any = report
        extra.harbor_stop = {"node_id": item.nodeid, "seconds": result.phases["stop"]}
    session_of(item.config).open_trials.discard(trial)
    if isinstance(error, InfrastructureError):
        text = f"{result.task} [{error.phase or 'stop'}] {error}\n"
        report.longrepr = _longrepr(one_line(str(error), None), text, trial.task.toml_path)


def _finish(item: pytest.Item, report: pytest.TestReport, error: BaseException | None) -> Trial | None:
    """Return a test's trial; if the trial did not get to a result, derive one from the report."""
    trial = item.stash.get(TRIAL, None)
    if report.passed and report.when == "setup":
        return trial
    if trial is None:
        assignment = assignment_of(item)
        if assignment is None:
            return None
        trial = trial_of(item, assignment.task)
    if report.skipped and (error is None or isinstance(error, pytest.skip.Exception)):
        trial.skip(str(report.longrepr[2]).removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else "")
    elif isinstance(error, pytest.xfail.Exception):
        # The mark says not to run it, or the test gives up; a trial that has ended keeps its result.
        trial.skip(str(error))
    elif error is not None and report.when == "setup":
        trial.fail(error, "" if isinstance(error, TaskError) else "setup")
    return trial


def _unrecorded(item: pytest.Item, error: InfrastructureError | TaskError) -> TrialResult:
    """Return a result to explain why a test without a trial got no task or environment."""
    trial = item.stash.get(TRIAL, None)
    assignment = assignment_of(item)
    if trial is None:
        assert assignment is not None
        task = assignment.task
        result = TrialResult("", task.id, task.dataset, str(task.path), "", assignment.attempt)
    else:
        result = dataclasses.replace(trial.result)
    result.reason = describe(error)
    result.phase = getattr(error, "phase", None) or ""
    return result


def _add_result(item: pytest.Item, result: TrialResult, report: pytest.TestReport) -> None:
    extra: Any = report
    extra.harbor = result.to_json()
    extra.harbor_word = _word(result)
    # A test that xfail fails, since its trial passed or raised something else, is not the gate's to excuse.
    unexpected = report.failed and result.xfail and result.outcome != "error"
    session = session_of(item.config)
    extra.harbor_scored = isinstance(item, HarborItem) and session.only_scores and not unexpected
    if extra.harbor_scored and session.gate.scores and report.passed and result.outcome in ("failed", "unverified"):
        extra.harbor_failure = _text(item, result)
    if session.options.junit_properties == "on":
        item.user_properties += _properties(result)
        report.user_properties = list(item.user_properties)


def _explain(item: pytest.Item, result: TrialResult, report: pytest.TestReport) -> None:
    """Show what happened to a trial instead of a traceback."""
    message = _safe(relative_paths(headline(result), item.config.invocation_params.dir))
    report.longrepr = _longrepr(message, _text(item, result), Path(result.task_path) / "task.toml")


def _text(item: pytest.Item, result: TrialResult) -> str:
    base = item.config.invocation_params.dir
    if result.outcome == "error":
        text = describe_error(result, base=base)
    else:
        # With -s the logs are on the screen already.
        text = describe_failure(result, logs=getattr(item.config.option, "capture", "") != "no", base=base)
    return _safe(text)


def _safe(text: str) -> str:
    """Return a text in which GitHub Actions finds no workflow commands, such as those that an agent printed."""
    return escape_commands(text) if is_github_actions(os.environ) else text


def _word(result: TrialResult) -> str:
    return "" if result.reward is None else f"reward {result.reward:.2f}"


def status(report: Any, *, with_reward: bool) -> tuple[str, str, Any] | None:
    """Return category, letter and word of a report with a trial's result, or None to use pytest's own.

    Args:
        report: the report.
        with_reward: False for pytest's short summary, where scripts expect a node id after the outcome.

    """
    if report.when == "teardown" or report.skipped or hasattr(report, "wasxfail"):
        return None
    reward = f" {report.harbor_word}" if report.harbor_word and with_reward else ""
    if getattr(report, "harbor_scored", False) and report.passed and report.when == "call":
        return "scored", "~", (f"SCORED{reward}", {"cyan": True})
    if report.failed and (report.when == "setup" or getattr(report, "harbor_error", False)):
        return "error", "E", "ERROR"
    if report.passed and report.when == "call":
        return "passed", ".", f"PASSED{reward}"
    if report.failed:
        word = "UNVERIFIED" if report.harbor["outcome"] == "unverified" and with_reward else "FAILED"
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

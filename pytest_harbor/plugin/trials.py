"""The trials of tests: made at their first use, confirmed, abandoned, and recorded if their worker died."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace

import pytest

from pytest_harbor.errors import InfrastructureError
from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.plugin.runner import open_runner
from pytest_harbor.plugin.session import HarborSession, session_of
from pytest_harbor.plugin.trial_hooks import ItemHooks
from pytest_harbor.task import Task
from pytest_harbor.trial import Trial, TrialResult

TRIAL: pytest.StashKey[Trial] = pytest.StashKey()
UNCHANGED: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a test is skipped because nothing has changed since the baseline (changed.py)."""
_RERUN: pytest.StashKey[int] = pytest.StashKey()
_REQUESTED: pytest.StashKey[bool] = pytest.StashKey()

WORKER_DIED = "the worker process died while the trial ran (killed, out of memory, or crashed)"


def trial_of(item: pytest.Item, task: Task) -> Trial:
    """Return the trial of a test, made at the first call.

    For a test that only uses a task or an environment it is never run, and leaves no result.
    """
    if TRIAL not in item.stash:
        item.stash[TRIAL] = _new_trial(item, task, recorded=is_requested(item))
    return item.stash[TRIAL]


def begin_rerun(item: pytest.Item) -> None:
    """Forget the trial of a test that a plugin such as pytest-rerunfailures runs again, so that it gets a new one."""
    if TRIAL not in item.stash:
        return
    del item.stash[TRIAL]
    item.stash[_RERUN] = item.stash.get(_RERUN, 0) + 1
    item.user_properties[:] = [pair for pair in item.user_properties if not pair[0].startswith("harbor_")]


def is_requested(item: pytest.Item) -> bool:
    """Return True if a test requests a trial, so that the trial has a result even if it could not run."""
    return "harbor_trial" in getattr(item, "fixturenames", ()) or item.stash.get(_REQUESTED, False)


def requested_trial(item: pytest.Item, task: Task) -> Trial:
    """Return the trial of a test that requests it."""
    trial = trial_of(item, task)
    if not is_requested(item):
        # By request.getfixturevalue().
        item.stash[_REQUESTED] = True
        session = session_of(item.config)
        trial.record(open_runner(session).run)
        session.open_trials.add(trial)
    return trial


def confirm(item: pytest.Item, failed: Trial) -> None:
    """Run a task that newly failed a few more times; the results are recorded and decide nothing."""
    session = session_of(item.config)
    for number in range(1, session.options.confirm + 1):
        trial = _new_trial(item, failed.task, number)
        try:
            with contextlib.suppress(InfrastructureError):
                trial.run(failed.agent)
        finally:
            trial.stop()
            session.open_trials.discard(trial)


def abandon(session: HarborSession, error: BaseException) -> None:
    """Record and remove the trials that an interrupt left running."""
    for trial in list(session.open_trials):
        trial.fail(error)
        with contextlib.suppress(InfrastructureError):
            trial.stop()
    session.open_trials.clear()


def record_lost(session: HarborSession) -> list[TrialResult]:
    """Record the trials whose worker died before it could, and return their results."""
    run = open_runner(session).run
    lost = run.lost()
    for result in lost:
        result.outcome = "error"
        result.reason = WORKER_DIED
        run.append(result)
        run.note(result, "finished")
        session.table.add(result)
    return lost


def all_results(session: HarborSession) -> list[TrialResult]:
    """Return the results of all trials of the run, those of workers that died included; none if nothing ran."""
    if session.runner is None:
        return []
    record_lost(session)
    results = session.runner.run.results()
    # A result that could not be written is an error, which only its report knows of.
    written = {result.directory for result in results}
    return [*results, *(result for result in session.table.results if result.directory not in written)]


def _new_trial(item: pytest.Item, task: Task, confirmation: int = 0, *, recorded: bool = True) -> Trial:
    session = session_of(item.config)
    assignment = assignment_of(item)
    name = assignment.agent if assignment else ""
    agent = session.agents.agent(name)
    model_calls = session.gate.model_calls(task.id, agent.name) if agent else None
    rerun = item.stash.get(_RERUN, 0)
    # With --dist=each, and with plugins that copy items, several workers run the same test.
    worker = getattr(item.config, "workerinput", {}).get("workerid", "")
    trial = open_runner(session).trial(
        task,
        replace(session.agents.settings(name), model_calls=model_calls),
        key=f"{item.nodeid} {worker} {rerun} {confirmation}",
        agent=agent,
        attempt=assignment.attempt if assignment else 1,
        confirmation=confirmation,
        rerun=rerun,
        node_id=item.nodeid,
        hooks=ItemHooks(item),
        echo=_echo if getattr(item.config.option, "capture", "") == "no" else None,
        recorded=recorded,
    )
    trial.result.settings = session.fingerprints.of(item)
    trial.result.unchanged = item.stash.get(UNCHANGED, False)
    if recorded:
        session.open_trials.add(trial)
    return trial


def _echo(data: bytes) -> None:
    sys.stdout.write(data.decode("utf-8", "replace"))
    sys.stdout.flush()

"""Attempts in rounds (`--harbor-attempts=N..M`): of all tasks the first, then the second, until a verdict is certain.

The decision is about complete rounds only. Under -n, a worker starts the next round while the last trials of the one
before still run, so that none is idle; what it has run by the time of a decision stays in the results, and out of the
verdict.
"""

from __future__ import annotations

import contextlib

import pytest

from pytest_harbor.gate import Rounds
from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.plugin.omitted import omit
from pytest_harbor.plugin.run_record import planned_trials
from pytest_harbor.plugin.runner import open_runner
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.plugin.trials import is_requested
from pytest_harbor.results.rounds import RoundLog


class RoundsOfRun:
    """The hooks of a run in rounds; activation.activate() registers it.

    Args:
        session: the plugin's session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._session = session
        # The number of each attempt that has a trial, by node id.
        self._planned: dict[str, int] = {}

    @property
    def log(self) -> RoundLog:
        """The log of the run."""
        return round_log(self._session)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort attempts into rounds; other tests keep their positions."""
        positions = [number for number, item in enumerate(items) if assignment_of(item)]
        # sorted() is stable.
        moved = sorted((items[number] for number in positions), key=_attempt)
        for number, item in zip(positions, moved, strict=True):
            items[number] = item

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note which trials make up each round."""
        self._planned = {item.nodeid: _attempt(item) for item in session.items if is_requested(item)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Leave out attempts that are not needed."""
        if _attempt(item) <= self._session.attempts_least or self._session.config.option.setuponly:
            return None
        self._update()
        log = self.log
        return omit(item, nextitem) if log.decided and _attempt(item) > log.complete else None

    def _update(self) -> None:
        """Try to decide after each round that has become complete; all workers come to the same result."""
        log, session = self.log, self._session
        log.refresh()
        waiting = [number for node_id, number in self._planned.items() if node_id not in log.ended]
        complete = min(waiting, default=session.attempts + 1) - 1
        for number in range(log.complete + 1, complete + 1):
            if log.decided:
                return
            decided = session.attempts_least <= number < session.attempts and self._is_certain(number)
            # If it cannot be written, all attempts are made.
            with contextlib.suppress(OSError):
                log.note_complete(number, session.attempts, decided=decided)
            log.refresh()

    def _is_certain(self, number: int) -> bool:
        results = open_runner(self._session).run.results()
        return self._session.gate.is_certain(results, Rounds(number, self._session.attempts))

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that a test has ended, whatever became of it; its trial has a result by now."""
        if nodeid in self._planned:
            with contextlib.suppress(OSError):
                self.log.note_ended(nodeid)
            self._update()

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Note that a test has ended with its worker; its trial is recorded by now."""
        with contextlib.suppress(OSError):
            self.log.note_ended(crashitem)


def round_log(session: HarborSession) -> RoundLog:
    """Return the log of the run's rounds, which pytest-xdist's controller and workers share."""
    if session.round_log is None:
        session.round_log = RoundLog(open_runner(session).run.directory)
    return session.round_log


def judged_rounds(session: HarborSession) -> Rounds:
    """Return the rounds that a verdict is about once the tests have ended."""
    log, most = round_log(session), session.attempts
    log.refresh()
    # A worker that died in the last round could not note that it is complete.
    done = most if len(log.ended) == planned_trials(session) else log.complete
    return Rounds(max(done, 1), most)


def under_way(session: HarborSession) -> tuple[int, int]:
    """Return the round under way, or the last if it was decided, and the most that there may be."""
    log, most = round_log(session), session.attempts
    log.refresh()
    return log.complete if log.decided else min(log.complete + 1, most), most


def _attempt(item: pytest.Item) -> int:
    assignment = assignment_of(item)
    return assignment.attempt if assignment else 0

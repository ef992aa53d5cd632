"""The backoff of healthchecks: when to retry, and when to give up."""

from __future__ import annotations

import time
from collections.abc import Callable

FASTEST = 0.05


class Backoff:
    """The attempts of one healthcheck; all times in seconds.

    The interval says when a failure counts, as in Harbor. In between, the command is retried more often, at first every
    50 ms and then less and less often, so that a service that starts quickly does not cost a whole interval.

    Args:
        interval: time between two failures that count.
        start_period: how long failures do not count.
        start_interval: the interval during the start period.
        retries: how many failures that count are too many.
        clock: returns the seconds of a clock.

    """

    def __init__(
        self,
        interval: float,
        start_period: float,
        start_interval: float,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._start_period = start_period
        self._start_interval = start_interval
        self._retries = max(1, retries)
        self._began = self._next_counted = self._clock()
        self._pause = FASTEST
        self.failures = 0

    @property
    def seconds(self) -> float:
        """Seconds since the first attempt."""
        return self._clock() - self._began

    def failed(self) -> float | None:
        """Count a failure, and return the seconds to wait before the next attempt, or None to give up."""
        now = self._clock()
        starting = now - self._began < self._start_period
        if now >= self._next_counted:
            self.failures += 0 if starting else 1
            self._next_counted = now + (self._start_interval if starting else self._interval)
        if self.failures >= self._retries:
            return None
        wait = min(self._pause, max(self._next_counted - now, FASTEST))
        self._pause *= 1.5
        return wait

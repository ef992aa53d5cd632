"""When a healthcheck is tried again, and when it is given up."""

from __future__ import annotations

import time

FASTEST = 0.05


class Retries:
    """The tries of a healthcheck; all times in seconds.

    The interval says when a failure counts, as in Harbor. In between the command is tried more often, first every 50 ms
    and then ever more seldom, so that a service that is up in a moment costs no whole interval.

    Args:
        interval: time between two failures that count.
        start_period: how long no failure counts.
        start_interval: the interval meanwhile.
        retries: how many failures that count are too many.

    """

    def __init__(self, interval: float, start_period: float, start_interval: float, retries: int) -> None:
        self._interval = interval
        self._start_period = start_period
        self._start_interval = start_interval
        self._retries = max(1, retries)
        self._began = self._next_counted = time.monotonic()
        self._pause = FASTEST
        self.failures = 0

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._began

    def failed(self) -> float | None:
        """Take note of a failure, and return how long to wait before the next try; None when it is given up."""
        now = time.monotonic()
        starting = now - self._began < self._start_period
        if now >= self._next_counted:
            self.failures += 0 if starting else 1
            self._next_counted = now + (self._start_interval if starting else self._interval)
        if self.failures >= self._retries:
            return None
        wait = min(self._pause, max(self._next_counted - now, FASTEST))
        self._pause *= 1.5
        return wait

"""Waiting until an environment is ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_harbor.environment import Environment
from pytest_harbor.environment.output import printable
from pytest_harbor.errors import StartError

if TYPE_CHECKING:
    from pytest_harbor.task.schema import HealthcheckConfig

FASTEST = 0.05


def await_health(environment: Environment, check: HealthcheckConfig, multiplier: float = 1.0) -> None:
    """Run a task's healthcheck until it succeeds.

    The task's interval says when a failure counts, as in Harbor. In between the command is tried more often, first
    every 50 ms and then ever more seldom, so that a service that is up in a moment costs no whole interval.

    Args:
        environment: where.
        check: the task's table.
        multiplier: factor on its times.

    Raises:
        StartError: it failed `retries` times after the start period.

    """
    began = time.monotonic()
    failures = 0
    pause = FASTEST
    next_counted = began
    while True:
        result = environment.exec(check.command, timeout=check.timeout_sec * multiplier)
        now = time.monotonic()
        if result.exit_code == 0 and not result.timed_out:
            return
        starting = now - began < check.start_period_sec * multiplier
        if now >= next_counted:
            failures += 0 if starting else 1
            interval = (check.start_interval_sec if starting else check.interval_sec) * multiplier
            next_counted = now + interval
        if failures >= max(1, check.retries):
            how = "timed out" if result.timed_out else f"ended with {result.exit_code}"
            raise StartError(
                f"the healthcheck failed {failures} times in {now - began:.0f} s; the last one {how}: "
                f"{printable(result.output).strip()[-400:] or '(no output)'}",
                "see [environment.healthcheck] and what the image's ENTRYPOINT starts",
            )
        time.sleep(min(pause, max(next_counted - now, FASTEST)))
        pause *= 1.5

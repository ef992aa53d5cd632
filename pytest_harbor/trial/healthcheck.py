"""Waiting until an environment is ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_harbor._util.text import printable
from pytest_harbor.environment import Environment
from pytest_harbor.errors import StartError
from pytest_harbor.trial.backoff import Retries

if TYPE_CHECKING:
    from pytest_harbor.task.schema import HealthcheckConfig


def await_health(environment: Environment, check: HealthcheckConfig, multiplier: float = 1.0) -> None:
    """Run a task's healthcheck until it succeeds.

    Args:
        environment: where.
        check: the task's table.
        multiplier: factor on its times.

    Raises:
        StartError: it failed `retries` times after the start period.

    """
    retries = Retries(
        check.interval_sec * multiplier,
        check.start_period_sec * multiplier,
        check.start_interval_sec * multiplier,
        check.retries,
    )
    while True:
        result = environment.exec(check.command, timeout=check.timeout_sec * multiplier)
        if result.exit_code == 0 and not result.timed_out:
            return
        pause = retries.failed()
        if pause is None:
            how = "timed out" if result.timed_out else f"ended with {result.exit_code}"
            raise StartError(
                f"the healthcheck failed {retries.failures} times in {retries.seconds:.0f} s; the last one {how}: "
                f"{printable(result.output).strip()[-400:] or '(no output)'}",
                "see [environment.healthcheck] and what the image's ENTRYPOINT starts",
            )
        time.sleep(pause)

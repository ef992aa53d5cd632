"""The healthcheck: wait until an environment is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_harbor._util.text import printable
from pytest_harbor._util.unpatched import monotonic, sleep
from pytest_harbor.environment import Environment
from pytest_harbor.errors import StartError
from pytest_harbor.trial.backoff import Backoff

if TYPE_CHECKING:
    from pytest_harbor.task.schema import HealthcheckConfig


def await_health(environment: Environment, check: HealthcheckConfig, multiplier: float = 1.0) -> None:
    """Run a task's healthcheck until it succeeds.

    Args:
        environment: the environment.
        check: the task's healthcheck table.
        multiplier: factor on its times.

    Raises:
        StartError: the healthcheck failed `retries` times after the start period.

    """
    backoff = Backoff(
        check.interval_sec * multiplier,
        check.start_period_sec * multiplier,
        check.start_interval_sec * multiplier,
        check.retries,
        monotonic,
    )
    while True:
        result = environment.exec(check.command, timeout=check.timeout_sec * multiplier)
        if result.exit_code == 0 and not result.timed_out:
            return
        pause = backoff.failed()
        if pause is None:
            how = "timed out" if result.timed_out else f"exited with code {result.exit_code}"
            raise StartError(
                f"the healthcheck failed {backoff.failures} times in {backoff.seconds:.1f} s; the last attempt {how}: "
                f"{printable(result.output).strip()[-400:] or '(no output)'}",
                "check [environment.healthcheck] and what the image's ENTRYPOINT starts",
            )
        sleep(pause)

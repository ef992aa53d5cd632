"""The hooks of a trial. The plugin connects them to its pytest hooks; a script may subclass them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_harbor.environment import Environment
from pytest_harbor.errors import HookError, InfrastructureError
from pytest_harbor.task import Task

if TYPE_CHECKING:
    from pytest_harbor.agent import Agent
    from pytest_harbor.trial.result import Outcome, TrialResult
    from pytest_harbor.trial.verifier import Verification

T = TypeVar("T")


class TrialHooks:
    """Hooks that do nothing. An exception in one ends the trial with an infrastructure error that names the hook."""

    def image(self, task: Task) -> str | None:
        """Return the name of an image to use instead of the task's own, or None."""

    def agent_env(self, task: Task, agent: Agent, variables: dict[str, str]) -> None:
        """Change the agent's environment variables in place."""

    def cassette_request(self, task: Task, request: dict[str, Any]) -> None:
        """Normalize a request in place: remove what may differ between recording and replay."""

    def environment_started(self, task: Task, environment: Environment) -> None:
        """Prepare an environment before the agent sees it."""

    def reward(self, task: Task, environment: Environment, verification: Verification) -> float | None:
        """Return a reward to use instead of the verifier's, or None."""

    def error_class(self, task: Task, error: Exception, phase: str) -> Outcome | None:
        """Return the outcome of a trial that an error ended: `error`, `failed`, `unverified`, or None for `error`."""

    def finished(self, task: Task, result: TrialResult) -> None:
        """React to a result; it is on disk by then."""


def call_hook(name: str, call: Callable[[], T]) -> T:
    """Call a hook, and turn whatever it raises into an error that names it.

    Args:
        name: name of the pytest hook, without its prefix.
        call: calls the hook.

    Raises:
        HookError: the hook raised something other than an InfrastructureError, which is passed on.

    """
    try:
        return call()
    except InfrastructureError:
        raise
    except Exception as error:
        raise HookError(
            f"the hook pytest_harbor_{name} raised {type(error).__name__}: {error}", "fix the hook"
        ) from error

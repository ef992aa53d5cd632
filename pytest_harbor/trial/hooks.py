"""Where others may step into a trial. The plugin connects these to its pytest hooks; a script may subclass them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_harbor.environment import Environment
from pytest_harbor.task import Task

if TYPE_CHECKING:
    from pytest_harbor.agent import Agent
    from pytest_harbor.trial.result import Outcome, TrialResult
    from pytest_harbor.trial.verifier import Verification


class TrialHooks:
    """Hooks that do nothing. Whatever one raises ends the trial as an infrastructure error that names the hook."""

    def image(self, task: Task) -> str | None:
        """Return the name of the image to use instead of the task's own."""

    def agent_env(self, task: Task, agent: Agent, variables: dict[str, str]) -> None:
        """Change the agent's variables in place."""

    def cassette_request(self, task: Task, request: dict[str, Any]) -> None:
        """Make equal in a request, in place, what may differ between recording and replay."""

    def environment_started(self, task: Task, environment: Environment) -> None:
        """Prepare an environment before the agent sees it."""

    def reward(self, task: Task, environment: Environment, verification: Verification) -> float | None:
        """Return the reward to use instead of the verifier's."""

    def error_class(self, task: Task, error: Exception, phase: str) -> Outcome | None:
        """Return the outcome of a trial that an error ended: `error`, `failed` or `unverified`."""

    def finished(self, task: Task, result: TrialResult) -> None:
        """Take notice of a result, after it is on disk."""

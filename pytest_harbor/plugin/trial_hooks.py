"""The hooks of a trial, connected to the pytest hooks in the conftest.py files that apply to its test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_harbor.trial import Outcome, TrialHooks, TrialResult, Verification

if TYPE_CHECKING:
    from pytest_harbor.agent import Agent
    from pytest_harbor.environment import Environment
    from pytest_harbor.task import Task


class ItemHooks(TrialHooks):
    """Calls the pytest hooks that apply to a test item."""

    def __init__(self, item: pytest.Item) -> None:
        self._hook = item.ihook

    def image(self, task: Task) -> str | None:
        """Call pytest_harbor_image."""
        answer: str | None = self._hook.pytest_harbor_image(task=task)
        return answer

    def agent_env(self, task: Task, agent: Agent, variables: dict[str, str]) -> None:
        """Call pytest_harbor_agent_env."""
        self._hook.pytest_harbor_agent_env(task=task, agent=agent, variables=variables)

    def cassette_request(self, task: Task, request: dict[str, Any]) -> None:
        """Call pytest_harbor_cassette_request."""
        self._hook.pytest_harbor_cassette_request(task=task, request=request)

    def environment_started(self, task: Task, environment: Environment) -> None:
        """Call pytest_harbor_environment_started."""
        self._hook.pytest_harbor_environment_started(task=task, environment=environment)

    def reward(self, task: Task, environment: Environment, verification: Verification) -> float | None:
        """Call pytest_harbor_reward."""
        answer: float | None = self._hook.pytest_harbor_reward(
            task=task, environment=environment, verification=verification
        )
        return answer

    def error_class(self, task: Task, error: Exception, phase: str) -> Outcome | None:
        """Call pytest_harbor_error_class."""
        answer: Outcome | None = self._hook.pytest_harbor_error_class(task=task, error=error, phase=phase)
        return answer

    def finished(self, task: Task, result: TrialResult) -> None:
        """Call pytest_harbor_trial_finished."""
        self._hook.pytest_harbor_trial_finished(task=task, result=result)

"""The plugin's hooks, to be implemented in a conftest.py or a plugin. Each example runs as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_harbor.agent import Agent
    from pytest_harbor.environment import Environment, Provider
    from pytest_harbor.task import Task
    from pytest_harbor.trial import Outcome, TrialResult, Verification


@pytest.hookspec(firstresult=True)
def pytest_harbor_task(task: Task, config: pytest.Config) -> Task | bool | None:
    """Choose or change a task when it is collected.

    Return False to skip the task, a changed task to replace it, or None to leave the decision to others::

        def pytest_harbor_task(task):
            if "slow" in task.tags:
                return False
            return task.with_changes(instruction=task.instruction + "\\nBe brief.")
    """


@pytest.hookspec(firstresult=True)
def pytest_harbor_provider(config: pytest.Config) -> Provider | None:
    """Return the provider that creates the environments of this process, or None for the one of --harbor-environment.

    Called once in each process, before its first trial::

        def pytest_harbor_provider(config):
            from pytest_harbor.environment.docker import DockerProvider

            return DockerProvider()
    """


@pytest.hookspec(firstresult=True)
def pytest_harbor_image(task: Task) -> str | None:
    """Return the name of the image to use for a task instead of its own, or None::

    def pytest_harbor_image(task):
        if task.category == "data":
            return "python:3.12-slim"
    """


@pytest.hookspec
def pytest_harbor_agent_env(task: Task, agent: Agent, variables: dict[str, str]) -> None:
    """Change the agent's environment variables in place::

    def pytest_harbor_agent_env(task, variables):
        variables["HINT"] = f"this is {task.name}"
    """


@pytest.hookspec
def pytest_harbor_cassette_request(task: Task, request: dict[str, Any]) -> None:
    """Normalize `method`, `path` and `body` of a model call where a replay may differ from the recording::

    def pytest_harbor_cassette_request(request):
        if isinstance(request["body"], dict):
            request["body"].pop("seed", None)
    """


@pytest.hookspec
def pytest_harbor_environment_started(task: Task, environment: Environment) -> None:
    """Prepare an environment before the agent sees it: upload files, run commands::

    def pytest_harbor_environment_started(environment):
        environment.exec("mkdir -p /opt/agent && echo 1.2 > /opt/agent/VERSION", user="root")
    """


@pytest.hookspec(firstresult=True)
def pytest_harbor_agent(task: Task, config: pytest.Config) -> Any:
    """Return the agent of a task: `oracle`, `nop`, `MODULE:CALLABLE`, a callable of `(task, environment)`, or None::

    def pytest_harbor_agent(task):
        if task.difficulty == "easy":
            return "oracle"
    """


@pytest.hookspec
def pytest_harbor_trial_finished(task: Task, result: TrialResult) -> None:
    """React to a result; it is on disk by then::

    def pytest_harbor_trial_finished(task, result):
        with open("rewards.txt", "a") as file:
            print(task.id, result.agent, result.attempt, result.reward, file=file)
    """


@pytest.hookspec(firstresult=True)
def pytest_harbor_reward(task: Task, environment: Environment, verification: Verification) -> float | None:
    """Return a reward to use instead of the verifier's, or None; the environment is still running::

    def pytest_harbor_reward(environment, verification):
        if environment.exec("test -e /app/core").exit_code == 0:
            return (verification.reward.value or 0.0) / 2
    """


@pytest.hookspec(firstresult=True)
def pytest_harbor_error_class(task: Task, error: Exception, phase: str) -> Outcome | None:
    """Return the outcome of a trial that an infrastructure error ended, instead of `error`, or None::

    def pytest_harbor_error_class(error, phase):
        if phase == "agent" and "command not found" in str(error):
            return "failed"
    """

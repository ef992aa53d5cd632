"""The fixtures: a chain from task to trial. A conftest.py above the dataset may override each of them.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_harbor.agent import Agent
    from pytest_harbor.environment.user_environment import UserEnvironment
    from pytest_harbor.image import Image
    from pytest_harbor.task import Task
    from pytest_harbor.trial import Trial

AGENT_FIXTURES = frozenset({"harbor_agent", "harbor_checked_agent", "harbor_trial"})
"""The fixtures that need an agent."""

TASK_FIXTURES = AGENT_FIXTURES | {"harbor_task", "harbor_image", "harbor_environment"}
"""The fixtures that need a task: all of them."""


def need_task(names: Iterable[str]) -> bool:
    """Return True if a test with these fixtures is about a task.

    Looking for harbor_task is not enough: if a conftest.py overrides a fixture of the chain, older versions of pytest
    list the override's own arguments, but not those of the fixture that it overrides.
    """
    return not TASK_FIXTURES.isdisjoint(names)


def _trial(request: pytest.FixtureRequest, task: Task) -> Trial:
    from pytest_harbor.plugin.trials import trial_of

    return trial_of(request.node, task)


@pytest.fixture
def harbor_task(request: pytest.FixtureRequest) -> Task:
    """The task of this test, already validated: a `pytest_harbor.Task`."""
    from pytest_harbor.plugin.cases import NO_TASK, assignment_of

    assignment = assignment_of(request.node)
    if assignment is None:
        pytest.fail(f"{request.node.nodeid} {NO_TASK}", pytrace=False)
    if assignment.problem:
        raise assignment.problem
    task = assignment.task
    task.check()
    if task.unsupported:
        pytest.skip(task.unsupported)
    return task


@pytest.fixture
def harbor_image(request: pytest.FixtureRequest, harbor_task: Task) -> Image:
    """The image of the task, pulled or built. An override may return the name of another image."""
    return _trial(request, harbor_task).build()


@pytest.fixture
def harbor_environment(
    request: pytest.FixtureRequest, harbor_task: Task, harbor_image: Image | str
) -> Iterator[UserEnvironment]:
    """The running environment of this trial; always removed at the end of the test."""
    from pytest_harbor.environment.user_environment import UserEnvironment

    trial = _trial(request, harbor_task)
    try:
        image = trial.build(harbor_image) if isinstance(harbor_image, str) else harbor_image
        yield UserEnvironment(trial.start(image))
    finally:
        trial.stop()


@pytest.fixture
def harbor_agent(request: pytest.FixtureRequest, harbor_task: Task) -> Agent:
    """The agent that works on the task.

    An override may return `"oracle"`, `"nop"`, `"MODULE:CALLABLE"`, a callable of `(task, environment)`, or an object
    with the methods of `pytest_harbor.agent.Agent`.
    """
    from pytest_harbor.plugin.session import session_of

    return session_of(request.config).agents.agent_for(harbor_task, request.node)


@pytest.fixture
def harbor_checked_agent(request: pytest.FixtureRequest, harbor_task: Task, harbor_agent: Any) -> Agent:
    """The agent from harbor_agent, checked before an image is built; not meant to be overridden."""
    from pytest_harbor.agent import as_agent, may_call_models
    from pytest_harbor.plugin.cases import assignment_of
    from pytest_harbor.plugin.runner import open_runner
    from pytest_harbor.plugin.session import session_of

    assignment = assignment_of(request.node)
    agent = as_agent(harbor_agent, assignment.agent if assignment else "")
    if reason := agent.skip_reason(harbor_task):
        pytest.skip(reason)
    ledger = open_runner(session_of(request.config)).ledger
    if ledger is not None and may_call_models(agent) and (spent := ledger.spent_limit()):
        pytest.skip(spent)
    # The image contains the agent's setup.
    _trial(request, harbor_task).agent = agent
    return agent


@pytest.fixture
def harbor_trial(
    request: pytest.FixtureRequest,
    harbor_task: Task,
    harbor_checked_agent: Agent,
    harbor_environment: Any,
) -> Trial:
    """The trial. It runs before the test function does, so a test can read the result from it."""
    from pytest_harbor.plugin.trials import requested_trial

    trial = requested_trial(request.node, harbor_task)
    trial.agent = harbor_checked_agent
    # An override may return the environment of a provider.
    trial.environment = getattr(harbor_environment, "provided", harbor_environment)
    return trial

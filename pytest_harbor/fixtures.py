"""The fixtures: a chain from task to trial, each of which a conftest.py above the dataset may override.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_harbor.agent import Agent
    from pytest_harbor.environment import Environment
    from pytest_harbor.image import Image
    from pytest_harbor.task import Task
    from pytest_harbor.trial import Trial


def _trial(request: pytest.FixtureRequest, task: Task) -> Trial:
    from pytest_harbor.session import session_of

    return session_of(request.config).trial(request.node, task)


@pytest.fixture
def harbor_task(request: pytest.FixtureRequest) -> Task:
    """The task of this test, checked: a `pytest_harbor.Task`."""
    from pytest_harbor.collection import assignment_of

    task = assignment_of(request.node).task
    task.check()
    if task.unsupported:
        pytest.skip(task.unsupported)
    return task


@pytest.fixture
def harbor_image(request: pytest.FixtureRequest, harbor_task: Task) -> Image:
    """The image of the task, pulled or built. An override may return the name of another one."""
    return _trial(request, harbor_task).build()


@pytest.fixture
def harbor_environment(
    request: pytest.FixtureRequest, harbor_task: Task, harbor_image: Image | str
) -> Iterator[Environment]:
    """The running environment of this trial; removed at the end of the test, whatever happens."""
    trial = _trial(request, harbor_task)
    try:
        image = trial.build(harbor_image) if isinstance(harbor_image, str) else harbor_image
        yield trial.start(image)
    finally:
        trial.stop()


@pytest.fixture
def harbor_agent(request: pytest.FixtureRequest, harbor_task: Task) -> Agent:
    """What works on the task.

    An override returns `"oracle"`, `"nop"`, `"MODULE:CALLABLE"`, a callable of `(task, environment)`, or an object with
    the methods of `pytest_harbor.agent.Agent`.
    """
    from pytest_harbor.session import session_of

    return session_of(request.config).agent_for(harbor_task, request.node)


@pytest.fixture
def harbor_trial(
    request: pytest.FixtureRequest, harbor_task: Task, harbor_agent: Any, harbor_environment: Environment
) -> Trial:
    """The trial. It runs when the test begins: what a test reads from it is its result."""
    from pytest_harbor.agent import as_agent

    trial = _trial(request, harbor_task)
    trial.agent = as_agent(harbor_agent)
    trial.environment = harbor_environment
    if reason := trial.agent.unfit(harbor_task):
        pytest.skip(reason)
    return trial

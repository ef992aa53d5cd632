"""Run trials from a script or a notebook, without pytest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor._util.run_id import new_run_id
from pytest_harbor.agent import Agent, as_agent
from pytest_harbor.environment import Provider
from pytest_harbor.environment.factory import create_provider
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.image import AdaptMode, BuildPolicy
from pytest_harbor.results import Run
from pytest_harbor.runner import Runner
from pytest_harbor.task import Task, TaskError
from pytest_harbor.trial import Trial, TrialHooks, TrialResult, TrialSettings

if TYPE_CHECKING:
    from pytest_harbor.proxy import ProxySettings


def run_trial(
    task: Task | str | os.PathLike[str],
    agent: Any = "oracle",
    *,
    settings: TrialSettings | None = None,
    results: str | os.PathLike[str] = "harbor-results",
    image: str = DEFAULT_IMAGE,
    build: BuildPolicy = "auto",
    adapt: AdaptMode = "lean",
    registry: str = "",
    provider: Provider | None = None,
    hooks: TrialHooks | None = None,
    proxy: ProxySettings | None = None,
    attempt: int = 1,
) -> TrialResult:
    """Run one trial and return its result, which is also written to a directory of results, as by the plugin.

    Args:
        task: a Task, or the path of a task's directory.
        agent: `oracle`, `nop`, `MODULE:CALLABLE`, a callable of `(task, environment)` or an Agent.
        settings: threshold, deadlines and so on.
        results: directory of the results of all runs.
        image: image of a task with neither a Dockerfile nor a docker_image.
        build: `auto`, `always` or `never`.
        adapt: `lean` or `hud`: what is added to the image; with `hud` an agent on the host gets an MCP server.
        registry: where images are pulled from before they are built, as HOST/PREFIX; empty for nowhere.
        provider: creates the environment; if None, Docker if an engine answers, otherwise Linux namespaces.
        hooks: hooks to call.
        proxy: settings of a proxy for the model calls, such as `ProxySettings("live", upstreams_of(os.environ))`.
        attempt: number of the attempt, for the result.

    Returns:
        The result. A broken or unsupported task and an infrastructure error are results too, with the `outcome`
        `error` or `skipped` and a `reason`.

    Raises:
        AgentError: `agent` is not an agent.
        DatasetError: `task` is a path without a task.

    """
    chosen = as_agent(agent)
    task = task if isinstance(task, Task) else Task.load(task)
    settings = settings or TrialSettings()
    run = Run(Path(results).absolute(), new_run_id())
    run.create_root()
    with _open_provider(provider, hidden=(task.path, run.root)) as used:
        runner = Runner(
            run,
            used,
            image=image,
            build=build,
            adapt=adapt,
            registry=registry,
            infra_retries=settings.infra_retries,
            timeout_multiplier=settings.timeout_multiplier,
            proxy=proxy,
        )
        with contextlib.closing(runner):
            trial = runner.trial(task, settings, key=secrets.token_hex(8), attempt=attempt, hooks=hooks)
            return _run_or_skip(trial, chosen)


@contextlib.contextmanager
def _open_provider(provider: Provider | None, hidden: Sequence[Path]) -> Iterator[Provider]:
    """Give the provider, which stays open, or create one and close it at the end."""
    if provider is not None:
        yield provider
        return
    created, _ = create_provider("auto", hidden)
    with contextlib.closing(created):
        yield created


def _run_or_skip(trial: Trial, agent: Agent) -> TrialResult:
    try:
        if reason := trial.task.unsupported or agent.skip_reason(trial.task):
            trial.skip(reason)
        else:
            trial.run(agent)
    except (InfrastructureError, TaskError) as error:
        trial.fail(error)
    finally:
        trial.stop()
    return trial.result


async def run_trial_async(task: Task | str | os.PathLike[str], agent: Any = "oracle", **options: Any) -> TrialResult:
    """Run one trial without blocking the event loop; see run_trial() for the arguments and the result."""
    return await asyncio.to_thread(run_trial, task, agent, **options)

"""Trials from a script or a notebook, without pytest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor._util.run_id import new_run_id
from pytest_harbor.agent import as_agent
from pytest_harbor.environment import Provider
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.image import AdaptMode, BuildPolicy, ImageStore
from pytest_harbor.results import Run
from pytest_harbor.task import Task, TaskError
from pytest_harbor.trial import AgentService, Trial, TrialHooks, TrialPlace, TrialResult, TrialSettings

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
    """Run one trial and return its result, which is also written below a directory of results as by pytest.

    Args:
        task: a Task, or the path of a task's directory.
        agent: `oracle`, `nop`, `MODULE:CALLABLE`, a callable of `(task, environment)` or an Agent.
        settings: threshold, deadlines and so on.
        results: directory of all runs' results.
        image: image of a task that brings neither Dockerfile nor docker_image.
        build: `auto`, `always` or `never`.
        adapt: `lean` or `hud`: what is added to the image; with `hud` an agent on the host gets an MCP server.
        registry: where images are pulled from before they are built, as HOST/PREFIX; empty for nowhere.
        provider: makes the environment; when None, Docker where an engine answers, else Linux namespaces.
        hooks: where to step in.
        proxy: has the agent's calls of models go through a proxy of this trial's own; when None, they are its own
            affair. `ProxySettings("live", upstreams_of(os.environ))` goes by the host's variables.
        attempt: number of the attempt, for the result.

    Returns:
        The result. A broken task, an unsupported one and an infrastructure error are results too, with `outcome`
        `error` or `skipped` and the `reason`.

    Raises:
        AgentError: `agent` is none.
        DatasetError: `task` is a path that holds no task.

    """
    from pytest_harbor.environment.factory import create_provider

    chosen = as_agent(agent)
    task = task if isinstance(task, Task) else Task.load(task)
    settings = settings or TrialSettings()
    run = Run(Path(results).absolute(), new_run_id())
    run.create_root()
    used = provider or create_provider("auto", (task.path, Path(results).absolute()))[0]
    images = ImageStore(
        used,
        run.directory,
        adapt=adapt,
        registry=registry,
        policy=build,
        fallback=image,
        retries=settings.infra_retries,
        timeout_multiplier=settings.timeout_multiplier,
    )
    place = TrialPlace(run.id, run.trial_directory(task.name, secrets.token_hex(8)), attempt)
    services: list[AgentService] = []
    if proxy is not None:
        from pytest_harbor.proxy import ProxyService

        services.append(ProxyService(proxy))
    if adapt == "hud":
        from pytest_harbor.hud.mcp import McpService

        services.append(McpService())
    trial = Trial(task, used, images, place, settings, hooks, recorder=run, services=services)
    try:
        if reason := task.unsupported or chosen.skip_reason(task):
            trial.skip(reason)
        else:
            trial.run(chosen)
    except (InfrastructureError, TaskError) as error:
        trial.fail(error)
    finally:
        with contextlib.ExitStack() as stack:
            if provider is None:
                stack.callback(used.close)
            for service in services:
                stack.callback(service.close)
            trial.stop()
    return trial.result


async def run_trial_async(task: Task | str | os.PathLike[str], agent: Any = "oracle", **options: Any) -> TrialResult:
    """Run one trial without blocking the event loop; arguments and result are those of run_trial."""
    return await asyncio.to_thread(run_trial, task, agent, **options)

"""What the trials of one process share, and how a trial is put together. Free of pytest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_harbor._util.choices import DEFAULT_IMAGE
from pytest_harbor.agent import Agent
from pytest_harbor.environment import Provider
from pytest_harbor.image import AdaptMode, BuildPolicy, ImageStore
from pytest_harbor.results import Run
from pytest_harbor.task import Task
from pytest_harbor.trial import AgentService, Trial, TrialHooks, TrialPlace, TrialSettings

if TYPE_CHECKING:
    from pytest_harbor.proxy import ProxySettings


class Runner:
    """Puts trials together: one provider, one image store, one set of services, one directory of results.

    The pytest plugin has one in each process, and run_trial() makes one for its trial.

    Args:
        run: the run's directory of results.
        provider: creates the environments. Any object with the methods of `Provider` will do; close() leaves it open.
        image: image of a task that has neither a Dockerfile nor a docker_image.
        build: `auto`, `always` or `never`.
        adapt: `lean` or `hud`: what is added to images; with `hud` an agent on the host gets an MCP server.
        registry: where images are pulled from before they are built, as HOST/PREFIX; empty for nowhere.
        infra_retries: how often a failed build or pull is retried.
        timeout_multiplier: factor on every build deadline.
        proxy: settings of the model proxy; None runs without one.

    """

    def __init__(
        self,
        run: Run,
        provider: Provider,
        *,
        image: str = DEFAULT_IMAGE,
        build: BuildPolicy = "auto",
        adapt: AdaptMode = "lean",
        registry: str = "",
        infra_retries: int = 1,
        timeout_multiplier: float = 1.0,
        proxy: ProxySettings | None = None,
    ) -> None:
        self.run = run
        self.provider = provider
        self.images = ImageStore(
            provider,
            run.directory,
            adapt=adapt,
            registry=registry,
            policy=build,
            fallback=image,
            retries=infra_retries,
            timeout_multiplier=timeout_multiplier,
        )
        self.ledger = proxy.ledger if proxy else None
        self._services = _services(adapt, proxy)

    def trial(
        self,
        task: Task,
        settings: TrialSettings | None = None,
        *,
        key: str,
        agent: Agent | None = None,
        attempt: int = 1,
        confirmation: int = 0,
        rerun: int = 0,
        node_id: str = "",
        hooks: TrialHooks | None = None,
        echo: Callable[[bytes], None] | None = None,
        recorded: bool = True,
    ) -> Trial:
        """Return a trial that is ready to run; its result will be written to the run's results.

        Args:
            task: the task.
            settings: threshold, deadlines and so on.
            key: what makes the trial unique in the run; the name of its directory is derived from it.
            agent: the agent, unless it is only known later.
            attempt: number of the attempt, from 1.
            confirmation: number of the confirmation of a task that newly failed, from 1; 0 for an attempt.
            rerun: number of the rerun of the same test, from 1; 0 for its first run.
            node_id: node id of the test that the trial belongs to.
            hooks: hooks to call.
            echo: takes the output of agent and tests for a person who watches.
            recorded: False to write nothing, for an environment without a trial.

        """
        directory = self.run.trial_directory(task.name, key)
        place = TrialPlace(self.run.id, directory, attempt, confirmation, rerun, node_id)
        trial = Trial(
            task,
            self.provider,
            self.images,
            place,
            settings,
            hooks,
            recorder=self.run if recorded else None,
            echo=echo,
            services=self._services,
        )
        if agent is not None:
            trial.agent = agent
            trial.result.agent = agent.name
        return trial

    def close(self) -> None:
        """Close the services. The provider belongs to whoever made it."""
        with contextlib.ExitStack() as stack:
            for service in self._services:
                stack.callback(service.close)


def _services(adapt: AdaptMode, proxy: ProxySettings | None) -> tuple[AgentService, ...]:
    services: list[AgentService] = []
    # Imported only if needed: an HTTP server and an MCP library cost start-up time.
    if proxy is not None:
        from pytest_harbor.proxy import ProxyService

        services.append(ProxyService(proxy))
    if adapt == "hud":
        from pytest_harbor.hud.mcp import McpService

        services.append(McpService())
    return tuple(services)

"""The proxy as what accompanies an agent's work: there while it works, and not a moment longer."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_harbor.agent import may_call_models, runs_on_host
from pytest_harbor.environment.listener import accept_connections, listen_on, port_of
from pytest_harbor.errors import EngineUnavailable, EnvironmentLost, InfrastructureError, UnmetRequirement
from pytest_harbor.proxy.key_scan import RealKeys
from pytest_harbor.proxy.settings import ProxySettings
from pytest_harbor.task import Task
from pytest_harbor.trial import AgentVariables, ServiceContext

if TYPE_CHECKING:
    from pytest_harbor.proxy.server import ProxyServer


class ProxyService:
    """Has the calls of agents go through the proxy. One for all trials of a process; it is started by the first.

    Args:
        settings: the proxy's settings.

    """

    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self._keys = RealKeys(settings.upstreams.values())
        self._started: ProxyServer | None = None
        self._starting = threading.Lock()

    def admit(self, task: Task, variables: Mapping[str, str]) -> None:
        """Refuse variables that hold a real key.

        Raises:
            UnmetRequirement: one does.

        """
        for name, value in variables.items():
            if self._keys.are_in(value):
                raise UnmetRequirement(
                    f"the variable {name} of the environment of {task.name} holds a real key of the host",
                    "the proxy is there to keep it out: take it out of task.toml, --harbor-agent-env or the hook, "
                    "or use --harbor-proxy=off",
                )

    def admit_setup(self, text: str, files: Sequence[tuple[Path, str]]) -> None:
        """Refuse a set-up and agent files that hold a real key.

        Raises:
            UnmetRequirement: one does, or the files cannot be listed.

        """
        holder = "the text of --harbor-agent-setup" if self._keys.are_in(text) else self._keys.in_files(files)
        if holder is not None:
            raise UnmetRequirement(
                f"{holder} holds a real key of the host, and would be in the environment of the agent",
                "the proxy is there to keep it out: take it out, leave the file out with a .dockerignore beside it, or "
                "use --harbor-proxy=off",
            )

    @contextlib.contextmanager
    def open(self, context: ServiceContext) -> Iterator[AgentVariables]:
        """Answer the calls of one agent.

        Raises:
            InfrastructureError: it cannot be had, or the agent could not work because of what it met.

        """
        if not may_call_models(context.agent):
            yield AgentVariables()
            return
        from pytest_harbor.proxy.proxied_trial import ProxiedTrial

        trial = ProxiedTrial(self._settings, context)
        ended_well = False
        try:
            with contextlib.ExitStack() as stack:
                door = self._server.serve(trial)
                stack.callback(door.close)
                here = ""
                if not runs_on_host(context.agent):
                    here = stack.enter_context(context.work.environment.listen(door.take))
                    trial.reached_at(here)
                listener = listen_on("127.0.0.1")
                there = f"127.0.0.1:{port_of(listener)}"
                # Programs of the host are the user's own, and have as many connections as they like.
                stack.enter_context(accept_connections(listener, door.take, limit=math.inf))
                trial.reached_at(there)
                yield AgentVariables(
                    environment=_variables(here, trial.secret, trial.model) if here else {},
                    host=_variables(there, trial.secret, trial.model),
                )
            ended_well = True
        except EnvironmentLost:
            # It is started again, and the work is graded.
            ended_well = True
            raise
        except EngineUnavailable:
            raise
        except InfrastructureError as error:
            # An agent that gives up over its model knows less of what was wrong with that.
            if trial.trouble is None:
                raise
            raise trial.trouble from error
        finally:
            trial.conclude(ended_well=ended_well)

    @property
    def _server(self) -> ProxyServer:
        with self._starting:
            if self._started is None:
                from pytest_harbor.proxy.server import ProxyServer

                self._started = ProxyServer(self._settings.upstreams)
            return self._started

    def close(self) -> None:
        """End the server."""
        if self._started is not None:
            self._started.close()
            self._started = None


def _variables(address: str, secret: str, model: str) -> dict[str, str]:
    """Return what tells the clients of both vendors where to call, and with what for a key."""
    variables = {
        "OPENAI_BASE_URL": f"http://{address}/v1",
        "OPENAI_API_KEY": secret,
        "ANTHROPIC_BASE_URL": f"http://{address}",
        "ANTHROPIC_API_KEY": secret,
    }
    return {**variables, "OPENAI_MODEL": model, "ANTHROPIC_MODEL": model} if model else variables

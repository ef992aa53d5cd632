"""The proxy as an agent service: available while the agent works, and closed before its work is graded."""

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
from pytest_harbor.proxy.key_scan import KeyScanner
from pytest_harbor.proxy.settings import ProxySettings
from pytest_harbor.task import Task
from pytest_harbor.trial import AgentVariables, ServiceContext

if TYPE_CHECKING:
    from pytest_harbor.proxy.server import ProxyServer


class ProxyService:
    """Routes the agents' model calls through the proxy. One object serves all trials of a process.

    The server starts with the first trial that needs it.

    Args:
        settings: the proxy's settings.

    """

    def __init__(self, settings: ProxySettings) -> None:
        self._settings = settings
        self._scanner = KeyScanner(settings.upstreams.values())
        self._server: ProxyServer | None = None
        self._starting = threading.Lock()

    def admit(self, task: Task, variables: Mapping[str, str]) -> None:
        """Check that no environment variable contains a real key.

        Raises:
            UnmetRequirement: one does.

        """
        for name, value in variables.items():
            if self._scanner.is_in_text(value):
                raise UnmetRequirement(
                    f"the environment variable {name} of {task.name} contains a real key of the host, which the proxy "
                    "must keep out of the environment",
                    "remove it from task.toml, --harbor-agent-env or the hook, or use --harbor-proxy=off",
                )

    def admit_setup(self, text: str, files: Sequence[tuple[Path, str]]) -> None:
        """Check that neither the agent's setup nor its files contain a real key.

        Raises:
            UnmetRequirement: one does, or the files cannot be listed.

        """
        holder = "--harbor-agent-setup" if self._scanner.is_in_text(text) else self._scanner.find_file(files)
        if holder is not None:
            raise UnmetRequirement(
                f"{holder} contains a real key of the host, which the proxy must keep out of the environment",
                "remove it, exclude the file with a .dockerignore next to it, or use --harbor-proxy=off",
            )

    @contextlib.contextmanager
    def open(self, context: ServiceContext) -> Iterator[AgentVariables]:
        """Serve the model calls of one agent.

        Raises:
            InfrastructureError: the proxy cannot start, or the agent could not work because of an error in its calls.

        """
        if not may_call_models(context.agent):
            yield AgentVariables()
            return
        from pytest_harbor.proxy.proxied_trial import ProxiedTrial

        trial = ProxiedTrial(self._settings, context)
        completed = False
        try:
            with contextlib.ExitStack() as stack:
                server = self._start().serve(trial)
                stack.callback(server.close)
                in_environment = ""
                if not runs_on_host(context.agent):
                    in_environment = stack.enter_context(context.work.environment.listen(server.add_connection))
                    trial.add_address(in_environment)
                listener = listen_on("127.0.0.1")
                on_host = f"127.0.0.1:{port_of(listener)}"
                # Programs on the host are the user's own, so their connections are not limited.
                stack.enter_context(accept_connections(listener, server.add_connection, limit=math.inf))
                trial.add_address(on_host)
                yield AgentVariables(
                    environment=_variables(in_environment, trial.secret, trial.model) if in_environment else {},
                    host=_variables(on_host, trial.secret, trial.model),
                )
            completed = True
        except EnvironmentLost:
            # The environment is restarted, and the work is graded.
            completed = True
            raise
        except EngineUnavailable:
            raise
        except InfrastructureError as error:
            # The proxy knows better than the agent why a model call failed.
            if trial.error is None:
                raise
            raise trial.error from error
        finally:
            trial.finish(completed=completed)

    def _start(self) -> ProxyServer:
        """Return the server, and start it if it is not running."""
        with self._starting:
            if self._server is None:
                from pytest_harbor.proxy.prices import load_list_prices
                from pytest_harbor.proxy.server import ProxyServer

                # Now, as it would block the server's event loop at the first call.
                load_list_prices()
                self._server = ProxyServer(self._settings.upstreams)
            return self._server

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.close()
            self._server = None


def _variables(address: str, secret: str, model: str) -> dict[str, str]:
    """Return the environment variables that give the clients of both vendors their base URL and key."""
    variables = {
        "OPENAI_BASE_URL": f"http://{address}/v1",
        # Older clients read this one.
        "OPENAI_API_BASE": f"http://{address}/v1",
        "OPENAI_API_KEY": secret,
        "ANTHROPIC_BASE_URL": f"http://{address}",
        "ANTHROPIC_API_KEY": secret,
    }
    return {**variables, "OPENAI_MODEL": model, "ANTHROPIC_MODEL": model} if model else variables

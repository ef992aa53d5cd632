"""Fingerprints: what decides about a trial besides its task's files, in one digest."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_harbor._util.files import Digest, file_digest
from pytest_harbor.agent import Agent, CallableAgent, OracleAgent, may_call_models, needs_setup
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.image.agent_files import agent_files
from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.proxy.redact import secret_values
from pytest_harbor.task import Task, TaskError

if TYPE_CHECKING:
    from pytest_harbor.plugin.agents import Agents
    from pytest_harbor.plugin.options.table import HarborConfig

# Enough to tell apart all settings that a baseline ever had.
_LENGTH = 16

# The module with the fixtures of a trial.
_FIXTURES = f"{__package__}.fixtures"

# Hooks that change what a trial does or how it is graded.
_HOOKS = ("agent", "agent_env", "environment_started", "image", "reward", "error_class")

# The settings that rewards depend on. A threshold is not one of them: passes are counted again.
_OF_TRIALS = (
    *("timeout_multiplier", "agent_timeout", "resource_multiplier", "agent_setup", "agent_workdir", "model"),
    *("reward_key", "reward_precedence", "missing_reward"),
)
_OF_RUN = ("image", "adapt", "max_turns", "max_tokens", "max_cost")


class Fingerprints:
    """The fingerprints of a session's trials.

    Args:
        agents: the agents of the run.
        options: the plugin's options.

    """

    def __init__(self, agents: Agents, options: HarborConfig) -> None:
        self._agents = agents
        self._options = options
        self._known: dict[str, str] = {}

    def of(self, item: pytest.Item) -> str:
        """Return the fingerprint of a test's trial; empty if hooks or fixtures take part, as they may do anything."""
        assignment = assignment_of(item)
        if assignment is None or is_customized(item, assignment.task):
            return ""
        try:
            agent = self._agents.agent(assignment.agent)
            known = self._of_agent(assignment.agent, agent) if agent is not None else ""
            digest = Digest()
            digest.add(known)
            if isinstance(agent, OracleAgent):
                _add_solution(digest, assignment.task)
            elif agent is not None and self._options.proxy == "replay" and may_call_models(agent):
                from pytest_harbor.proxy.cassette import cassette_path

                cassettes = self._options.cassettes
                digest.add(file_digest(cassette_path(cassettes, assignment.task.id, agent.name, assignment.attempt)))
        except (OSError, InfrastructureError, TaskError, pytest.UsageError):
            return ""
        return digest.hex()[:_LENGTH] if known else ""

    def _of_agent(self, name: str, agent: Agent) -> str:
        """Return the digest of an agent and its settings."""
        if name not in self._known:
            settings, options = self._agents.settings(name), self._options
            digest = Digest()
            digest.add(type(agent).__name__, getattr(agent, "line", ""))
            digest.add(*(f"{each}={getattr(settings, each)!r}" for each in _OF_TRIALS))
            digest.add(*(f"{each}={getattr(options, each)!r}" for each in _OF_RUN))
            if needs_setup(agent):
                secrets = secret_values(settings.agent_env)
                digest.add(*(f"{k}={'' if k in secrets else v}" for k, v in sorted(settings.agent_env.items())))
                for source, target in settings.agent_files:
                    for file in agent_files(source, target):
                        _add_file(digest, file.target, file.path, file.mode)
            if isinstance(agent, CallableAgent) and (code := _source(agent.function)):
                digest.add(file_digest(code))
            self._known[name] = digest.hex()
        return self._known[name]


def is_customized(item: pytest.Item, task: Task) -> bool:
    """Return True if hooks or overridden fixtures take part in a test's trial."""
    if task.config_override is not None or task.instruction_override is not None:
        return True
    if any(getattr(item.ihook, f"pytest_harbor_{name}").get_hookimpls() for name in _HOOKS):
        return True
    manager = item.session._fixturemanager
    own = [name for name in getattr(item, "fixturenames", ()) if name.startswith("harbor_")]
    found = [manager.getfixturedefs(name, item) for name in own]
    return any(getattr(each[-1].func, "__module__", "") != _FIXTURES for each in found if each)


def _add_solution(digest: Digest, task: Task) -> None:
    for path, host in task.upload_files("solution"):
        if not host.is_dir() or host.is_symlink():
            _add_file(digest, str(path), host, None if host.is_symlink() else host.stat().st_mode)


def _add_file(digest: Digest, name: str, path: Path, mode: int | None) -> None:
    content = os.fsencode(path.readlink()) if mode is None else b"" if path.is_dir() else file_digest(path)
    kind = "link" if mode is None else "executable" if mode & 0o100 else "file"
    digest.add(os.fsencode(name), kind, content)


def _source(function: Any) -> Path | None:
    """Return the file with a callable's code, or None."""
    try:
        found = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        return None
    return Path(found) if found else None

"""The agents of a run: one named by options, or those listed in a TOML file, each with its settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_harbor._util.choices import BUILT_IN_AGENTS, CALLABLE, COMMAND, CONFIG_TABLES
from pytest_harbor._util.text import listed
from pytest_harbor.agent import Agent, AgentError, CommandAgent, NopAgent, OpenAIAgent, as_agent, needs_setup
from pytest_harbor.agent.toml_file import AgentFileError, AgentSpec, find_name_clash, read_agents
from pytest_harbor.errors import HookError, InfrastructureError, UnmetRequirement
from pytest_harbor.image.agent_files import check_sources
from pytest_harbor.plugin.cases import assignment_of
from pytest_harbor.plugin.options.config import AGENT_KEYS, listed_agents_count
from pytest_harbor.plugin.options.table import HarborConfig
from pytest_harbor.trial import TrialSettings
from pytest_harbor.trial.start import check_agent_files

if TYPE_CHECKING:
    from pytest_harbor.task import Task

NO_AGENT = (
    f"no agent was chosen for the Harbor tasks; give --harbor-agent={'|'.join((*BUILT_IN_AGENTS, CALLABLE))}, "
    "--harbor-agent-command=CMD or --harbor-agents=FILE, or override the harbor_agent fixture"
)

_SHOWN = 8


class Agents:
    """The agents of a run, by name; the name of an agent that options define is empty.

    Args:
        config: pytest's configuration.
        options: the plugin's options.

    Attributes:
        listed: the agents that are listed in a TOML file; empty if options define the only one.

    Raises:
        pytest.UsageError: the listed agents are not valid, or contradict an option.

    """

    def __init__(self, config: pytest.Config, options: HarborConfig) -> None:
        self._config = config
        self._options = options
        self._made: dict[str, Agent] = {}
        self.listed = self._read_listed()
        self._specs = self._named_specs()

    def _read_listed(self) -> tuple[AgentSpec, ...]:
        given, in_ini = self._options.agents, self._ini_file
        specs = self._read(given, ()) if given else ()
        if in_ini is not None and (own := self._read(in_ini, CONFIG_TABLES[in_ini.name])):
            if given:
                raise pytest.UsageError(f"{in_ini} lists agents and has the ini key harbor_agents; keep one of the two")
            listed_agents_count(self._config, f"the agents that {in_ini} lists")
            specs = own
        if found := find_name_clash((spec.name for spec in specs), self._options.attempts.most):
            name, number = found
            raise pytest.UsageError(
                f"{given or in_ini}: with --harbor-attempts={self._options.attempts}, '{name}-{number}' means both "
                f"attempt {number} of agent {name!r} and the agent of that name; rename one of the agents"
            )
        return specs

    @property
    def _ini_file(self) -> Path | None:
        """The configuration file that may list agents; None if a flag says which agents run."""
        inipath = self._config.inipath
        if inipath is None or inipath.name not in CONFIG_TABLES or any(map(self._config.getoption, AGENT_KEYS)):
            return None
        # An empty --harbor-agents= cancels what the file lists.
        return inipath if self._config.getoption("harbor_agents") is None else None

    @staticmethod
    def _read(file: Path, tables: tuple[str, ...]) -> tuple[AgentSpec, ...]:
        try:
            return read_agents(file, tables)
        except AgentFileError as error:
            raise pytest.UsageError(str(error) if tables else f"--harbor-agents: {error}") from error

    def _named_specs(self) -> Mapping[str, AgentSpec]:
        options = self._options
        if self.listed:
            return {spec.name: spec for spec in self.listed}
        if not options.agent:
            return {}
        agent = "" if options.agent == COMMAND else options.agent
        return {"": AgentSpec(options.agent_name, agent, options.agent_command, options.agent_where)}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the listed agents; a single empty name if none are listed."""
        return tuple(spec.name for spec in self.listed) or ("",)

    @property
    def chosen(self) -> bool:
        """Whether there is an agent."""
        return bool(self._specs)

    @property
    def on_host(self) -> bool:
        """Whether the command of any agent runs on the host."""
        where = self._options.agent_where
        return any((spec.where or where) == "host" for spec in self._specs.values())

    @property
    def variables(self) -> list[tuple[str, str, str]]:
        """The environment variables of all agents, as (source, name, value)."""
        own = [(f"agent {spec.name!r}: env", *pair) for spec in self.listed for pair in spec.env]
        return [*(("--harbor-agent-env", *pair) for pair in self._options.agent_env), *own]

    @property
    def used(self) -> Iterator[tuple[Agent, TrialSettings]]:
        """The agents that can be created, and their settings."""
        for name in self._specs:
            with contextlib.suppress(pytest.UsageError):
                agent = self.agent(name)
                assert agent is not None
                yield agent, self.settings(name)

    @property
    def given_in_full(self) -> bool:
        """Whether flags give a recipe or an agent's files, so that collecting is enough to check them."""
        return bool(self._config.getoption("harbor_agents") or self._config.getoption("harbor_agent_files"))

    @property
    def keyless(self) -> list[str]:
        """The names of agents in the container that are given a model, but no key unless the proxy provides one."""
        return [
            agent.name
            for agent, settings in self.used
            if isinstance(agent, CommandAgent)
            and settings.model
            and not any("KEY" in name for name in settings.agent_env)
        ]

    def problems(self) -> list[str]:
        """Return what is wrong with the agents, each created now, so that mistakes are found before anything runs."""
        problems = []
        # A hook may still set the model.
        model_may_follow = self._config.option.setuponly or self._config.hook.pytest_harbor_agent_env.get_hookimpls()
        for name in self._specs:
            try:
                agent, settings = self.agent(name), self.settings(name)
                if needs_setup(agent):
                    check_sources(settings.agent_files)
                    check_agent_files(settings.agent_files, getattr(agent, "line", ""))
            except UnmetRequirement as error:
                problems.append(f"agent {name!r}: {error}" if name else str(error))
                continue
            except pytest.UsageError as error:
                problems.append(str(error))
                continue
            if isinstance(agent, OpenAIAgent) and not model_may_follow:
                problem = agent.missing_setting({"OPENAI_MODEL": settings.model, **settings.agent_env})
                problems += [f"agent {agent.name}: {problem}"] if problem else []
        return problems

    @property
    def shown_names(self) -> tuple[str, ...]:
        """The names of the agents in results."""
        if self.listed or not self.chosen:
            return tuple(spec.name for spec in self.listed)
        try:
            agent = self.agent()
            return (agent.name,) if agent else ()
        except pytest.UsageError:
            # Reported once the tests are known, if any of them needs it.
            return (self._options.agent,)

    def describe(self) -> str:
        """Return a phrase that names the agents, for the run's header."""
        if not self.listed:
            command = self._options.agent_command
            name = next(iter(self.shown_names), "")
            return f"agent {name}{f' ({command})' if command else ''}" if name else "no agent chosen"
        return f"agent{'' if len(self.names) == 1 else 's'} {listed(self.names, _SHOWN)}"

    def agent(self, name: str = "") -> Agent | None:
        """Return the agent of a name, created at the first call, or None.

        Raises:
            pytest.UsageError: MODULE:CALLABLE cannot be imported.

        """
        spec = self._specs.get(name)
        if spec is not None and name not in self._made:
            where = self._options.agent_where
            try:
                self._made[name] = spec.make(where)
            except AgentError as error:
                source = f"agent {name!r}" if name else "--harbor-agent"
                raise pytest.UsageError(f"{source}: {error}") from error
        return self._made.get(name)

    def agent_for(self, task: Task, item: pytest.Item) -> Agent:
        """Return the agent of a test: the one a hook returns, or else the configured one.

        Raises:
            InfrastructureError: there is no agent, or the hook returned something else.
            pytest.skip.Exception: the agent cannot run on this task.

        """
        assignment = assignment_of(item)
        name = assignment.agent if assignment else ""
        chosen = item.ihook.pytest_harbor_agent(task=task, config=self._config)
        try:
            agent = self.agent(name) if chosen is None else as_agent(chosen, name or self._options.agent_name)
        except AgentError as error:
            raise HookError(f"the hook pytest_harbor_agent: {error.fact}") from error
        if agent is None:
            if self._config.option.setuponly:
                return NopAgent()
            raise InfrastructureError(NO_AGENT)
        if reason := agent.skip_reason(task):
            pytest.skip(reason)
        return agent

    def settings(self, name: str = "") -> TrialSettings:
        """Return the settings of an agent's trials; the options fill in what its table omits."""
        options = self._options
        spec = self._specs.get(name) or AgentSpec(name)
        return TrialSettings(
            threshold=options.threshold,
            timeout_multiplier=options.timeout_multiplier,
            agent_timeout=options.agent_timeout,
            resource_multiplier=options.resource_multiplier,
            agent_env={**dict(options.agent_env), **dict(spec.env)},
            agent_setup=options.agent_setup if spec.setup is None else spec.setup,
            agent_files=options.agent_files if spec.files is None else spec.files,
            agent_workdir=options.agent_workdir if spec.workdir is None else spec.workdir,
            model=options.model if spec.model is None else spec.model,
            reward_key=options.reward_key,
            reward_precedence=options.reward_precedence,
            missing_reward=options.missing_reward,
            infra_retries=options.infra_retries,
        )

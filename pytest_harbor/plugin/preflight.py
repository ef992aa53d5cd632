"""Checks before the first build: what would keep every trial from running is one usage error, not an error per task."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_harbor._util.text import listed
from pytest_harbor.agent import Agent, CommandAgent, OpenAIAgent, may_call_models, unmet_requirement
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.plugin.runner import open_runner
from pytest_harbor.plugin.session import HarborSession
from pytest_harbor.task import TaskError
from pytest_harbor.trial import TrialSettings

if TYPE_CHECKING:
    from pytest_harbor.proxy import Prices, Upstream
    from pytest_harbor.proxy.endpoints import Vendor
    from pytest_harbor.runner import Runner

# Bytes without which not even a small trial can run.
MIN_FREE_BYTES = 20 << 20
_AGENTS_SHOWN = 8
_URL = re.compile(r"https?://[^/]")
# Names of environment variables that hold a key, or the address of a server that may need none.
_CREDENTIAL = re.compile("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|AUTH|URL|BASE|HOST")
# A key or a server in a command line, but not one that the shell takes from its environment.
_OWN_CREDENTIAL = re.compile(r"https?://|(?:[A-Z]_(?:KEY|TOKEN)=|--[\w-]*(?:key|token)[= ])[\"']?[^\s\"'$]")


def find_problems(session: HarborSession, *, any_runs: bool = True) -> tuple[list[str], list[str]]:
    """Return mistakes in the settings of agents, and what trials require and is missing, each with its fix.

    Args:
        session: the plugin's session.
        any_runs: whether a trial will run; if none will, nothing is missing.

    """
    mistakes = session.agents.problems()
    config = session.config
    if not any_runs or config.option.setuponly:
        return mistakes, []
    # A hook may still replace the agent, or set its environment variables.
    hooks = (config.hook.pytest_harbor_agent, config.hook.pytest_harbor_agent_env)
    found = [] if any(hook.get_hookimpls() for hook in hooks) else _agent_problems(session)
    return mistakes, [*found, *_disk_problems(open_runner(session))]


def _agent_problems(session: HarborSession) -> list[str]:
    """Return what the agents lack, each problem once with the names of the agents that have it."""
    check = ModelServerCheck(session)
    names: dict[str, list[str]] = {}
    for agent, settings in session.agents.used:
        variables = {"OPENAI_MODEL": settings.model, **settings.agent_env}
        if check.has_proxy:
            # The proxy will set this one.
            variables["OPENAI_BASE_URL"] = "http://proxy"
        problem = unmet_requirement(agent, variables) or _malformed_url(settings) or check.problem(agent, settings)
        if problem:
            names.setdefault(problem, []).append(agent.name)
    return [
        f"agent{'' if len(agents) == 1 else 's'} {listed(agents, _AGENTS_SHOWN)}: {problem}"
        for problem, agents in names.items()
    ]


def _malformed_url(settings: TrialSettings) -> str:
    """Return which URL of a model server among an agent's environment variables is not one, or ""."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL"):
        url = settings.agent_env.get(name, "")
        if url and not _URL.match(url):
            return f"--harbor-agent-env: {name}={url} is not a URL; use http(s)://HOST[:PORT][/PATH]"
    return ""


def _model(agent: Agent, settings: TrialSettings) -> str:
    """Return the model that an agent is given, if that is known."""
    model = settings.model or settings.agent_env.get("OPENAI_MODEL", "")
    return model or (os.environ.get("OPENAI_MODEL", "") if isinstance(agent, OpenAIAgent) else "")


class ModelServerCheck:
    """Checks whether the agents' model servers can be used; each server is asked once for each model.

    Args:
        session: the plugin's session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._options = session.options
        self._tasks = list(session.selection.tasks.values()) if session.selection else []
        self.has_proxy = session.options.proxy != "off"
        self._found: dict[tuple[Vendor, Upstream, str], str] = {}

    def problem(self, agent: Agent, settings: TrialSettings) -> str:
        """Return what is certainly wrong with the model servers of an agent, with the fix, or ""."""
        if not may_call_models(agent):
            return ""
        if self._answers_are_recorded:
            return self._missing_cassettes()
        if problem := self._missing_price(agent, settings):
            return problem
        servers = self._servers(agent, settings)
        if servers is None:
            return self._missing_key(agent, settings)
        if not servers:
            return (
                f"--harbor-proxy={self._options.proxy} has no API key; set {self._options.openai_key} or "
                f"{self._options.anthropic_key}, or name a server that needs none with --harbor-openai-base-url"
            )
        for vendor, server in servers.items():
            if not _URL.match(server.url):
                setting = f"{vendor.upper()}_BASE_URL or --harbor-{vendor}-base-url"
                return f"{server.url!r} is not the URL of a model server; use http(s)://HOST[:PORT][/PATH] in {setting}"
        if self._options.check_model == "off":
            return ""
        model = _model(agent, settings)
        problems = [self._ask(vendor, upstream, model) for vendor, upstream in servers.items()]
        # Which of several servers the agent uses is its own business.
        return "; ".join(problems) if all(problems) else ""

    @property
    def _answers_are_recorded(self) -> bool:
        """Whether no server may be needed."""
        mode = self._options.proxy
        return mode == "replay" or (mode == "auto" and self._has_cassettes)

    @cached_property
    def _has_cassettes(self) -> bool:
        """Whether any call was recorded."""
        return next(self._options.cassettes.glob("*/*/*.json"), None) is not None

    def _missing_cassettes(self) -> str:
        """Return that there is no cassette at all to replay, with the fix, or ""."""
        if self._options.proxy != "replay" or self._has_cassettes:
            return ""
        cassettes = self._options.cassettes
        return f"there are no cassettes in {cassettes} to replay; record them once with --harbor-proxy=record"

    def _missing_price(self, agent: Agent, settings: TrialSettings) -> str:
        """Return that a limit in dollars cannot be enforced, because the model has no price, or ""."""
        budget = self._options.session_budget
        limit = "--harbor-max-cost" if self._options.max_cost is not None else ""
        if budget is not None and budget.unit == "USD":
            limit = limit or "--harbor-session-budget"
        model = _model(agent, settings)
        if not limit or not model or not self.has_proxy or self._prices.find(model) is not None:
            return ""
        return (
            f"there is no price for the model {model!r}, so {limit} cannot be enforced; add its price with "
            "--harbor-prices=FILE, or limit --harbor-max-tokens"
        )

    def _missing_key(self, agent: Agent, settings: TrialSettings) -> str:
        """Return that a vendor's model is given to an agent in the container, but no key for it, or ""."""
        model = settings.model
        if not isinstance(agent, CommandAgent) or not model or self._options.check_model == "off":
            return ""
        names = (*settings.agent_env, *self._variables_of_tasks)
        if _OWN_CREDENTIAL.search(agent.line) or any(map(_CREDENTIAL.search, names)):
            return ""
        # Anyone may serve other models without a key.
        if self._prices.find_listed(model) is None:
            return ""
        return (
            f"{model} needs a key, and none is passed; give --harbor-proxy=live, --harbor-agent-env=NAME for the key, "
            "or --harbor-check-model=off if the agent has one of its own"
        )

    @cached_property
    def _prices(self) -> Prices:
        from pytest_harbor.proxy import Prices

        return Prices.load(self._options.prices)

    @cached_property
    def _variables_of_tasks(self) -> list[str]:
        """The names of the environment variables that tasks give their agents."""
        names: set[str] = set()
        for task in self._tasks:
            with contextlib.suppress(TaskError):
                names |= {*task.config.environment.env, *task.config.agent.env}
        return sorted(names)

    def _servers(self, agent: Agent, settings: TrialSettings) -> dict[Vendor, Upstream] | None:
        """Return the servers that an agent may use, by vendor, or None if only the agent knows."""
        from pytest_harbor.proxy import upstreams_of
        from pytest_harbor.proxy.settings import DEFAULT_URLS

        options = self._options
        if not self.has_proxy:
            if not isinstance(agent, OpenAIAgent):
                return None
            return {"openai": upstreams_of({**os.environ, **settings.agent_env})["openai"]}
        upstreams = upstreams_of(
            os.environ,
            openai_base_url=options.openai_base_url,
            openai_key=options.openai_key,
            anthropic_base_url=options.anthropic_base_url,
            anthropic_key=options.anthropic_key,
        )
        if isinstance(agent, OpenAIAgent):
            upstreams = {"openai": upstreams["openai"]}
        return {
            vendor: server for vendor, server in upstreams.items() if server.key or server.url != DEFAULT_URLS[vendor]
        }

    def _ask(self, vendor: Vendor, upstream: Upstream, model: str) -> str:
        from pytest_harbor.proxy.model_check import find_model_problem

        key = (vendor, upstream, model)
        if key not in self._found:
            self._found[key] = find_model_problem(vendor, upstream, model, probe=self._options.check_model == "probe")
        return self._found[key]


def _disk_problems(runner: Runner) -> list[str]:
    """Return that a disk is full: the one of the results, or the provider's."""
    places = [("results", runner.run.root, "free some, or use --harbor-results=DIR on another disk")]
    with contextlib.suppress(InfrastructureError):
        if storage := getattr(runner.provider, "storage", None):
            places.append(("images", storage, "free some, as with `pytest-harbor clean` or `docker system prune`"))
    problems = []
    for what, directory, fix in places:
        try:
            free = shutil.disk_usage(directory).free
        except OSError:
            continue
        if free < MIN_FREE_BYTES:
            problems.append(f"only {free >> 20} MB are free for {what} in {directory}; {fix}")
    return problems

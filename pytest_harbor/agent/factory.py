"""Create agents from what users write in options, fixtures, hooks and scripts."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from pytest_harbor._util.agent_names import explain_invalid, is_callable_spec
from pytest_harbor._util.choices import BUILT_IN_AGENTS, CALLABLE, NOP, OPENAI, ORACLE
from pytest_harbor._util.text import alternatives, listed
from pytest_harbor.agent.base import Agent
from pytest_harbor.agent.callable import CallableAgent
from pytest_harbor.agent.nop import NopAgent
from pytest_harbor.agent.openai_agent import OpenAIAgent
from pytest_harbor.agent.oracle import OracleAgent
from pytest_harbor.errors import InfrastructureError

_BUILT_IN: dict[str, Callable[[str], Agent]] = {ORACLE: OracleAgent, NOP: NopAgent, OPENAI: OpenAIAgent}


class AgentError(InfrastructureError):
    """No such agent; the message lists what is valid."""

    retry = False


def as_agent(value: Any, name: str = "") -> Agent:
    """Return the agent for a value from an option, a fixture, a hook or a script.

    Args:
        value: an Agent, the name of a built-in agent, `MODULE:CALLABLE`, or a callable of `(task, environment)`.
        name: the agent's name; empty for its default name.

    Raises:
        AgentError: the value is none of these.

    """
    if isinstance(value, str):
        if value in _BUILT_IN:
            return _BUILT_IN[value](name or value)
        return CallableAgent(_checked(load_callable(value), value), name or _default_name(value))
    if callable(getattr(value, "run", None)) and hasattr(value, "name") and hasattr(value, "skip_reason"):
        return cast("Agent", value)
    if callable(value):
        return CallableAgent(_checked(value, getattr(value, "__qualname__", repr(value))), name)
    valid = alternatives((*BUILT_IN_AGENTS, CALLABLE, "a callable", "an object with run()"))
    raise AgentError(f"{value!r} is not an agent; use {valid}")


def _default_name(spec: str) -> str:
    """Return a callable's name with its module's, since many are called solve or run."""
    module, _, function = spec.rpartition(":")
    return f"{Path(module).stem if module.endswith('.py') else module}.{function}"


def _checked(function: Callable[..., Any], shown: str) -> Callable[..., Any]:
    """Return a callable if it can be called as an agent: a mistake here would otherwise look like one of the agent.

    Raises:
        AgentError: it is a class or a generator, or does not take a task and an environment.

    """
    if inspect.isclass(function):
        raise AgentError(f"{shown} is a class", "give a function, or a bound method of an instance")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise AgentError(f"{shown} is a generator, so calling it runs nothing", "use return instead of yield")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function  # a built-in function may not have one
    try:
        signature.bind(None, None)
    except TypeError as error:
        fact = f"{shown} takes {signature}, and agents are called with (task, environment)"
        raise AgentError(fact, "let it take these two arguments") from error
    return function


def needs_setup(agent: Agent | None) -> bool:
    """Return True if the configured agent setup and files apply to an agent, or to one that is not known yet (None)."""
    return not isinstance(agent, OracleAgent | NopAgent)


def load_callable(spec: str) -> Callable[..., Any]:
    """Import `MODULE:CALLABLE`; MODULE may also be the path of a Python file.

    Raises:
        AgentError: the module or the callable does not exist, or the import fails.

    """
    if not is_callable_spec(spec):
        raise AgentError(f"{spec!r} {explain_invalid(spec, BUILT_IN_AGENTS)}")
    module_name, _, attribute = spec.rpartition(":")
    try:
        module = _import(module_name)
    except AgentError:
        raise
    except (Exception, SystemExit) as error:
        raise AgentError(f"importing {module_name} for {spec!r} failed: {type(error).__name__}: {error}") from error
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        names = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
        raise AgentError(f"{module_name} has no callable {attribute!r}; it has {listed(names, 20) or 'none'}")
    return cast("Callable[..., Any]", found)


def _import(name: str) -> Any:
    if not name.endswith(".py"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            # Like `python -m`, search the current directory too.
            sys.path.insert(0, str(Path.cwd()))
            try:
                importlib.invalidate_caches()
                return importlib.import_module(name)
            finally:
                sys.path.remove(str(Path.cwd()))
    path = Path(name).resolve()
    if not path.is_file():
        raise AgentError(f"{path} does not exist")
    spec = importlib.util.spec_from_file_location(f"harbor_agent_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise AgentError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

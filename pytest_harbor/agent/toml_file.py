"""Agents listed in a TOML file, one table each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_harbor._util.agent_names import explain_invalid, is_callable_spec
from pytest_harbor._util.agent_values import (
    absolute_path,
    is_env_name,
    parse_env_variable,
    parse_file_mapping,
    read_setup,
)
from pytest_harbor._util.choices import BUILT_IN_AGENTS, COMMAND, NOP, ORACLE
from pytest_harbor.agent.base import Agent
from pytest_harbor.agent.command import CommandAgent
from pytest_harbor.agent.factory import as_agent
from pytest_harbor.agent.host import HostCommandAgent
from pytest_harbor.task import TaskError
from pytest_harbor.task.document import format_value, read_toml

Where = Literal["container", "host"]

KINDS = ("agent", COMMAND, "callable")
# The other key of the table, which gate/toml_table.py reads.
GATE = "gate"
KEYS = ("name", *KINDS, "setup", "files", "env", "model", "where", "workdir")

# A name is part of node ids, where a bare number means an attempt, and of file names.
_NAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME_RULE = "letters, digits and . _ -, starting with a letter or digit, and not just a number"


class AgentFileError(ValueError):
    """Agents that are not listed correctly; the message names the file, the agent and the key, and what is valid."""


@dataclass(frozen=True)
class AgentSpec:
    """An agent and its settings; None means that a setting is not given.

    Attributes:
        name: the name in node ids, results and baselines; empty for the agent's default name.
        agent: the name of a built-in agent, `MODULE:CALLABLE` or `FILE.py:CALLABLE`; empty for a command.
        command: the command line; empty unless the agent is a command.
        where: where the command runs.
        setup: a command line or the text of a script that installs the agent.
        files: absolute paths on the host, each with its target path in the environment.
        env: environment variables.
        model: the name of the model to use.
        workdir: the working directory in the environment; empty for the task's.

    """

    name: str
    agent: str = ""
    command: str = ""
    where: Where | None = None
    setup: str | None = None
    files: tuple[tuple[Path, str], ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    model: str | None = None
    workdir: str | None = None

    @property
    def kind(self) -> str:
        """The kind of agent in one word, which contains no secrets."""
        return self.agent or COMMAND

    def make(self, where: Where) -> Agent:
        """Create the agent.

        Args:
            where: where a command runs if the table does not say.

        Raises:
            AgentError: the callable does not exist or cannot be imported.

        """
        if self.command:
            kind = HostCommandAgent if (self.where or where) == "host" else CommandAgent
            return kind(self.command, self.name or COMMAND)
        return as_agent(self.agent, self.name)


def read_agents(file: Path, tables: tuple[str, ...] = ()) -> tuple[AgentSpec, ...]:
    """Read the agents of a TOML file.

    Args:
        file: the file; relative paths in it start at its directory.
        tables: the path of the table that contains `agents`. If empty, the file lists agents only, and at least one.

    Returns:
        The agents in the order of the file; empty if the table does not exist.

    Raises:
        AgentFileError: the file cannot be read, or an agent is not valid.

    """
    try:
        document: Any = read_toml(file)
    except TaskError as error:
        raise AgentFileError(f"{error}; list agents as tables {_header(tables)}") from error
    for name in tables:
        if name not in document:
            return ()
        document = document[name]
        if not isinstance(document, dict):
            raise AgentFileError(f"{file}: {name} must be a table, got {format_value(document)}")
    if unknown := [key for key in document if key != "agents" and not (tables and key == GATE)]:
        raise AgentFileError(f"{file}: unknown key {format_value(unknown[0])}; list agents as tables {_header(tables)}")
    if GATE in document and "agents" not in document:
        return ()
    listed = document.get("agents")
    if not isinstance(listed, list) or not listed or not all(isinstance(table, dict) for table in listed):
        raise AgentFileError(f"{file}: no agents are listed; list them as tables {_header(tables)}")
    specs = tuple(_AgentTable(file, number, table).spec() for number, table in enumerate(listed, 1))
    _check_names(file, specs)
    return specs


def find_name_clash(names: Iterable[str], attempts: int) -> tuple[str, int] | None:
    """Return the first agent and attempt number that together form another agent's name, such as "a-2", or None."""
    names = tuple(names)
    ids = {f"{name}-{number}": (name, number) for name in names for number in range(2, attempts + 1)}
    return next((ids[name] for name in names if name in ids), None)


def _header(tables: tuple[str, ...]) -> str:
    return f"[[{'.'.join((*tables, 'agents'))}]]"


def _check_names(file: Path, specs: Iterable[AgentSpec]) -> None:
    """Check that names are unique, also as file names on a case-insensitive file system."""
    seen: dict[str, str] = {}
    for spec in specs:
        other = seen.get(spec.name.casefold())
        if other is not None:
            how = "is given twice" if other == spec.name else f"differs from {other!r} only in case"
            raise AgentFileError(f"{file}: agent {spec.name!r}: this name {how}; give each agent its own name")
        seen[spec.name.casefold()] = spec.name


class _AgentTable:
    """The table of one agent.

    Args:
        file: the file that contains it.
        number: its position among the agents, from 1.
        table: its content.

    """

    def __init__(self, file: Path, number: int, table: dict[str, Any]) -> None:
        self._table = table
        self._base = file.parent
        name = table.get("name")
        self._which = f"{file}: agent {format_value(name) if isinstance(name, str) and name else number}"

    def spec(self) -> AgentSpec:
        """Return the agent and its settings.

        Raises:
            AgentFileError: the table is not valid.

        """
        if unknown := [key for key in self._table if key not in KEYS]:
            raise self._error(f"unknown key {format_value(unknown[0])}; use one of {', '.join(KEYS)}")
        name = self._text("name")
        if name is None:
            raise self._error(f"name is missing; use {_NAME_RULE}")
        if not _NAME.fullmatch(name):
            raise self._error(f"name {format_value(name)} is not valid; use {_NAME_RULE}")
        given = [key for key in KINDS if key in self._table]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none of them"
            raise self._error(f"needs exactly one of {', '.join(KINDS)}; {found}")
        agent = "" if given == ["command"] else self._agent(given[0])
        command = self._text("command") or ""
        if not agent and not command.strip():
            raise self._error("command is empty; give a command line")
        return AgentSpec(
            name=name,
            agent=agent,
            command=command,
            where=self._where(agent),
            setup=self._setup(),
            files=self._files(),
            env=self._env(),
            model=self._text("model"),
            workdir=self._text("workdir"),
        )

    def _agent(self, key: str) -> str:
        """Return the name of a built-in agent or a callable; relative paths of Python files start at the TOML file."""
        value = self._text(key) or ""
        names = BUILT_IN_AGENTS if key == "agent" else ()
        if value in names:
            return value
        if not is_callable_spec(value):
            raise self._error(f"{key} {format_value(value)} {explain_invalid(value, names, self._base)}")
        module, _, function = value.rpartition(":")
        return f"{absolute_path(module, self._base)}:{function}" if module.endswith(".py") else value

    def _where(self, agent: str) -> Where | None:
        value = self._text("where")
        if value not in (None, "container", "host"):
            raise self._error(f"where {format_value(value)} is not valid; use container or host")
        always = "container" if agent in (ORACLE, NOP) else "host" if agent else value
        if value != always and value is not None:
            location = "on the host" if always == "host" else "in the container"
            raise self._error(f"where {format_value(value)} is not possible; this agent always runs {location}")
        return "container" if value == "container" else "host" if value else None

    def _setup(self) -> str | None:
        value = self._text("setup")
        try:
            return None if value is None else read_setup(value, self._base)
        except ValueError as error:
            raise self._error(f"setup: {error}") from error

    def _files(self) -> tuple[tuple[Path, str], ...] | None:
        values = self._table.get("files")
        if values is None:
            return None
        found = []
        for text in self._texts("files", values, "a list of strings SRC:DST"):
            try:
                source, target = parse_file_mapping(text)
            except ValueError as error:
                raise self._error(f"files: {error}") from error
            found.append((absolute_path(source, self._base), target))
        return tuple(found)

    def _env(self) -> tuple[tuple[str, str], ...]:
        values = self._table.get("env", {})
        if isinstance(values, dict):
            for name, value in values.items():
                if not is_env_name(name):
                    raise self._error(f"env: {format_value(name)} is not a valid name for an environment variable")
                if not isinstance(value, str):
                    raise self._error(f"env: {name} must be a string, got {format_value(value)}")
            return tuple(values.items())
        try:
            texts = self._texts("env", values, "a table of strings, or a list of K=V and K")
            return tuple(parse_env_variable(text) for text in texts)
        except AgentFileError:
            raise
        except ValueError as error:
            raise self._error(f"env: {error}") from error

    def _text(self, key: str) -> str | None:
        value = self._table.get(key)
        if value is not None and not isinstance(value, str):
            raise self._error(f"{key} must be a string, got {format_value(value)}")
        return value

    def _texts(self, key: str, values: Any, what: str) -> list[str]:
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._error(f"{key} must be {what}, got {format_value(values)}")
        return values

    def _error(self, text: str) -> AgentFileError:
        return AgentFileError(f"{self._which}: {text}")

"""Agents that are listed in a TOML file, each in a table of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_harbor._util.agent_values import (
    absolute_path,
    is_env_name,
    parse_env_variable,
    parse_file_mapping,
    read_setup,
)
from pytest_harbor._util.choices import BUILT_IN_AGENTS, CALLABLE, COMMAND, NOP, ORACLE
from pytest_harbor._util.text import alternatives
from pytest_harbor.agent.base import Agent
from pytest_harbor.agent.command import CommandAgent
from pytest_harbor.agent.factory import as_agent
from pytest_harbor.agent.host import HostCommandAgent
from pytest_harbor.task import TaskError
from pytest_harbor.task.document import format_value, read_toml

Where = Literal["container", "host"]

KINDS = ("agent", COMMAND, "callable")
KEYS = ("name", *KINDS, "setup", "files", "env", "model", "where", "workdir")

# It is part of node ids, where a number alone is that of an attempt, and of names of files.
_NAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME_RULE = "letters, digits and . _ -, beginning with a letter or digit, and not a number alone"


class AgentFileError(ValueError):
    """Agents that cannot be used as they are listed; the message names file, agent and key, and says what is valid."""


@dataclass(frozen=True)
class AgentSpec:
    """An agent and what goes with it. What is None was left out.

    Attributes:
        name: its name in node ids, results and baselines; its own when empty.
        agent: `oracle`, `nop`, `openai`, `MODULE:CALLABLE` or `FILE.py:CALLABLE`; empty for a command.
        command: its command line; empty for what is no command.
        where: where the command runs.
        setup: a command line or the text of a script that installs it.
        files: absolute paths of the host, and where in the environment what is there goes.
        env: its variables.
        model: name of the model it is told to use.
        workdir: where it works in the environment; empty for the task's own place.

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
        """What it is in a word, which holds no secrets."""
        return self.agent or COMMAND

    def make(self, where: Where) -> Agent:
        """Return the agent.

        Args:
            where: where a command runs that does not say it itself.

        Raises:
            AgentError: there is no such callable, or it cannot be imported.

        """
        if self.command:
            kind = HostCommandAgent if (self.where or where) == "host" else CommandAgent
            return kind(self.command, self.name or COMMAND)
        return as_agent(self.agent, self.name)


def read_agents(file: Path, tables: tuple[str, ...] = ()) -> tuple[AgentSpec, ...]:
    """Read the agents of a TOML file.

    Args:
        file: the file; paths in it lead from its directory.
        tables: the names of the table that holds `agents`. Without any the file is about agents alone, and has some.

    Returns:
        The agents in the order of the file; none where there is no such table.

    Raises:
        AgentFileError: it cannot be read, or holds what cannot be used.

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
    if unknown := [key for key in document if key != "agents"]:
        raise AgentFileError(f"{file}: unknown key {format_value(unknown[0])}; list agents as tables {_header(tables)}")
    listed = document.get("agents")
    if not isinstance(listed, list) or not listed or not all(isinstance(table, dict) for table in listed):
        raise AgentFileError(f"{file}: there are no agents; list them as tables {_header(tables)}")
    specs = tuple(_Table(file, number, table).spec() for number, table in enumerate(listed, 1))
    _check_names(file, specs)
    return specs


def find_name_clash(names: Iterable[str], attempts: int) -> tuple[str, int] | None:
    """Return the first name and number of an attempt that together are another agent's name, None where none are."""
    names = tuple(names)
    ids = {f"{name}-{number}": (name, number) for name in names for number in range(2, attempts + 1)}
    return next((ids[name] for name in names if name in ids), None)


def _header(tables: tuple[str, ...]) -> str:
    return f"[[{'.'.join((*tables, 'agents'))}]]"


def _check_names(file: Path, specs: Iterable[AgentSpec]) -> None:
    """See to it that names differ, also as names of files where upper and lower case are one."""
    seen: dict[str, str] = {}
    for spec in specs:
        other = seen.get(spec.name.casefold())
        if other is not None:
            how = "is given twice" if other == spec.name else f"differs from {other!r} in upper and lower case alone"
            raise AgentFileError(f"{file}: agent {spec.name!r}: this name {how}; give each agent one of its own")
        seen[spec.name.casefold()] = spec.name


class _Table:
    """One agent's table.

    Args:
        file: the file it is in.
        number: which one it is, from 1.
        table: the table.

    """

    def __init__(self, file: Path, number: int, table: dict[str, Any]) -> None:
        self._table = table
        self._base = file.parent
        name = table.get("name")
        self._which = f"{file}: agent {format_value(name) if isinstance(name, str) and name else number}"

    def spec(self) -> AgentSpec:
        """Return the agent.

        Raises:
            AgentFileError: the table holds what cannot be used.

        """
        if unknown := [key for key in self._table if key not in KEYS]:
            raise self._error(f"unknown key {format_value(unknown[0])}; valid are {', '.join(KEYS)}")
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
        """Return a name of ours, or a callable; a Python file is looked for beside the TOML file."""
        value = self._text(key) or ""
        names = BUILT_IN_AGENTS if key == "agent" else ()
        module, _, function = value.rpartition(":")
        if value in names:
            return value
        if not module or not function:
            valid = alternatives((*names, CALLABLE, "FILE.py:CALLABLE"))
            raise self._error(f"{key} {format_value(value)} is not valid; use {valid}")
        return f"{absolute_path(module, self._base)}:{function}" if module.endswith(".py") else value

    def _where(self, agent: str) -> Where | None:
        value = self._text("where")
        if value not in (None, "container", "host"):
            raise self._error(f"where {format_value(value)} is not valid; use container or host")
        always = "container" if agent in (ORACLE, NOP) else "host" if agent else value
        if value != always and value is not None:
            raise self._error(f"where {format_value(value)} is not possible; this agent always works from the {always}")
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
        for text in self._texts("files", values, "a list of texts SRC:DST"):
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
                    raise self._error(f"env: {format_value(name)} is not the name of a variable")
                if not isinstance(value, str):
                    raise self._error(f"env: {name} must be a text in quotes, got {format_value(value)}")
            return tuple(values.items())
        try:
            texts = self._texts("env", values, "a table of texts, or a list of K=V and K")
            return tuple(parse_env_variable(text) for text in texts)
        except AgentFileError:
            raise
        except ValueError as error:
            raise self._error(f"env: {error}") from error

    def _text(self, key: str) -> str | None:
        value = self._table.get(key)
        if value is not None and not isinstance(value, str):
            raise self._error(f"{key} must be a text in quotes, got {format_value(value)}")
        return value

    def _texts(self, key: str, values: Any, what: str) -> list[str]:
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._error(f"{key} must be {what}, got {format_value(values)}")
        return values

    def _error(self, text: str) -> AgentFileError:
        return AgentFileError(f"{self._which}: {text}")

"""From flags and ini keys to a HarborConfig.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest

from pytest_harbor._util.choices import COMMAND
from pytest_harbor.plugin.options.option import Option
from pytest_harbor.plugin.options.table import OPTIONS, HarborConfig

INI_TYPES: Any = {"one": "string", "path": "string", "many": "linelist", "paths": "args", "switch": "bool"}


def add_options(parser: pytest.Parser) -> None:
    """Add each option to pytest as a flag and as an ini key."""
    group = parser.getgroup("harbor", "Harbor tasks (pytest-harbor)")
    for option in OPTIONS:
        details: dict[str, Any] = {"metavar": option.metavar}
        if option.kind == "switch":
            details = {"action": "store_true"}
        elif option.kind in ("many", "paths"):
            details["action"] = "append"
        elif option.bare:
            details |= {"nargs": "?", "const": option.bare}
        # No default here: without the flag, the ini key counts.
        group.addoption(option.flag, dest=option.key, default=None, help=option.help, **details)
        parser.addini(option.key, f"{option.help} (same as {option.flag})", type=INI_TYPES[option.kind])


# The options that choose agents.
AGENT_KEYS = ("harbor_agent", "harbor_agent_command", "harbor_agents")


def read_options(config: pytest.Config) -> HarborConfig:
    """Parse flags and ini keys; a flag takes precedence over its ini key.

    Raises:
        pytest.UsageError: a value is not valid; the message lists those that are.

    """
    values = {option.field: _value(option, config) for option in OPTIONS}
    if values["agents"]:
        source = "--harbor-agents" if config.getoption("harbor_agents") else "the ini key harbor_agents"
        values["agents"] = values["agents"] if listed_agents_count(config, source) else None
    # Listed agents replace the one that other options define.
    single = {"agent": "", "agent_command": "", "agent_name": ""} if values["agents"] else _single_agent(config, values)
    values |= single
    values["datasets"], values["taskset"] = _tasks(config, values["datasets"], values["taskset"])
    values["agent_setup"] = _agent_setup(config, values["agent_setup"])
    values["agent_files"] = _agent_files(config, values["agent_files"])
    values["html"] = _writable("--harbor-html", values["html"])
    return HarborConfig(**values)


def typed_options(config: pytest.Config) -> argparse.Namespace:
    """Return the options of the command line itself, without those of `addopts`."""
    return config._parser.parse_known_args(list(config.invocation_params.args))


def listed_agents_count(config: pytest.Config, source: str) -> bool:
    """Return True if listed agents take effect, and False if a flag names an agent instead of those of an ini file.

    Args:
        config: pytest's configuration.
        source: what lists the agents, for the message.

    Raises:
        pytest.UsageError: the same place also defines a single agent.

    """
    by_flag = bool(config.getoption("harbor_agents"))
    if not by_flag and (config.getoption("harbor_agent") or config.getoption("harbor_agent_command")):
        return False
    for key in ("harbor_agent", "harbor_agent_command", "harbor_agent_name"):
        flag = f"--{key.replace('_', '-')}"
        from_ini = not by_flag and config.getoption(key) is None and config.getini(key)
        if config.getoption(key) or from_ini:
            other = f"the ini key {key}" if from_ini else flag
            raise pytest.UsageError(f"{source} and {other} exclude each other; give one of them")
    return True


def _single_agent(config: pytest.Config, values: dict[str, Any]) -> dict[str, str]:
    """Return agent, command and name, with the conflict between --harbor-agent and --harbor-agent-command settled."""
    agent, command = values["agent"], values["agent_command"]
    by_flag = bool(config.getoption("harbor_agent")), bool(config.getoption("harbor_agent_command"))
    if command and agent not in ("", COMMAND):
        if by_flag == (True, False):
            command = ""  # a flag overrides a command in the ini file
        elif by_flag == (False, True):
            agent = COMMAND
        else:
            raise pytest.UsageError(
                f"--harbor-agent={agent} and --harbor-agent-command exclude each other; give one of them"
            )
    if command:
        agent = COMMAND
    elif agent == COMMAND:
        raise pytest.UsageError(f"--harbor-agent={COMMAND} needs --harbor-agent-command=CMD")
    return {"agent": agent, "agent_command": command, "agent_name": values["agent_name"]}


def _tasks(
    config: pytest.Config, datasets: tuple[str, ...], taskset: Path | None
) -> tuple[tuple[Path, ...], Path | None]:
    """Return datasets and taskset as absolute paths, with the conflict between the two options settled."""
    by_flag = bool(config.getoption("harbor_dataset")), bool(config.getoption("harbor_taskset"))
    if taskset and datasets and by_flag[0] == by_flag[1]:
        raise pytest.UsageError("--harbor-dataset and --harbor-taskset exclude each other; give one of them")
    if taskset and by_flag != (True, False):
        return (taskset.parent,), taskset
    base = _base("harbor_dataset", config)
    return tuple(Path(os.path.abspath(base / path)) for path in datasets), None  # noqa: PTH100 - links stay


def check_datasets(config: pytest.Config, datasets: Iterable[Path]) -> None:
    """Refuse datasets that do not exist.

    Raises:
        pytest.UsageError: one of them does not; the message says how to get it.

    """
    if not datasets:
        return
    from pytest_harbor.plugin.options.datasets import check_dataset

    by_flag = config.getoption("harbor_dataset")
    source = "--harbor-dataset" if by_flag else "ini key harbor_dataset"
    base = _base("harbor_dataset", config)
    for text in by_flag or config.getini("harbor_dataset"):
        path = base / os.path.expanduser(text)  # noqa: PTH111 - as the parser
        if Path(os.path.abspath(path)) in datasets:  # noqa: PTH100 - links stay
            check_dataset(text, path, base, source)


def _agent_files(config: pytest.Config, files: tuple[tuple[str, str], ...]) -> tuple[tuple[Path, str], ...]:
    """Return the agent files with absolute paths of the host."""
    if not files:
        return ()
    from pytest_harbor._util.agent_values import absolute_path

    base = _base("harbor_agent_files", config)
    return tuple((absolute_path(source, base), target) for source, target in files)


def _agent_setup(config: pytest.Config, value: str) -> str:
    """Return the command line of --harbor-agent-setup, or the text of the script that it names."""
    if not value:
        return ""
    from pytest_harbor._util.agent_values import read_setup

    try:
        return read_setup(value, _base("harbor_agent_setup", config))
    except ValueError as error:
        raise pytest.UsageError(f"--harbor-agent-setup: {error}") from error


def _base(key: str, config: pytest.Config) -> Path:
    """Return what a path is relative to: the current directory for a flag, else the ini file's, if there is one."""
    by_flag = config.getoption(key) is not None
    return config.invocation_params.dir if by_flag or config.inipath is None else config.inipath.parent


def _writable(flag: str, path: Path | Literal[False] | None) -> Path | Literal[False] | None:
    """Return the path of a file to write, unless something else is there."""
    if path and path.exists() and not path.is_file():
        what = "a directory" if path.is_dir() else "not a regular file"
        raise pytest.UsageError(f"{flag}: {path} is {what}; give the path of a file to write")
    return path


def _value(option: Option, config: pytest.Config) -> Any:
    given = config.getoption(option.key)
    source = option.flag
    # An empty flag undoes an ini key. Elsewhere it comes from a variable that is not set: --harbor-baseline="$FILE"
    if given == "" and not config.getini(option.key):
        raise pytest.UsageError(f"{source} has no value; give one, or leave the option out")
    if given is None:
        source = f"ini key {option.key}"
        try:
            given = config.getini(option.key)
        except (ValueError, pytest.UsageError) as error:
            cure = "; use true or false" if option.kind == "switch" else ""
            raise pytest.UsageError(f"{source}: {error}{cure}") from error
    if option.kind == "switch":
        return bool(given)
    if option.kind in ("many", "paths"):
        return tuple(option.parse(str(item), source) for item in given or ())
    value = option.parse(str(given), source) if given not in (None, "") else option.default
    if option.kind == "path" and isinstance(value, str):
        return Path(os.path.abspath(_base(option.key, config) / value))  # noqa: PTH100 - links stay
    return value

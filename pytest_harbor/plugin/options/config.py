"""From flags and ini keys to the configuration that they add up to.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from pytest_harbor.gate import GateSpec, Limit
    from pytest_harbor.proxy.budget import SessionBudget
    from pytest_harbor.task.shards import Shard

from pytest_harbor._util.choices import ProviderChoice
from pytest_harbor.plugin.options.table import OPTIONS, Option


@dataclass(frozen=True)
class HarborConfig:
    """The options of a run, parsed; each attribute is the option of that name.

    Attributes:
        datasets: absolute paths; with a taskset, that of its folder.
        taskset: absolute path of a taskset.json, or None.
        agent: `oracle`, `nop`, `command`, `MODULE:CALLABLE`, or empty where none was chosen.
        agent_env: names and values.
        agent_setup: a command line, or the text of a script.
        agent_files: absolute paths of the host, and where in the environment what is there goes.
        agents: absolute path of a file with agents, or None.
        cassettes: absolute path.
        openai_key: name of a variable of the host.
        anthropic_key: likewise.
        prices: absolute path, or None.
        results: absolute path.
        html: absolute path; None where no page is wanted.

    """

    datasets: tuple[Path, ...]
    taskset: Path | None
    tasks: tuple[str, ...]
    exclude_tasks: tuple[str, ...]
    shard: Shard | None
    agent: str
    agent_command: str
    agent_name: str
    agent_where: Literal["container", "host"]
    agent_env: tuple[tuple[str, str], ...]
    agent_workdir: str
    agent_setup: str
    agent_files: tuple[tuple[Path, str], ...]
    agents: Path | None
    model: str
    proxy: Literal["off", "live", "record", "replay", "auto"]
    cassettes: Path
    proxy_log: Literal["full", "meta", "off"]
    openai_base_url: str
    openai_key: str
    anthropic_base_url: str
    anthropic_key: str
    prices: Path | None
    max_turns: int | None
    max_tokens: int | None
    max_cost: float | None
    session_budget: SessionBudget | None
    attempts: int
    threshold: float
    record_only: bool
    environment: ProviderChoice
    image: str
    build: Literal["auto", "always", "never"]
    adapt: Literal["lean", "hud"]
    registry: str
    timeout_multiplier: float
    agent_timeout: float
    resource_multiplier: float
    results: Path
    html: Path | None
    reward_key: str
    reward_precedence: Literal["txt", "json"]
    missing_reward: Literal["zero", "error"]
    infra_retries: int
    baseline: Path | None
    gate: GateSpec | None
    inconclusive: Literal["fail", "pass"]
    max_infra_errors: Limit | None
    confirm: int
    save_baseline: Path | None
    update_baseline: bool
    force_baseline: bool


def add_options(parser: pytest.Parser) -> None:
    """Add the flags and their ini twins to pytest."""
    group = parser.getgroup("harbor", "Harbor tasks (pytest-harbor)")
    ini_types = {"one": "string", "path": "string", "many": "linelist", "paths": "paths", "switch": "bool"}
    for option in OPTIONS:
        how: dict[str, Any] = {"metavar": option.metavar}
        if option.kind == "switch":
            how = {"action": "store_true"}
        elif option.kind in ("many", "paths"):
            how["action"] = "append"
        # No default here: a flag that was not given falls back to its ini twin.
        group.addoption(option.flag, dest=option.key, default=None, help=option.help, **how)
        parser.addini(option.key, f"{option.help} (ini twin of {option.flag})", type=ini_types[option.kind])  # type: ignore[arg-type]


def read_options(config: pytest.Config) -> HarborConfig:
    """Parse flags and ini keys; a flag wins over its ini twin.

    Raises:
        pytest.UsageError: a value is not valid; the message lists those that are.

    """
    values = {option.key: _value(option, config) for option in OPTIONS}
    source = "--harbor-agents" if config.getoption("harbor_agents") else "the ini key harbor_agents"
    agents = values["harbor_agents"] if values["harbor_agents"] and listed_agents_count(config, source) else None
    agent, command, name = ("", "", "") if agents else _which_agent(config, values)
    datasets, taskset = _which_tasks(config, values["harbor_dataset"], values["harbor_taskset"])
    return HarborConfig(
        datasets=datasets,
        taskset=taskset,
        tasks=values["harbor_task"],
        exclude_tasks=values["harbor_exclude_task"],
        shard=values["harbor_shard"],
        agent=agent,
        agent_command=command,
        agent_name=name,
        agent_where=values["harbor_agent_where"],
        agent_env=values["harbor_agent_env"],
        agent_workdir=values["harbor_agent_workdir"],
        agent_setup=_agent_setup(config, values["harbor_agent_setup"]),
        agent_files=_agent_files(config, values["harbor_agent_files"]),
        agents=agents,
        model=values["harbor_model"],
        proxy=values["harbor_proxy"],
        cassettes=values["harbor_cassettes"],
        proxy_log=values["harbor_proxy_log"],
        openai_base_url=values["harbor_openai_base_url"],
        openai_key=values["harbor_openai_key"],
        anthropic_base_url=values["harbor_anthropic_base_url"],
        anthropic_key=values["harbor_anthropic_key"],
        prices=values["harbor_prices"],
        max_turns=values["harbor_max_turns"],
        max_tokens=values["harbor_max_tokens"],
        max_cost=values["harbor_max_cost"],
        session_budget=values["harbor_session_budget"],
        attempts=values["harbor_attempts"],
        threshold=values["harbor_threshold"],
        record_only=values["harbor_record_only"],
        environment=values["harbor_environment"],
        image=values["harbor_image"],
        build=values["harbor_build"],
        adapt=values["harbor_adapt"],
        registry=values["harbor_registry"],
        timeout_multiplier=values["harbor_timeout_multiplier"],
        agent_timeout=values["harbor_agent_timeout"],
        resource_multiplier=values["harbor_resource_multiplier"],
        results=values["harbor_results"],
        html=_to_write("--harbor-html", values["harbor_html"]),
        reward_key=values["harbor_reward_key"],
        reward_precedence=values["harbor_reward_precedence"],
        missing_reward=values["harbor_missing_reward"],
        infra_retries=values["harbor_infra_retries"],
        baseline=values["harbor_baseline"],
        gate=values["harbor_gate"],
        inconclusive=values["harbor_inconclusive"],
        max_infra_errors=values["harbor_max_infra_errors"],
        confirm=values["harbor_confirm"],
        save_baseline=values["harbor_save_baseline"],
        update_baseline=values["harbor_update_baseline"],
        force_baseline=values["harbor_force_baseline"],
    )


def _which_tasks(
    config: pytest.Config, datasets: tuple[str, ...], taskset: Path | None
) -> tuple[tuple[Path, ...], Path | None]:
    """Settle which of --harbor-dataset and --harbor-taskset counts, and return absolute paths."""
    base = config.invocation_params.dir
    flags = bool(config.getoption("harbor_dataset")), bool(config.getoption("harbor_taskset"))
    if taskset and datasets and flags[0] == flags[1]:
        raise pytest.UsageError("--harbor-dataset and --harbor-taskset exclude each other; give one of them")
    if taskset and flags != (True, False):
        return (taskset.parent,), taskset
    return tuple(Path(os.path.abspath(base / path)) for path in datasets), None  # noqa: PTH100 - links stay


def _agent_files(config: pytest.Config, files: tuple[tuple[str, str], ...]) -> tuple[tuple[Path, str], ...]:
    """Return what --harbor-agent-files names with absolute paths of the host."""
    if not files:
        return ()
    from pytest_harbor._util.agent_values import absolute_path

    base = _base("harbor_agent_files", config)
    return tuple((absolute_path(source, base), target) for source, target in files)


def _agent_setup(config: pytest.Config, value: str) -> str:
    """Return the command line that --harbor-agent-setup is, or the text of the script that it names."""
    if not value:
        return ""
    from pytest_harbor._util.agent_values import read_setup

    try:
        return read_setup(value, _base("harbor_agent_setup", config))
    except ValueError as error:
        raise pytest.UsageError(f"--harbor-agent-setup: {error}") from error


def _base(key: str, config: pytest.Config) -> Path:
    """Return where a path leads from: the ini file's directory where that says it, else where pytest was called."""
    from_ini = config.getoption(key) is None and config.getini(key) and config.inipath
    return config.inipath.parent if from_ini and config.inipath else config.invocation_params.dir


def _to_write(flag: str, path: Path | None) -> Path | None:
    """Return the path of a file to write, if that is what it can be."""
    if path is not None and path.exists() and not path.is_file():
        what = "a directory" if path.is_dir() else "no regular file"
        raise pytest.UsageError(f"{flag}: {path} is {what}; give the path of a file to write")
    return path


def _value(option: Option, config: pytest.Config) -> Any:
    given = config.getoption(option.key)
    source = option.flag
    if given is None:
        source = f"ini key {option.key}"
        try:
            given = config.getini(option.key)
        except (ValueError, pytest.UsageError) as error:
            raise pytest.UsageError(f"{source}: {error}; use true or false") from error
    if option.kind == "switch":
        return bool(given)
    if option.kind in ("many", "paths"):
        return tuple(option.parse(str(item), source) for item in given or ())
    value = option.parse(str(given), source) if given not in (None, "") else option.default
    if option.kind == "path" and value is not None:
        return Path(os.path.abspath(_base(option.key, config) / value))  # noqa: PTH100 - links stay
    return value


def listed_agents_count(config: pytest.Config, source: str) -> bool:
    """Tell whether agents that are listed somewhere count; those of an ini file do not, where a flag names an agent.

    Args:
        config: pytest's configuration.
        source: what lists them, for a message.

    Raises:
        pytest.UsageError: a single agent is chosen in the same place.

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


def _which_agent(config: pytest.Config, values: dict[str, Any]) -> tuple[str, str, str]:
    """Settle which of --harbor-agent and --harbor-agent-command counts, and return agent, command and name."""
    agent, command, name = (values[f"harbor_agent{part}"] for part in ("", "_command", "_name"))
    flags = bool(config.getoption("harbor_agent")), bool(config.getoption("harbor_agent_command"))
    if command and agent not in ("", "command"):
        if flags == (True, False):
            command = ""  # a flag on the command line wins over a command in the ini file
        elif flags == (False, True):
            agent = "command"
        else:
            raise pytest.UsageError(
                f"--harbor-agent={agent} and --harbor-agent-command exclude each other; give one of them"
            )
    if command:
        agent = "command"
    elif agent == "command":
        raise pytest.UsageError("--harbor-agent=command needs --harbor-agent-command=CMD")
    return agent, command, name

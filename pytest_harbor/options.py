"""Every option, once: its flag, its ini key, what values it takes; and the configuration that they add up to.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from pytest_harbor.gate import GateSpec, Limit
    from pytest_harbor.task.shards import Shard

AGENTS = ("oracle", "nop", "command", "MODULE:CALLABLE")


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: the flag without dashes; the ini key has underscores instead.
        help: what it does.
        parse: turns the text of flag or ini key into a value; raises UsageError with the valid values.
        default: the value where neither is given.
        metavar: what stands for the value in the help.
        kind: `one` value, `path` (relative to where it is written), `many` (the flag repeats, the ini key has a line
            a value), `paths` (both) or `switch`.

    """

    name: str
    help: str
    parse: Callable[[str, str], Any]
    default: Any
    metavar: str = ""
    kind: Literal["one", "path", "many", "paths", "switch"] = "one"

    @property
    def flag(self) -> str:
        """The flag."""
        return f"--{self.name}"

    @property
    def key(self) -> str:
        """The ini key, which is also the name on `config.option`."""
        return self.name.replace("-", "_")


def _text(value: str, flag: str) -> str:
    return value


def _path(value: str, flag: str) -> str:
    if not value.strip():
        raise pytest.UsageError(f"{flag}: an empty path is not valid; give that of a task, a dataset, or a directory")
    return os.path.expanduser(value)  # noqa: PTH111 - a shell leaves the tilde of --flag=~/x alone


def _choice(*choices: str) -> Callable[[str, str], str]:
    def parse(value: str, flag: str) -> str:
        if value not in choices:
            raise pytest.UsageError(f"{flag}: {value!r} is not valid; use {' or '.join(choices)}")
        return value

    return parse


def _number(lowest: float, what: str) -> Callable[[str, str], float]:
    def parse(value: str, flag: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number < lowest or (lowest == 0 and what.startswith("above") and number == 0):
            raise pytest.UsageError(f"{flag}: {value!r} is not valid; use a number {what}")
        return number

    return parse


def _whole(lowest: int) -> Callable[[str, str], int]:
    def parse(value: str, flag: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < lowest:
            raise pytest.UsageError(f"{flag}: {value!r} is not valid; use a whole number from {lowest}")
        return int(value)

    return parse


def _finite(value: str, flag: str) -> float:
    return _number(-math.inf, "such as 1.0 or 0.5")(value, flag)


def _agent(value: str, flag: str) -> str:
    module, _, function = value.rpartition(":")
    if value in AGENTS[:3] or (module and function):
        return value
    raise pytest.UsageError(f"{flag}: {value!r} is not valid; use {', '.join(AGENTS[:3])} or {AGENTS[3]}")


def _registry(value: str, flag: str) -> str:
    try:
        return repository(value)
    except ValueError as error:
        raise pytest.UsageError(f"{flag}: {value!r} is not valid; {error}") from error


def _rule(value: str, flag: str) -> GateSpec:
    from pytest_harbor.gate.spec import GateSpec

    try:
        return GateSpec.parse(value)
    except ValueError as error:
        raise pytest.UsageError(f"{flag}: {error}") from error


def _limit(value: str, flag: str) -> Limit:
    from pytest_harbor.gate.verdict import Limit

    try:
        return Limit.parse(value)
    except ValueError as error:
        raise pytest.UsageError(f"{flag}: {value!r} is not valid; {error}") from error


def _shard(value: str, flag: str) -> Shard:
    from pytest_harbor.task.shards import Shard

    try:
        return Shard.parse(value)
    except ValueError as error:
        raise pytest.UsageError(f"{flag}: {value!r} is not valid; {error}") from error


def _variable(value: str, flag: str) -> tuple[str, str]:
    name, equals, text = value.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise pytest.UsageError(f"{flag}: {value!r} is not valid; use NAME=VALUE, or NAME to pass the host's value")
    if not equals:
        if name not in os.environ:
            raise pytest.UsageError(f"{flag}: {name} is not set on the host; set it, or use {name}=VALUE")
        text = os.environ[name]
    return name, text


def repository(value: str) -> str:
    """Check the name of a repository in a registry.

    Raises:
        ValueError: it is none; the message says what one looks like.

    """
    part = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
    if not re.fullmatch(rf"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?(?:/{part})+", value):
        raise ValueError("use HOST/PREFIX, such as ghcr.io/acme/tb2, in lower case and without a tag")
    return value


_POSITIVE = _number(0, "above 0")

OPTIONS = (
    Option(
        "harbor-dataset",
        "Run the Harbor tasks below PATH (a task, a dataset, or a directory of datasets); repeatable",
        _path,
        (),
        "PATH",
        "paths",
    ),
    Option(
        "harbor-taskset",
        "Run the tasks of FILE, in its order: a taskset.json in a folder that pytest-harbor convert has written",
        _path,
        None,
        "FILE",
        "path",
    ),
    Option("harbor-task", "Run only the tasks whose name or id matches GLOB; repeatable", _text, (), "GLOB", "many"),
    Option(
        "harbor-exclude-task",
        "Leave out the tasks whose name or id matches GLOB; repeatable",
        _text,
        (),
        "GLOB",
        "many",
    ),
    Option(
        "harbor-shard",
        "Run only part K of N of the selected tasks, such as 2/8; of about equal duration where --harbor-baseline "
        "knows durations, else of equal number",
        _shard,
        None,
        "K/N",
    ),
    Option(
        "harbor-agent",
        "What works on the tasks: oracle (the task's own solution), nop (nothing), command (see "
        "--harbor-agent-command) or a Python callable as MODULE:CALLABLE",
        _agent,
        "",
        "AGENT",
    ),
    Option("harbor-agent-command", "Command line of the agent; implies --harbor-agent=command", _text, "", "CMD"),
    Option("harbor-agent-name", "Name of the agent in results and baselines", _text, "", "NAME"),
    Option(
        "harbor-agent-where",
        "Where the agent's command runs: container (default) or host",
        _choice("container", "host"),
        "container",
        "WHERE",
    ),
    Option(
        "harbor-agent-env",
        "Variable of the agent, as K=V, or K to pass the host's value; repeatable",
        _variable,
        (),
        "K[=V]",
        "many",
    ),
    Option(
        "harbor-agent-workdir",
        "Working directory of the agent in the environment (default: the task's)",
        _text,
        "",
        "DIR",
    ),
    Option("harbor-model", "Name of the model, which the agent gets as OPENAI_MODEL", _text, "", "NAME"),
    Option("harbor-attempts", "Run every task N times (default 1)", _whole(1), 1, "N"),
    Option("harbor-threshold", "Lowest reward that passes (default 1.0)", _finite, 1.0, "F"),
    Option("harbor-record-only", "Record rewards, and fail nothing because of one", _text, False, "", "switch"),
    Option(
        "harbor-baseline",
        "Compare the rewards with those in FILE: the run's verdict, not single trials, decides the exit status",
        _path,
        None,
        "FILE",
        "path",
    ),
    Option(
        "harbor-gate",
        "Rule of the verdict: drop=SHARE, alpha=SHARE, pass-rate=SHARE, each, or several joined by commas "
        "(default drop=0.05,alpha=0.05)",
        _rule,
        None,
        "RULE",
    ),
    Option(
        "harbor-inconclusive",
        "What a verdict that cannot be reached means for the exit status: fail (status 10; default) or pass",
        _choice("fail", "pass"),
        "fail",
        "WHAT",
    ),
    Option(
        "harbor-max-infra-errors",
        "How many infrastructure errors, or unverified trials, leave a run worth judging: a number, or a share such "
        "as 0.1 (the default)",
        _limit,
        None,
        "N|SHARE",
    ),
    Option(
        "harbor-confirm",
        "Run a task that newly fails N more times, and show what came of it (default 0)",
        _whole(0),
        0,
        "N",
    ),
    Option("harbor-save-baseline", "Write the run's rewards to FILE, a baseline", _path, None, "FILE", "path"),
    Option(
        "harbor-update-baseline",
        "Put what ran into the file of --harbor-baseline, whatever the verdict",
        _text,
        False,
        "",
        "switch",
    ),
    Option(
        "harbor-force-baseline",
        "Write baselines also of runs with infrastructure errors",
        _text,
        False,
        "",
        "switch",
    ),
    Option(
        "harbor-environment",
        "What makes the environments: docker, namespace (no engine: Linux namespaces over this machine's own system) "
        "or auto (docker where an engine answers, else namespace; default)",
        _choice("auto", "docker", "namespace"),
        "auto",
        "PROVIDER",
    ),
    Option(
        "harbor-image",
        "Image for tasks that bring neither Dockerfile nor docker_image (default python:3.11-slim)",
        _text,
        "python:3.11-slim",
        "REF",
    ),
    Option(
        "harbor-build",
        "Whether images are built: auto (if not there and not to be pulled; default), always or never",
        _choice("auto", "always", "never"),
        "auto",
        "WHEN",
    ),
    Option(
        "harbor-adapt",
        "What is added to the images of tasks: lean (what a trial needs; default) or hud (also hud-python, which "
        "serves MCP; an agent on the host gets MCP tools at HARBOR_MCP_URL)",
        _choice("lean", "hud"),
        "lean",
        "MODE",
    ),
    Option(
        "harbor-registry",
        "Registry that images are pulled from before they are built, see `pytest-harbor images --push`",
        _registry,
        "",
        "HOST/PREFIX",
    ),
    Option("harbor-timeout-multiplier", "Factor on all deadlines (default 1.0)", _POSITIVE, 1.0, "F"),
    Option(
        "harbor-agent-timeout",
        "Seconds for the agent of tasks that set none (default 3600)",
        _POSITIVE,
        3600.0,
        "SECONDS",
    ),
    Option("harbor-resource-multiplier", "Factor on CPUs and memory (default 1.0)", _POSITIVE, 1.0, "F"),
    Option(
        "harbor-results",
        "Directory of all runs' results (default harbor-results)",
        _path,
        "harbor-results",
        "DIR",
        "path",
    ),
    Option(
        "harbor-html",
        "Write a page with all results to FILE, which needs nothing beside it",
        _path,
        None,
        "FILE",
        "path",
    ),
    Option("harbor-reward-key", "Key of reward.json that holds the reward (default reward)", _text, "", "KEY"),
    Option(
        "harbor-reward-precedence",
        "Which file counts where a verifier leaves both: txt (default) or json",
        _choice("txt", "json"),
        "txt",
        "FILE",
    ),
    Option(
        "harbor-missing-reward",
        "What a verifier that leaves no usable reward means: zero (default) or error",
        _choice("zero", "error"),
        "zero",
        "WHAT",
    ),
    Option(
        "harbor-infra-retries",
        "How often a trial is tried again after an infrastructure error (default 1)",
        _whole(0),
        1,
        "N",
    ),
)


@dataclass(frozen=True)
class HarborConfig:
    """The options of a run, parsed; each attribute is the option of that name.

    Attributes:
        datasets: absolute paths; with a taskset, that of its folder.
        taskset: absolute path of a taskset.json, or None.
        agent: `oracle`, `nop`, `command`, `MODULE:CALLABLE`, or empty where none was chosen.
        agent_env: names and values.
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
    model: str
    attempts: int
    threshold: float
    record_only: bool
    environment: Literal["auto", "docker", "namespace"]
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
    agent, command = _which_agent(config, values["harbor_agent"], values["harbor_agent_command"])
    datasets, taskset = _which_tasks(config, values["harbor_dataset"], values["harbor_taskset"])
    return HarborConfig(
        datasets=datasets,
        taskset=taskset,
        tasks=values["harbor_task"],
        exclude_tasks=values["harbor_exclude_task"],
        shard=values["harbor_shard"],
        agent=agent,
        agent_command=command,
        agent_name=values["harbor_agent_name"],
        agent_where=values["harbor_agent_where"],
        agent_env=values["harbor_agent_env"],
        agent_workdir=values["harbor_agent_workdir"],
        model=values["harbor_model"],
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


def _base(option: Option, config: pytest.Config) -> Path:
    """Return where a path leads from: the ini file's directory where that says it, else where pytest was called."""
    from_ini = config.getoption(option.key) is None and config.getini(option.key) and config.inipath
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
        return Path(os.path.abspath(_base(option, config) / value))  # noqa: PTH100 - links stay
    return value


def spare_task_directories(early_config: pytest.Config) -> None:
    """Replace task directories among pytest's arguments by what is above them, while it looks for conftest.py files.

    It would import those of a task and of its tests/, which belong into the task's environment; those of a converted
    environment likewise.
    """
    namespace = early_config.known_args_namespace
    base = early_config.invocation_params.dir
    given = getattr(namespace, "file_or_dir", None) or getattr(namespace, "harbor_dataset", None)
    if not given and (taskset := getattr(namespace, "harbor_taskset", None)):
        given = [str(Path(taskset).parent)]
    if not given:
        return
    places = []
    for argument in given:
        path = base / str(argument).partition("::")[0]
        directory = path.parent if path.name == "task.toml" else path
        outside = _outside(directory)
        places.append(str(argument) if outside == directory else str(outside))
    namespace.file_or_dir = places


def keep_root_outside(early_config: pytest.Config) -> None:
    """Have pytest's root directory, where its cache is, not be a converted environment.

    pytest takes the directory of the nearest pyproject.toml where no file configures it. That of an environment is for
    its image, and what pytest would leave beside it would become part of that.
    """
    inipath = early_config.inipath
    if inipath is None or inipath.name != "pyproject.toml" or not (inipath.parent / "Dockerfile.hud").is_file():
        return
    if early_config.rootpath != inipath.parent or early_config.known_args_namespace.rootdir:
        return
    # As it would be without that file. pytest itself has decided before the first hook.
    places = [early_config.invocation_params.dir, inipath.parent.parent]
    early_config._rootpath = Path(os.path.commonpath(places))
    early_config._inipath = None


def _outside(directory: Path) -> Path:
    """Return the innermost directory around a path that belongs neither to a task nor to a converted environment."""
    if (directory / "task.toml").is_file():
        directory = directory.parent
    if directory.name == "tasks" and (directory.parent / "Dockerfile.hud").is_file():
        directory = directory.parent
    return directory.parent if (directory / "Dockerfile.hud").is_file() else directory


def _which_agent(config: pytest.Config, agent: str, command: str) -> tuple[str, str]:
    """Settle which of --harbor-agent and --harbor-agent-command counts."""
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
    return agent, command

"""Every option, once: each field of HarborConfig is an option, and states its flag, help, parser and default.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_harbor._util.attempts import Attempts
from pytest_harbor._util.choices import DEFAULT_IMAGE, PROVIDER_CHOICES
from pytest_harbor.plugin.options import parsers
from pytest_harbor.plugin.options.option import Option, option

if TYPE_CHECKING:
    from pytest_harbor._util.choices import ProviderChoice
    from pytest_harbor.gate import GateSpec, Limit
    from pytest_harbor.proxy.budget import SessionBudget
    from pytest_harbor.task.shards import Shard


@dataclass(frozen=True)
class HarborConfig:
    """The options of a run, parsed. Paths are absolute. `pytest --help` lists them in this order."""

    datasets: tuple[Path, ...] = option(
        "harbor-dataset",
        "Run the Harbor tasks below PATH (a task, a dataset, or a directory of datasets); repeatable",
        parsers.path,
        (),
        "PATH",
        "paths",
    )
    taskset: Path | None = option(
        "harbor-taskset",
        "Run the tasks of FILE in its order: a taskset.json that `pytest-harbor convert` wrote",
        parsers.path,
        None,
        "FILE",
        "path",
    )
    tasks: tuple[str, ...] = option(
        "harbor-task",
        "Run only the tasks whose name or id matches GLOB; repeatable",
        parsers.text,
        (),
        "GLOB",
        "many",
    )
    exclude_tasks: tuple[str, ...] = option(
        "harbor-exclude-task",
        "Skip the tasks whose name or id matches GLOB; repeatable",
        parsers.text,
        (),
        "GLOB",
        "many",
    )
    shard: Shard | None = option(
        "harbor-shard",
        "Run only part K of N of the selected tasks, such as 2/8; parts take about the same time if --harbor-baseline "
        "knows how long tasks take, and otherwise have about the same number of tasks",
        parsers.shard,
        None,
        "K/N",
    )
    agent: str = option(
        "harbor-agent",
        "Agent that works on the tasks: oracle (the task's own solution), nop (does nothing), openai (the built-in "
        "terminal agent, for any OpenAI-compatible model), command (see --harbor-agent-command), or a Python callable "
        "as MODULE:CALLABLE or FILE.py:CALLABLE",
        parsers.agent,
        "",
        "AGENT",
        recorded=True,
    )
    agent_command: str = option(
        "harbor-agent-command",
        "Command line of the agent; implies --harbor-agent=command",
        parsers.text,
        "",
        "CMD",
    )
    agent_name: str = option(
        "harbor-agent-name", "Name of the agent in results and baselines", parsers.text, "", "NAME", recorded=True
    )
    agent_where: Literal["container", "host"] = option(
        "harbor-agent-where",
        "Where the agent's command runs: container or host",
        parsers.choice("container", "host"),
        "container",
        "WHERE",
    )
    agent_env: tuple[tuple[str, str], ...] = option(
        "harbor-agent-env",
        "Environment variable of the agent, as NAME=VALUE, or NAME to pass the host's value; repeatable",
        parsers.variable,
        (),
        "NAME[=VALUE]",
        "many",
    )
    agent_workdir: str = option(
        "harbor-agent-workdir",
        "Working directory of the agent in the environment; the task's own if not given",
        parsers.text,
        "",
        "DIR",
    )
    agent_setup: str = option(
        "harbor-agent-setup",
        "Install the agent with a command line, or with a script given by its path, once per image rather than once "
        "per trial",
        parsers.text,
        "",
        "CMD|FILE",
    )
    agent_files: tuple[tuple[Path, str], ...] = option(
        "harbor-agent-files",
        "Copy a file or directory of the host into each environment before the agent starts, as SRC:DST; repeatable",
        parsers.files,
        (),
        "SRC:DST",
        "many",
    )
    agents: Path | None = option(
        "harbor-agents",
        "Run every task with each of the agents in FILE, a TOML file with an [[agents]] table per agent",
        parsers.path,
        None,
        "FILE",
        "path",
    )
    model: str = option(
        "harbor-model",
        "Name of the model; the agent gets it as OPENAI_MODEL, and the model proxy puts it into every call",
        parsers.text,
        "",
        "NAME",
        recorded=True,
    )
    check_model: Literal["list", "probe", "off"] = option(
        "harbor-check-model",
        "How a model is checked before anything is built: list (ask its server for the names of its models, which is "
        "free), probe (ask the model itself for one token) or off",
        parsers.choice("list", "probe", "off"),
        "list",
        "HOW",
    )
    proxy: Literal["off", "live", "record", "replay", "auto"] = option(
        "harbor-proxy",
        "Send the agent's model calls through a proxy that meters and logs them: off (no proxy), live, record (also "
        "saves them in a cassette), replay (answers from the cassette alone) or auto (replays what is recorded, and "
        "records the rest)",
        parsers.choice("off", "live", "record", "replay", "auto"),
        "off",
        "MODE",
    )
    cassettes: Path = option(
        "harbor-cassettes", "Directory of the cassettes of --harbor-proxy", parsers.path, "cassettes", "DIR", "path"
    )
    proxy_log: Literal["full", "meta", "off"] = option(
        "harbor-proxy-log",
        "What the trial's directory keeps of each model call: full (requests and responses), meta (no content) or off",
        parsers.choice("full", "meta", "off"),
        "full",
        "WHAT",
    )
    openai_base_url: str = option(
        "harbor-openai-base-url",
        "Where the proxy sends calls to OpenAI's API; the host's OPENAI_BASE_URL if not given, or else OpenAI",
        parsers.url,
        "",
        "URL",
    )
    openai_key: str = option(
        "harbor-openai-key",
        "Environment variable of the host with the API key for OpenAI's API",
        parsers.name,
        "OPENAI_API_KEY",
        "VARIABLE",
    )
    anthropic_base_url: str = option(
        "harbor-anthropic-base-url",
        "Where the proxy sends calls to Anthropic's API; the host's ANTHROPIC_BASE_URL if not given, or else Anthropic",
        parsers.url,
        "",
        "URL",
    )
    anthropic_key: str = option(
        "harbor-anthropic-key",
        "Environment variable of the host with the API key for Anthropic's API",
        parsers.name,
        "ANTHROPIC_API_KEY",
        "VARIABLE",
    )
    prices: Path | None = option(
        "harbor-prices",
        "Model prices in a TOML file, which take precedence over the built-in ones",
        parsers.path,
        None,
        "FILE",
        "path",
    )
    max_turns: int | None = option(
        "harbor-max-turns", "Most model calls of a trial, through the proxy", parsers.whole(1), None, "N"
    )
    max_tokens: int | None = option(
        "harbor-max-tokens", "Most tokens of a trial, prompts and completions together", parsers.whole(1), None, "N"
    )
    max_cost: float | None = option(
        "harbor-max-cost", "Highest cost of a trial, in US dollars", parsers.POSITIVE, None, "USD"
    )
    session_budget: SessionBudget | None = option(
        "harbor-session-budget",
        "Budget of the whole run, all workers together, in US dollars, or in tokens as in 2000000tokens; tasks that "
        "have not started when it is spent are skipped",
        parsers.session_budget,
        None,
        "USD|Ntokens",
    )
    attempts: Attempts = option(
        "harbor-attempts",
        "Run every task N times, or from N to M times until the verdict is certain",
        parsers.attempts,
        Attempts(),
        "N[..M]",
        recorded=True,
    )
    threshold: float = option("harbor-threshold", "Lowest reward that passes", parsers.finite, 1.0, "F", recorded=True)
    record_only: bool = option(
        "harbor-record-only", "Record rewards without failing any task", parsers.text, False, "", "switch"
    )
    baseline: Path | None = option(
        "harbor-baseline",
        "Compare rewards with those in FILE; the verdict on the run decides the exit status, not single trials",
        parsers.path,
        None,
        "FILE",
        "path",
    )
    changed: bool = option(
        "harbor-changed",
        "Do not run tasks again whose files, agent and settings equal those in --harbor-baseline, if the agent is "
        "deterministic: oracle, nop, or model calls replayed by --harbor-proxy=replay; their rewards are taken from it",
        parsers.text,
        False,
        "",
        "switch",
    )
    gate: GateSpec | None = option(
        "harbor-gate",
        "Rule of the verdict: drop=SHARE, alpha=SHARE, pass-rate=SHARE, cost=+SHARE, tokens=+SHARE, seconds=+SHARE, "
        "each, flip, versus=AGENT (compares the other agents of the run with this one), or several joined by commas, "
        "and `; GROUP: RULE` for parts of the tasks; drop=0.05,alpha=0.05 if not given",
        parsers.rule,
        None,
        "RULE",
    )
    inconclusive: Literal["fail", "pass"] = option(
        "harbor-inconclusive",
        "Exit status of an inconclusive verdict: fail (status 10) or pass (status 0)",
        parsers.choice("fail", "pass"),
        "fail",
        "WHAT",
    )
    max_infra_errors: Limit | None = option(
        "harbor-max-infra-errors",
        "Most infrastructure errors, and most unverified trials, for a verdict: a number, or a share such as 0.1; "
        "0.1 if not given",
        parsers.limit,
        None,
        "N|SHARE",
    )
    min_coverage: float | None = option(
        "harbor-min-coverage",
        "Least share of an agent's tasks in the baseline that must be compared for a verdict; 0.8 if not given",
        parsers.share,
        None,
        "SHARE",
    )
    confirm: int = option(
        "harbor-confirm", "Run a task that newly fails N more times, and report the results", parsers.whole(0), 0, "N"
    )
    save_baseline: Path | None = option(
        "harbor-save-baseline", "Save the run's rewards in FILE as a baseline", parsers.path, None, "FILE", "path"
    )
    update_baseline: Literal["replace", "add"] | None = option(
        "harbor-update-baseline",
        "Update the file of --harbor-baseline with this run's rewards, whatever the verdict: replace those of the same "
        "tasks (also without HOW), or add to them",
        parsers.choice("replace", "add"),
        None,
        "HOW",
        bare="replace",
    )
    force_baseline: bool = option(
        "harbor-force-baseline",
        "Save baselines of all tasks, even if the run was stopped or had infrastructure errors",
        parsers.text,
        False,
        "",
        "switch",
    )
    environment: ProviderChoice = option(
        "harbor-environment",
        "Provider of the environments: docker, namespace (no engine needed: Linux namespaces over this machine's own "
        "system) or auto (docker if an engine answers, or if DOCKER_HOST or a docker context names one; otherwise "
        "namespace)",
        parsers.choice(*PROVIDER_CHOICES),
        "auto",
        "PROVIDER",
        recorded=True,
    )
    image: str = option(
        "harbor-image",
        "Image for tasks with neither a Dockerfile nor a docker_image",
        parsers.text,
        DEFAULT_IMAGE,
        "REF",
        recorded=True,
    )
    build: Literal["auto", "always", "never"] = option(
        "harbor-build",
        "When images are built: auto (if they can be neither found nor pulled), always or never",
        parsers.choice("auto", "always", "never"),
        "auto",
        "WHEN",
    )
    adapt: Literal["lean", "hud"] = option(
        "harbor-adapt",
        "What is added to the images of tasks: lean (what a trial needs) or hud (also hud-python, which serves MCP; an "
        "agent on the host gets MCP tools at HARBOR_MCP_URL)",
        parsers.choice("lean", "hud"),
        "lean",
        "MODE",
        recorded=True,
    )
    registry: str = option(
        "harbor-registry",
        "Registry to pull images from instead of building them; see `pytest-harbor images --push`",
        parsers.registry,
        "",
        "HOST/PREFIX",
    )
    timeout_multiplier: float = option(
        "harbor-timeout-multiplier", "Factor on all deadlines", parsers.POSITIVE, 1.0, "F", recorded=True
    )
    agent_timeout: float = option(
        "harbor-agent-timeout",
        "Seconds that the agent has if the task does not say",
        parsers.POSITIVE,
        3600.0,
        "SECONDS",
        recorded=True,
    )
    resource_multiplier: float = option(
        "harbor-resource-multiplier", "Factor on CPUs and memory", parsers.POSITIVE, 1.0, "F", recorded=True
    )
    results: Path = option(
        "harbor-results", "Directory of the results of all runs", parsers.path, "harbor-results", "DIR", "path"
    )
    html: Path | Literal[False] | None = option(
        "harbor-html",
        "Write the HTML page with all results to FILE instead of report.html in the run's directory, or off for none",
        parsers.path_or_off,
        None,
        "FILE",
        "path",
    )
    junit_properties: Literal["on", "off"] = option(
        "harbor-junit-properties",
        "Whether a trial's test has properties in JUnit XML, such as its reward: on, or off for servers whose schema "
        "refuses them",
        parsers.choice("on", "off"),
        "on",
        "WHETHER",
    )
    reward_key: str = option(
        "harbor-reward-key",
        "Key of reward.json that holds the reward; `reward` if not given",
        parsers.text,
        "",
        "KEY",
        recorded=True,
    )
    reward_precedence: Literal["txt", "json"] = option(
        "harbor-reward-precedence",
        "Which reward file counts if the verifier wrote both: txt or json",
        parsers.choice("txt", "json"),
        "txt",
        "FILE",
        recorded=True,
    )
    missing_reward: Literal["zero", "error"] = option(
        "harbor-missing-reward",
        "What a trial without a usable reward counts as: zero or error",
        parsers.choice("zero", "error"),
        "zero",
        "WHAT",
        recorded=True,
    )
    infra_retries: int = option(
        "harbor-infra-retries", "How often a trial is retried after an infrastructure error", parsers.whole(0), 1, "N"
    )


OPTIONS: tuple[Option, ...] = tuple(
    replace(entry.metadata["option"], field=entry.name) for entry in fields(HarborConfig)
)

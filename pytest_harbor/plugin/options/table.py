"""Every option, once: its flag, its ini key, what values it takes.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pytest_harbor._util.choices import DEFAULT_IMAGE, PROVIDER_CHOICES
from pytest_harbor.plugin.options import parsers as values


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


OPTIONS = (
    Option(
        "harbor-dataset",
        "Run the Harbor tasks below PATH (a task, a dataset, or a directory of datasets); repeatable",
        values.path,
        (),
        "PATH",
        "paths",
    ),
    Option(
        "harbor-taskset",
        "Run the tasks of FILE, in its order: a taskset.json in a folder that pytest-harbor convert has written",
        values.path,
        None,
        "FILE",
        "path",
    ),
    Option(
        "harbor-task", "Run only the tasks whose name or id matches GLOB; repeatable", values.text, (), "GLOB", "many"
    ),
    Option(
        "harbor-exclude-task",
        "Leave out the tasks whose name or id matches GLOB; repeatable",
        values.text,
        (),
        "GLOB",
        "many",
    ),
    Option(
        "harbor-shard",
        "Run only part K of N of the selected tasks, such as 2/8; of about equal duration where --harbor-baseline "
        "knows durations, else of equal number",
        values.shard,
        None,
        "K/N",
    ),
    Option(
        "harbor-agent",
        "What works on the tasks: oracle (the task's own solution), nop (nothing), openai (a small agent that comes "
        "along, for any OpenAI-compatible model), command (see --harbor-agent-command) or a Python callable as "
        "MODULE:CALLABLE",
        values.agent,
        "",
        "AGENT",
    ),
    Option("harbor-agent-command", "Command line of the agent; implies --harbor-agent=command", values.text, "", "CMD"),
    Option("harbor-agent-name", "Name of the agent in results and baselines", values.text, "", "NAME"),
    Option(
        "harbor-agent-where",
        "Where the agent's command runs: container (default) or host",
        values.choice("container", "host"),
        "container",
        "WHERE",
    ),
    Option(
        "harbor-agent-env",
        "Variable of the agent, as K=V, or K to pass the host's value; repeatable",
        values.variable,
        (),
        "K[=V]",
        "many",
    ),
    Option(
        "harbor-agent-workdir",
        "Working directory of the agent in the environment (default: the task's)",
        values.text,
        "",
        "DIR",
    ),
    Option(
        "harbor-agent-setup",
        "Install the agent with a command line, or a script given by its path, once for each image instead of once "
        "for each trial",
        values.text,
        "",
        "CMD|FILE",
    ),
    Option(
        "harbor-agent-files",
        "Put a file or a directory of the host into each environment before the agent works, as SRC:DST; repeatable",
        values.files,
        (),
        "SRC:DST",
        "many",
    ),
    Option(
        "harbor-agents",
        "Run the agents that FILE lists, a TOML file with a table [[agents]] for each, on every task",
        values.path,
        None,
        "FILE",
        "path",
    ),
    Option(
        "harbor-model",
        "Name of the model, which the agent gets as OPENAI_MODEL; the proxy puts it into every call",
        values.text,
        "",
        "NAME",
    ),
    Option(
        "harbor-proxy",
        "What the agent's calls of models go through: off (nothing of ours; default), live (a proxy that meters and "
        "logs them), record (which also keeps them in a cassette), replay (which answers from that alone) or auto "
        "(which replays what it has and records the rest)",
        values.choice("off", "live", "record", "replay", "auto"),
        "off",
        "MODE",
    ),
    Option(
        "harbor-cassettes",
        "Directory of the cassettes of --harbor-proxy (default cassettes)",
        values.path,
        "cassettes",
        "DIR",
        "path",
    ),
    Option(
        "harbor-proxy-log",
        "What is kept of each call in the trial's directory: full (requests and answers; default), meta (only what "
        "is told of them) or off",
        values.choice("full", "meta", "off"),
        "full",
        "WHAT",
    ),
    Option(
        "harbor-openai-base-url",
        "Where the proxy sends calls of OpenAI's API (default: the host's OPENAI_BASE_URL, else OpenAI)",
        values.url,
        "",
        "URL",
    ),
    Option(
        "harbor-openai-key",
        "Variable of the host with the key for that (default OPENAI_API_KEY)",
        values.name,
        "OPENAI_API_KEY",
        "VARIABLE",
    ),
    Option(
        "harbor-anthropic-base-url",
        "Where the proxy sends calls of Anthropic's API (default: the host's ANTHROPIC_BASE_URL, else Anthropic)",
        values.url,
        "",
        "URL",
    ),
    Option(
        "harbor-anthropic-key",
        "Variable of the host with the key for that (default ANTHROPIC_API_KEY)",
        values.name,
        "ANTHROPIC_API_KEY",
        "VARIABLE",
    ),
    Option(
        "harbor-prices",
        "Prices of models, in a TOML file, beside and before those that are built in",
        values.path,
        None,
        "FILE",
        "path",
    ),
    Option(
        "harbor-max-turns",
        "Calls of models that a trial may make through the proxy",
        values.whole(1),
        None,
        "N",
    ),
    Option("harbor-max-tokens", "Tokens, of prompts and answers, that a trial may use", values.whole(1), None, "N"),
    Option("harbor-max-cost", "US dollars that a trial may cost", values.POSITIVE, None, "USD"),
    Option(
        "harbor-session-budget",
        "What the run may use, all its workers together: US dollars, or tokens as in 2000000tokens; tasks that have "
        "not begun when it is spent are skipped",
        values.session_budget,
        None,
        "USD|Ntokens",
    ),
    Option("harbor-attempts", "Run every task N times (default 1)", values.whole(1), 1, "N"),
    Option("harbor-threshold", "Lowest reward that passes (default 1.0)", values.finite, 1.0, "F"),
    Option("harbor-record-only", "Record rewards, and fail nothing because of one", values.text, False, "", "switch"),
    Option(
        "harbor-baseline",
        "Compare the rewards with those in FILE: the run's verdict, not single trials, decides the exit status",
        values.path,
        None,
        "FILE",
        "path",
    ),
    Option(
        "harbor-gate",
        "Rule of the verdict: drop=SHARE, alpha=SHARE, pass-rate=SHARE, each, or several joined by commas "
        "(default drop=0.05,alpha=0.05)",
        values.rule,
        None,
        "RULE",
    ),
    Option(
        "harbor-inconclusive",
        "What a verdict that cannot be reached means for the exit status: fail (status 10; default) or pass",
        values.choice("fail", "pass"),
        "fail",
        "WHAT",
    ),
    Option(
        "harbor-max-infra-errors",
        "How many infrastructure errors, or unverified trials, leave a run worth judging: a number, or a share such "
        "as 0.1 (the default)",
        values.limit,
        None,
        "N|SHARE",
    ),
    Option(
        "harbor-confirm",
        "Run a task that newly fails N more times, and show what came of it (default 0)",
        values.whole(0),
        0,
        "N",
    ),
    Option("harbor-save-baseline", "Write the run's rewards to FILE, a baseline", values.path, None, "FILE", "path"),
    Option(
        "harbor-update-baseline",
        "Put what ran into the file of --harbor-baseline, whatever the verdict",
        values.text,
        False,
        "",
        "switch",
    ),
    Option(
        "harbor-force-baseline",
        "Write baselines also of runs with infrastructure errors",
        values.text,
        False,
        "",
        "switch",
    ),
    Option(
        "harbor-environment",
        "What makes the environments: docker, namespace (no engine: Linux namespaces over this machine's own system) "
        "or auto (docker where an engine answers, else namespace; default)",
        values.choice(*PROVIDER_CHOICES),
        "auto",
        "PROVIDER",
    ),
    Option(
        "harbor-image",
        f"Image for tasks that bring neither Dockerfile nor docker_image (default {DEFAULT_IMAGE})",
        values.text,
        DEFAULT_IMAGE,
        "REF",
    ),
    Option(
        "harbor-build",
        "Whether images are built: auto (if not there and not to be pulled; default), always or never",
        values.choice("auto", "always", "never"),
        "auto",
        "WHEN",
    ),
    Option(
        "harbor-adapt",
        "What is added to the images of tasks: lean (what a trial needs; default) or hud (also hud-python, which "
        "serves MCP; an agent on the host gets MCP tools at HARBOR_MCP_URL)",
        values.choice("lean", "hud"),
        "lean",
        "MODE",
    ),
    Option(
        "harbor-registry",
        "Registry that images are pulled from before they are built, see `pytest-harbor images --push`",
        values.registry,
        "",
        "HOST/PREFIX",
    ),
    Option("harbor-timeout-multiplier", "Factor on all deadlines (default 1.0)", values.POSITIVE, 1.0, "F"),
    Option(
        "harbor-agent-timeout",
        "Seconds for the agent of tasks that set none (default 3600)",
        values.POSITIVE,
        3600.0,
        "SECONDS",
    ),
    Option("harbor-resource-multiplier", "Factor on CPUs and memory (default 1.0)", values.POSITIVE, 1.0, "F"),
    Option(
        "harbor-results",
        "Directory of all runs' results (default harbor-results)",
        values.path,
        "harbor-results",
        "DIR",
        "path",
    ),
    Option(
        "harbor-html",
        "Write a page with all results to FILE, which needs nothing beside it",
        values.path,
        None,
        "FILE",
        "path",
    ),
    Option("harbor-reward-key", "Key of reward.json that holds the reward (default reward)", values.text, "", "KEY"),
    Option(
        "harbor-reward-precedence",
        "Which file counts where a verifier leaves both: txt (default) or json",
        values.choice("txt", "json"),
        "txt",
        "FILE",
    ),
    Option(
        "harbor-missing-reward",
        "What a verifier that leaves no usable reward means: zero (default) or error",
        values.choice("zero", "error"),
        "zero",
        "WHAT",
    ),
    Option(
        "harbor-infra-retries",
        "How often a trial is tried again after an infrastructure error (default 1)",
        values.whole(0),
        1,
        "N",
    ),
)

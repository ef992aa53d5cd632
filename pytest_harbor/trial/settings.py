"""The settings of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TrialSettings:
    """The settings of a trial, each the option of the same name.

    Attributes:
        threshold: the lowest reward that passes.
        timeout_multiplier: factor on every deadline of task.toml.
        agent_timeout: seconds for the agent of a task that sets none.
        resource_multiplier: factor on CPUs and memory.
        agent_env: environment variables of the agent, resolved.
        agent_setup: a command line or script that installs the agent, once for each image; empty for none.
        agent_files: files and directories of the host, and where they go in the environment before the agent starts.
        agent_workdir: working directory of the agent; empty for the task's own.
        model: name of the model that the agent should use; empty for none.
        reward_key: key of reward.json that holds the reward; empty for `reward`.
        reward_precedence: which reward file counts if there are both.
        missing_reward: whether a missing reward counts as 0 or as an error.
        infra_retries: how often a trial is retried after an infrastructure error.
        model_calls: whether the agent called a model for this task in an earlier run; None if that is not known.

    """

    threshold: float = 1.0
    timeout_multiplier: float = 1.0
    agent_timeout: float = 3600.0
    resource_multiplier: float = 1.0
    agent_env: Mapping[str, str] = field(default_factory=dict)
    agent_setup: str = ""
    agent_files: Sequence[tuple[Path, str]] = ()
    agent_workdir: str = ""
    model: str = ""
    reward_key: str = ""
    reward_precedence: Literal["txt", "json"] = "txt"
    missing_reward: Literal["zero", "error"] = "zero"
    infra_retries: int = 1
    model_calls: bool | None = None

"""What a user can set about a trial."""

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
        agent_env: variables of the agent, resolved.
        agent_setup: a command line or a script that installs the agent, once for each image; empty for none.
        agent_files: what of the host is put where in the environment before the agent works.
        agent_workdir: where the agent works; empty for the task's own place.
        model: name of the model the agent is told to use; empty for none.
        reward_key: key of reward.json that holds the reward; empty for `reward`.
        reward_precedence: which reward file counts where there are both.
        missing_reward: whether no usable reward is a reward of 0 or an error.
        infra_retries: how often a trial that an infrastructure error ended is tried again.

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

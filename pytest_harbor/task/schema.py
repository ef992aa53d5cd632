"""The schema of task.toml, as Harbor 0.25 reads it (schema versions 1.0 to 1.4).

These models accept some deviations that Harbor rejects but that are common in real datasets: a name that is not
``org/name``, and numbers as values of environment variables. Like Harbor, they read numbers and booleans in quotes.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pytest_harbor.task.values import (
    Count,
    Cpus,
    Delay,
    Env,
    Memory,
    MinReward,
    Seconds,
    Storage,
    User,
    Version,
    size_mb,
)

NetworkMode = Literal["public", "no-network", "allowlist"]


class Table(BaseModel):
    """A table of task.toml; unknown keys are ignored here, and config_warnings reports them."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    old_names: ClassVar[dict[str, str]] = {}
    """Deprecated keys that are still read, and the field that each sets."""


class ArtifactConfig(Table):
    """Files to copy out of an environment before it is removed; a string in task.toml is the source."""

    source: str
    destination: str | None = None
    exclude: list[str] = []
    service: str = "main"


def _artifacts(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [{"source": item} if isinstance(item, str) else item for item in value]


Artifacts = Annotated[list[ArtifactConfig], BeforeValidator(_artifacts)]


class HealthcheckConfig(Table):
    """The command that checks whether an environment is ready; times in seconds."""

    command: str
    interval_sec: Seconds = 5.0
    timeout_sec: Seconds = 30.0
    start_period_sec: Delay = 0.0
    start_interval_sec: Seconds = 5.0
    retries: Count = 3


class McpServerConfig(Table):
    """An MCP server that the task provides for agents."""

    name: str
    transport: Annotated[
        Literal["sse", "stdio", "streamable-http"],
        BeforeValidator(lambda value: "streamable-http" if value == "http" else value),
    ] = "sse"
    url: str | None = None
    command: str | None = None
    args: list[str] = []
    headers: Env = {}


class EnvironmentConfig(Table):
    """``[environment]``: the container; timeouts in seconds, memory and storage in MB (2**20 bytes).

    The deprecated keys ``memory = "2G"`` and ``storage = "10G"`` set memory_mb and storage_mb unless those are given.
    """

    old_names: ClassVar[dict[str, str]] = {"memory": "memory_mb", "storage": "storage_mb"}

    build_timeout_sec: Seconds = 600.0
    docker_image: Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value)] = None
    os: str = "linux"
    cpus: Cpus | None = None
    memory_mb: Memory | None = None
    storage_mb: Storage | None = None
    gpus: Count = 0
    gpu_types: list[str] = []
    env: Env = {}
    workdir: str | None = None
    mcp_servers: list[McpServerConfig] = []
    skills_dir: str | None = None
    healthcheck: HealthcheckConfig | None = None
    network_mode: NetworkMode = "public"
    allowed_hosts: list[str] = []
    allow_internet: bool = True

    @model_validator(mode="before")
    @classmethod
    def _old_sizes(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        table = dict(table)
        for old, new in cls.old_names.items():
            if old in table:
                size = size_mb(old, table.pop(old))
                table.setdefault(new, size)
        return table


class AgentConfig(Table):
    """``[agent]``: timeout_sec in seconds; None if the task sets no limit."""

    timeout_sec: Seconds | None = None
    env: Env = {}
    user: User | None = None
    network_mode: NetworkMode | None = None
    allowed_hosts: list[str] = []


class CollectConfig(Table):
    """``[[verifier.collect]]``: a command that runs before artifacts are collected; timeout_sec in seconds."""

    command: str
    service: str = "main"
    timeout_sec: Seconds = 60.0
    user: User | None = None


class VerifierConfig(Table):
    """``[verifier]``: timeout_sec in seconds."""

    timeout_sec: Seconds = 600.0
    env: Env = {}
    user: User | None = None
    environment_mode: Literal["shared", "separate"] | None = None
    environment: EnvironmentConfig | None = None
    collect: list[CollectConfig] = []
    network_mode: NetworkMode | None = None
    allowed_hosts: list[str] = []

    @property
    def separate(self) -> bool:
        """Whether the verifier runs in its own environment: it says so, or has an environment table."""
        return self.environment_mode == "separate" or self.environment is not None


class SolutionConfig(Table):
    """``[solution]``: settings of the oracle agent."""

    env: Env = {}


class TaskTable(Table):
    """``[task]``: metadata of the task; recorded, but never used to find it."""

    name: str | None = None
    version: Version | None = None
    description: str | None = None
    authors: list[Any] = []
    keywords: list[str] = []


class StepConfig(Table):
    """``[[steps]]``: one step of a multi-step task."""

    name: str
    agent: AgentConfig = AgentConfig()
    verifier: VerifierConfig = VerifierConfig()
    min_reward: MinReward | None = None
    healthcheck: HealthcheckConfig | None = None
    artifacts: Artifacts = []


class TaskConfig(Table):
    """A complete task.toml; ``metadata`` may contain anything."""

    old_names: ClassVar[dict[str, str]] = {"version": "schema_version"}

    schema_version: Version | None = None
    task: TaskTable = TaskTable()
    metadata: dict[str, Any] = Field(default_factory=dict)
    source: str | None = None
    multi_step_reward_strategy: Literal["mean", "final"] | None = None
    agent: AgentConfig = AgentConfig()
    verifier: VerifierConfig = VerifierConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    solution: SolutionConfig = SolutionConfig()
    steps: list[StepConfig] = []
    artifacts: Artifacts = []

    @model_validator(mode="before")
    @classmethod
    def _old_version(cls, document: Any) -> Any:
        if isinstance(document, dict) and "version" in document:
            return {"schema_version": document["version"], **document}
        return document

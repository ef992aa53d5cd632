"""What an environment and an agent start with: files, environment variables, resources."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_harbor.environment import Environment, Resources, StartRequest, Upload
from pytest_harbor.environment.uploads import agent_file_problems, line_fix
from pytest_harbor.errors import UnmetRequirement
from pytest_harbor.image import Image
from pytest_harbor.task import Task
from pytest_harbor.task.values import HIGHEST_MEMORY_MB, LOWEST_CPUS, LOWEST_MEMORY_MB
from pytest_harbor.task.variables import MissingVariable, resolve_variables
from pytest_harbor.trial.settings import TrialSettings

TESTS = "/tests"
TASK_DIRECTORY = "/task"
OTHER_TASK_DIRECTORY = "/harbor-task"
"""Where the task's texts are if the image has files of its own with their names in /task."""


def start_request(
    task: Task, image: Image, run: str, variables: Mapping[str, str], settings: TrialSettings
) -> StartRequest:
    """Return how to start the environment of a trial.

    Args:
        task: the task.
        image: the image to start from.
        run: id of the run.
        variables: environment variables of everything in the environment.
        settings: the trial's settings.

    """
    config = task.config.environment
    uses_default_image = task.dockerfile is None and config.docker_image is None
    factor = settings.resource_multiplier
    return StartRequest(
        name=f"harbor-{slug(task.name)}-{secrets.token_hex(5)}",
        task=task.id,
        run=run,
        workdir=config.workdir or ("/app" if uses_default_image and image.details.workdir in ("", "/") else ""),
        variables=variables,
        resources=Resources(
            cpus=max(config.cpus * factor, LOWEST_CPUS) if config.cpus else None,
            memory_mb=_megabytes(config.memory_mb * factor) if config.memory_mb else None,
            gpus=config.gpus or 0,
        ),
        network=task.has_network,
        uploads=first_uploads(task),
    )


def _megabytes(memory: float) -> int:
    return int(min(max(memory, LOWEST_MEMORY_MB), HIGHEST_MEMORY_MB))


def first_uploads(task: Task) -> list[Upload]:
    """Return what is uploaded before anything runs: the task's texts as in verifiers, /logs as in Harbor."""
    return [
        *task_texts(task, TASK_DIRECTORY),
        Upload("/logs", None, 0o755, keep=True),
        *(Upload(f"/logs/{name}", None, 0o777) for name in ("agent", "verifier", "artifacts")),
    ]


def task_texts(task: Task, directory: str) -> list[Upload]:
    """Return the uploads of the task's texts; they replace nothing."""
    return [
        Upload(directory, None, 0o755, keep=True),
        Upload(f"{directory}/instruction.md", task.instruction.encode("utf-8", "surrogateescape"), keep=True),
        Upload(f"{directory}/task.toml", task.toml_path.read_bytes(), keep=True),
    ]


def place_task_texts(task: Task, environment: Environment) -> tuple[str, str]:
    """Return the directory of the task's texts in an environment, and a note if it is not the usual one."""
    taken = sorted(path for path in environment.kept if path.startswith(f"{TASK_DIRECTORY}/"))
    if not taken:
        return TASK_DIRECTORY, ""
    environment.upload(task_texts(task, OTHER_TASK_DIRECTORY))
    return (
        OTHER_TASK_DIRECTORY,
        f"the image has its own {' and '.join(taken)}; the task's are in {OTHER_TASK_DIRECTORY} (HARBOR_TASK_DIR)",
    )


def environment_variables(task: Task) -> dict[str, str]:
    """Return the environment variables of everything in an environment.

    Raises:
        MissingVariable: [environment].env needs an environment variable of the host that is not set.

    """
    settings = task.config.environment
    variables = resolve_variables(settings.env, "[environment].env")
    for server in settings.mcp_servers:
        if server.url:
            variables[f"HARBOR_MCP_{slug(server.name).upper().replace('-', '_')}_URL"] = server.url
    return variables


def works_in_tests(workdir: str) -> bool:
    """Return True if a working directory is where the tests go, so that what an agent leaves there must stay."""
    return posixpath.normpath(workdir) == TESTS or posixpath.normpath(workdir).startswith(f"{TESTS}/")


def check_agent_files(files: Sequence[tuple[Path, str]], line: str) -> list[str]:
    """Return notes on agent files that cannot be run as scripts.

    Args:
        files: the agent files.
        line: the agent's command line.

    Raises:
        UnmetRequirement: the command line runs such a file.

    """
    notes = []
    for target, problem, fails in agent_file_problems(files, line):
        note = f"the agent's {target} has {problem}, with which it cannot be run as a script"
        if fails:
            raise UnmetRequirement(note, line_fix(problem))
        notes.append(note)
    return notes


def agent_variables(
    task: Task, settings: TrialSettings, workdir: str, trial_id: str, directory: str = TASK_DIRECTORY
) -> dict[str, str]:
    """Return the environment variables that describe an agent's task, as in verifiers' HarborEnv."""
    variables = {
        "HARBOR_TASK_NAME": task.name,
        "HARBOR_TASK_DIR": directory,
        "HARBOR_INSTRUCTION_PATH": f"{directory}/instruction.md",
        "AGENT_WORKDIR": workdir,
        "HARBOR_TRIAL_ID": trial_id,
    }
    return {**variables, "OPENAI_MODEL": settings.model} if settings.model else variables


def task_agent_env(task: Task, settings: TrialSettings) -> tuple[dict[str, str], dict[str, MissingVariable]]:
    """Return the environment variables of [agent].env, and those that need a variable of the host that is not set.

    Those that --harbor-agent-env overrides are in neither.
    """
    found: dict[str, str] = {}
    missing = {}
    for name, value in task.config.agent.env.items():
        if name not in settings.agent_env:
            try:
                found |= resolve_variables({name: value}, "[agent].env")
            except MissingVariable as error:
                missing[name] = error
    return found, missing


def slug(text: str) -> str:
    """Turn a text into a part of a container's name: at most 40 lower-case letters, digits and hyphens."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:40] or "task"

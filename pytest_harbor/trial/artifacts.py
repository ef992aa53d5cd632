"""Collect hooks and artifacts: the files of an environment that a task keeps. Problems become warnings."""

from __future__ import annotations

import json
import posixpath
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathspec import GitIgnoreSpec

from pytest_harbor.environment import Environment
from pytest_harbor.errors import CannotExecute
from pytest_harbor.task import Task
from pytest_harbor.task.values import user_text

if TYPE_CHECKING:
    from pytest_harbor.task.schema import ArtifactConfig


def run_collect_hooks(task: Task, environment: Environment) -> list[str]:
    """Run the hooks of [[verifier.collect]], and return the problems."""
    problems = []
    for hook in task.config.verifier.collect:
        if hook.service != "main":
            problems.append(f"[[verifier.collect]] for service {hook.service} was skipped: the only service is main")
            continue
        try:
            result = environment.exec(hook.command, user=user_text(hook.user), timeout=hook.timeout_sec)
        except CannotExecute as error:
            problems.append(f"collect hook {hook.command!r}: {error}")
            continue
        if result.timed_out or result.exit_code != 0:
            how = "timed out" if result.timed_out else f"exit code {result.exit_code}"
            problems.append(f"collect hook {hook.command!r}: {how}")
    return problems


def collect_artifacts(task: Task, environment: Environment, directory: Path) -> list[str]:
    """Copy the task's artifacts into a directory with a manifest.json, and return the problems.

    /logs/artifacts is not included: it is downloaded with /logs after the tests.
    """
    if not task.config.artifacts:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    manifest: list[dict[str, Any]] = []
    problems = []
    for artifact in task.config.artifacts:
        entry: dict[str, Any] = {
            "source": artifact.source,
            "destination": _destination(artifact),
            "status": "ok",
        }
        try:
            entry["skipped"] = _copy(artifact, environment, directory / entry["destination"])
        except (OSError, CannotExecute) as error:
            entry["status"] = "failed"
            entry["error"] = str(error)
            problems.append(f"artifact {artifact.source}: {error}")
        manifest.append(entry)
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return problems


def _copy(artifact: ArtifactConfig, environment: Environment, target: Path) -> list[str]:
    if artifact.service != "main":
        raise OSError(f"service {artifact.service} does not exist: the only service is main")
    if environment.exec(["test", "-d", artifact.source], user="0", cwd="/").exit_code == 0:
        skipped = environment.download(artifact.source, target).skipped
        return [*skipped, *_remove_excluded(target, artifact.exclude)]
    environment.read_file(artifact.source, target)
    return []


def _remove_excluded(directory: Path, patterns: list[str]) -> list[str]:
    """Remove the files that patterns in gitignore syntax exclude, and return a note for each."""
    if not patterns:
        return []
    rules = GitIgnoreSpec.from_lines(patterns)
    notes = []
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory).as_posix()
        if path.exists() and rules.match_file(f"{relative}/" if path.is_dir() else relative):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            notes.append(f"{relative}: excluded by the task")
    return notes


def _destination(artifact: ArtifactConfig) -> str:
    """Return the artifact's relative path, which stays in the directory whatever the task says."""
    path = artifact.destination or posixpath.basename(artifact.source.rstrip("/")) or "artifact"
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "artifact"

"""Collect hooks and artifacts: what a task wants to keep of an environment, best effort."""

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

if TYPE_CHECKING:
    from pytest_harbor.task.schema import ArtifactConfig


def run_collect_hooks(task: Task, environment: Environment) -> list[str]:
    """Run [[verifier.collect]] and return what went wrong."""
    problems = []
    for hook in task.config.verifier.collect:
        if hook.service != "main":
            problems.append(f"[[verifier.collect]] for service {hook.service} was left out: there is only main")
            continue
        user = None if hook.user is None else str(hook.user)
        try:
            result = environment.exec(hook.command, user=user, timeout=hook.timeout_sec)
        except CannotExecute as error:
            problems.append(f"collect hook {hook.command!r}: {error}")
            continue
        if result.timed_out or result.exit_code != 0:
            how = "timed out" if result.timed_out else f"exit code {result.exit_code}"
            problems.append(f"collect hook {hook.command!r}: {how}")
    return problems


def collect_artifacts(task: Task, environment: Environment, directory: Path) -> list[str]:
    """Copy the task's artifacts below a directory with a manifest.json, and return what could not be copied.

    /logs/artifacts is not among them: it comes with /logs when the tests have run.
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
        raise OSError(f"service {artifact.service} does not exist: there is only main")
    if environment.exec(["test", "-d", artifact.source], user="0", cwd="/").exit_code == 0:
        skipped = environment.download(artifact.source, target).skipped
        return [*skipped, *_leave_out(target, artifact.exclude)]
    environment.read_file(artifact.source, target)
    return []


def _leave_out(directory: Path, patterns: list[str]) -> list[str]:
    """Remove what patterns (gitignore syntax) exclude, and return a note for each."""
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
    """Return a relative path that stays below the directory, whatever the task says."""
    wanted = artifact.destination or posixpath.basename(artifact.source.rstrip("/")) or "artifact"
    parts = [part for part in wanted.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "artifact"

"""The agent that knows the answer: it runs the task's own solution."""

from __future__ import annotations

import stat
from pathlib import Path

from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.agent.command import run_line
from pytest_harbor.environment import Upload
from pytest_harbor.task import Task
from pytest_harbor.task.variables import resolve_variables

SOLUTION = "/solution"


class OracleAgent:
    """Uploads solution/ and runs its solve.sh, as Harbor's oracle does. Its exit code is shown and never decides."""

    name = "oracle"

    def unfit(self, task: Task) -> str | None:
        """A task without a solution cannot be solved by it."""
        return None if task.has_solution else "the task has no solution/solve.sh for the oracle to run"

    def run(self, context: AgentContext) -> AgentReport:
        """Run the solution."""
        uploads, _ = script_uploads(context.task, "solution", SOLUTION, "solve.sh")
        context.environment.upload(uploads)
        own = resolve_variables(context.task.config.solution.env, "[solution].env")
        variables = {"DEBIAN_FRONTEND": "noninteractive", **context.variables, **own}
        return run_line(f"({SOLUTION}/solve.sh)", context, variables)


def script_uploads(task: Task, folder: str, target: str, script: str) -> tuple[list[Upload], list[str]]:
    """Return the uploads that put a folder of a task in place with its script ready to run, and what was changed for it.

    The script gets its run bit (Terminal-Bench's scripts have none) and, where it was written with CRLF, plain line ends: no
    kernel finds the interpreter `bash\\r`.
    """
    uploads = [Upload(target, None, 0o755)]
    notes = []
    for relative, path in task.upload_files("tests" if folder == "tests" else "solution"):
        place = f"{target}/{relative}"
        if str(relative) == script and path.is_file():
            content = path.read_bytes()
            if b"\r\n" in content:
                content = content.replace(b"\r\n", b"\n")
                notes.append(f"{folder}/{script} has CRLF line ends; it was run with LF")
            uploads.append(Upload(place, content, 0o755))
        else:
            uploads.append(Upload(place, path, _readable(path)))
    return uploads, notes


def _readable(path: Path) -> int | None:
    """Return a mode that lets every user of the environment read a file: who checked the task out may have been strict."""
    if path.is_symlink():
        return None
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode | (0o555 if mode & stat.S_IXUSR or path.is_dir() else 0o444)

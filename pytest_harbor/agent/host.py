"""An agent that is a command line run on the host, with the provider's client to reach the environment."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pytest_harbor._util.choices import COMMAND
from pytest_harbor._util.unpatched import Popen, call, monotonic, sleep, wait
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.environment.shell_scripts import first_word
from pytest_harbor.environment.uploads import fails_with, line_fix, line_problem
from pytest_harbor.errors import CannotExecute, error_message
from pytest_harbor.task import Task

TICK = 0.05
# Seconds to keep killing processes that fork or are slow to die.
KILL_SECONDS = 5.0


class HostCommandAgent:
    """An agent that runs a command line on the host, in its own working directory below the trial's directory.

    The command gets the host's environment variables, those of the agent, HARBOR_CONTAINER (the container's name, for
    `docker exec`) and HARBOR_EXEC (the prefix that runs a command in the environment as root). It is the user's own
    program, so unlike anything in the environment it is trusted.

    Args:
        line: the command line, run by sh.
        name: the agent's name.

    """

    where = "host"

    def __init__(self, line: str, name: str = COMMAND) -> None:
        self.line = line
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """Return None: a command can work on any task."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Run the command, then kill everything it started on the host."""
        workdir = context.directory / "host"
        workdir.mkdir(parents=True, exist_ok=True)
        # Every later process in the environment belongs to the agent.
        first = context.environment.exec(["true"], user="0", cwd="/").process
        (workdir / "instruction.md").write_text(context.task.instruction, encoding="utf-8")
        variables = {**os.environ, **context.variables, **context.host_variables}
        variables["HARBOR_CONTAINER"] = context.environment.name
        variables["HARBOR_EXEC"] = context.environment.exec_prefix()
        if problem := self._problem(variables, workdir):
            raise CannotExecute(*problem)
        process = Popen(
            ["/bin/sh", "-c", self.line],
            cwd=workdir,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            timed_out = not self._wait(process, context)
        finally:
            kill_tree(process.pid, context.variables.get("HARBOR_TRIAL_ID", ""))
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        return AgentReport(None if timed_out else process.returncode, timed_out, first)

    def unmet_requirement(self, variables: Mapping[str, str]) -> str:
        """Return that the command does not exist on the host, with the fix, or ""."""
        problem = self._problem({**os.environ, **variables}, Path("/nonexistent"))
        return error_message(*problem) if problem else ""

    def _problem(self, variables: Mapping[str, str], workdir: Path) -> tuple[str, str] | None:
        """Return why the command cannot be started, and the fix, or None."""
        return self._missing(variables, workdir) or self._unrunnable()

    def _unrunnable(self) -> tuple[str, str] | None:
        """Return which script of the command line cannot be run, and the fix, or None."""
        try:
            words = shlex.split(self.line)
        except ValueError:
            return None
        for script in (word for word in words if word.startswith("/") and os.access(word, os.R_OK)):
            path = Path(script)
            if path.is_file() and (problem := line_problem(path)) and fails_with(self.line, script, path):
                return f"{script} has {problem}, with which it cannot be run as a script", line_fix(problem)
        return None

    def _missing(self, variables: Mapping[str, str], workdir: Path) -> tuple[str, str] | None:
        """Return that the program of the command line does not exist, and the fix, or None."""
        word = first_word(self.line)
        if "/" in word:
            # The shell resolves the path from the agent's working directory.
            program = workdir / word
            if os.access(program, os.X_OK) and not program.is_dir():
                return None
            fact = f"{word}: program not found on the host, or not executable"
            return fact, "give an absolute path, because the agent runs in its own working directory"
        if not word or shutil.which(word, path=variables.get("PATH")) is not None or _is_builtin(word):
            return None
        fact = f"{word}: command not found on the host, or not executable"
        return fact, "install it, or give its absolute path; without --harbor-agent-where=host it runs in the container"

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], context: AgentContext) -> bool:
        """Copy the output to the log until the command ends; return False if it ran out of time."""
        assert process.stdout is not None
        began = monotonic()
        with selectors.DefaultSelector() as selector:
            os.set_blocking(process.stdout.fileno(), False)
            selector.register(process.stdout, selectors.EVENT_READ)
            open_output = True
            while True:
                ended = process.poll() is not None
                if open_output and selector.select(0 if ended else TICK):
                    data = process.stdout.read(1 << 16)
                    if data:
                        context.log(data)
                    elif data == b"":
                        selector.unregister(process.stdout)
                        open_output = False
                elif ended:
                    return True
                if monotonic() - began - context.excluded_seconds() >= context.timeout:
                    return ended
                if not open_output and not ended:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        wait(process, TICK)


def _is_builtin(word: str) -> bool:
    """Return True if a word is a builtin or keyword of sh."""
    code, output = call(["/bin/sh", "-c", 'command -v -- "$1"', "sh", word])
    return code == 0 and not output.startswith(b"/")


def kill_tree(pid: int, trial: str) -> None:
    """Kill a process, its session, and every process with this trial's HARBOR_TRIAL_ID."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if not trial:
        return
    # A daemon leaves its session but keeps its environment variables. Without /proc (macOS), the session must do.
    entry = f"HARBOR_TRIAL_ID={trial}".encode()
    deadline = monotonic() + KILL_SECONDS
    while (found := _processes_with(entry)) and monotonic() < deadline:
        for child in found:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        # Repeat until they are gone: one may have forked in the meantime, and dying takes a moment.
        sleep(0.01)


def _processes_with(variable: bytes) -> list[int]:
    """Return the ids of the processes with an environment variable, given as `NAME=VALUE`; dead processes have none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, ValueError):
            if variable in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found

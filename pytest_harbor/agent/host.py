"""An agent that is a command on the host and reaches into the environment with the provider's own client."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from pathlib import Path

from pytest_harbor._util.choices import COMMAND
from pytest_harbor.agent.base import AgentContext, AgentReport
from pytest_harbor.environment.shell_scripts import first_word
from pytest_harbor.errors import CannotExecute
from pytest_harbor.task import Task

TICK = 0.05
# Seconds after which processes that do not die are left alone.
KILL_PATIENCE = 5.0


class HostCommandAgent:
    """Runs a command line on the host, in a working directory of its own below the trial's directory.

    It sees the host's environment variables and, on top, the agent's, HARBOR_CONTAINER, the container's name for
    `docker exec`, and HARBOR_EXEC, words to put before a command that is to run in the environment as root. Unlike
    what runs in the environment it is trusted: it is the user's own program.

    Args:
        line: the command line, for sh.
        name: the agent's name.

    """

    where = "host"

    def __init__(self, line: str, name: str = COMMAND) -> None:
        self.line = line
        self.name = name

    def skip_reason(self, task: Task) -> str | None:
        """A command can be tried on any task."""
        return None

    def run(self, context: AgentContext) -> AgentReport:
        """Run the command; when its time is out, end everything it started, here and in the environment."""
        workdir = context.directory / "host"
        workdir.mkdir(parents=True, exist_ok=True)
        # Whatever comes into being in the environment from here on is the agent's.
        first = context.environment.exec(["true"], user="0", cwd="/").process
        (workdir / "instruction.md").write_text(context.task.instruction, encoding="utf-8")
        variables = {**os.environ, **context.variables, **context.host_variables}
        variables["HARBOR_CONTAINER"] = context.environment.name
        variables["HARBOR_EXEC"] = context.environment.exec_prefix()
        word = first_word(self.line)
        if "/" in word:
            # As the shell will see it: from the agent's own working directory.
            if not os.access(workdir / word, os.X_OK) or (workdir / word).is_dir():
                raise CannotExecute(
                    f"{word}: program not found on the host, or not executable",
                    "give an absolute path, as the agent has a working directory of its own",
                )
        elif word and shutil.which(word, path=variables.get("PATH")) is None and not _is_builtin(word):
            raise CannotExecute(f"{word}: command not found on the host, or not executable")
        process = subprocess.Popen(
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

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], context: AgentContext) -> bool:
        """Hand the output over until the command ends; False when its time ran out first."""
        assert process.stdout is not None
        began = time.monotonic()
        with selectors.DefaultSelector() as selector:
            os.set_blocking(process.stdout.fileno(), False)
            selector.register(process.stdout, selectors.EVENT_READ)
            holding = True
            while True:
                ended = process.poll() is not None
                if holding and selector.select(0 if ended else TICK):
                    data = process.stdout.read(1 << 16)
                    if data:
                        context.log(data)
                    elif data == b"":
                        selector.unregister(process.stdout)
                        holding = False
                elif ended:
                    return True
                if time.monotonic() - began - context.excluded_seconds() >= context.timeout:
                    return ended
                if not holding and not ended:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(TICK)


def _is_builtin(word: str) -> bool:
    """Tell whether sh knows a word without a program of that name."""
    said = subprocess.run(["/bin/sh", "-c", 'command -v -- "$1"', "sh", word], capture_output=True, check=False)
    return said.returncode == 0 and not said.stdout.startswith(b"/")


def kill_tree(pid: int, trial: str) -> None:
    """Kill a process, its session, and everything that carries a trial's HARBOR_TRIAL_ID."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if not trial:
        return
    # A daemon leaves its session but not its environment. Where there is no /proc (macOS), the session is all.
    mark = f"HARBOR_TRIAL_ID={trial}".encode()
    deadline = time.monotonic() + KILL_PATIENCE
    while (found := _marked(mark)) and time.monotonic() < deadline:
        for child in found:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        # Again, until they are gone: one may have forked meanwhile, and dying takes a moment.
        time.sleep(0.01)


def _marked(mark: bytes) -> list[int]:
    """Return the processes whose environment has an entry; a dead one has none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, ValueError):
            if mark in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found

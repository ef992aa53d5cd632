"""A fake environment that records what an agent does and answers commands from a dictionary."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pytest_harbor._util.logs import LogFile
from pytest_harbor.agent import AgentContext
from pytest_harbor.environment import ExecResult, Process
from pytest_harbor.task import Task


class FakeEnvironment:
    """A recorder of calls; `answers` maps a command to a result, an exception, or a function of the options."""

    def __init__(self) -> None:
        self.name = "harbor-fake"
        self.workdir = "/work"
        self.calls: list[tuple[object, dict]] = []
        self.uploaded: list = []
        self.downloaded: list = []
        self.answers: dict[object, object] = {}
        self.ticks = 100
        self.lock = threading.Lock()

    def exec(self, command, **options) -> ExecResult:
        with self.lock:
            self.calls.append((command, options))
            self.ticks += 1
            process = Process(self.ticks, self.ticks)
        if options.get("on_start"):
            options["on_start"](process)
        answer = self.answers.get(command if isinstance(command, str) else tuple(command), ExecResult(0, ""))
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = answer(**options)
        if options.get("output") and answer.output:
            options["output"](answer.output.encode())
        return ExecResult(answer.exit_code, answer.output, answer.timed_out, 0.0, process)

    def exec_prefix(self) -> str:
        return "fake exec harbor-fake"

    def upload(self, uploads) -> list[str]:
        self.uploaded += list(uploads)
        return []

    def download(self, source, destination, reserved=frozenset()):
        self.downloaded.append((source, destination))

    def read_file(self, source, destination) -> None:
        self.downloaded.append((source, destination))


@pytest.fixture
def environment():
    return FakeEnvironment()


@pytest.fixture
def context(environment, make_task, tmp_path):
    """Return a function that makes a context with some fields changed; logs are closed at teardown."""
    logs = []

    def make(task: Task | None = None, **changes) -> AgentContext:
        log = LogFile(tmp_path / "trial" / "agent" / f"log{len(logs)}.txt")
        logs.append(log)
        fields = {
            "task": task or Task.load(make_task(f"tb2/task{len(logs)}")),
            "environment": environment,
            "variables": {"HARBOR_TASK_NAME": "task", "HARBOR_TRIAL_ID": f"{tmp_path}-{len(logs)}"},
            "user": "agent",
            "workdir": "/work",
            "timeout": 60.0,
            "log": log,
            "directory": tmp_path / "trial",
        }
        return AgentContext(**{**fields, **changes})

    yield make
    for log in logs:
        log.close()


@pytest.fixture
def logged():
    """Return a function that reads a context's log so far."""

    def read(context: AgentContext) -> str:
        return Path(context.log.path).read_text(encoding="utf-8")

    return read

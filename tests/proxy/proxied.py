"""A proxy in front of the tests' model server, and the real clients of both vendors."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import anthropic
import openai

from pytest_harbor._util.logs import LogFile
from pytest_harbor.agent import AgentContext
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.proxy import ProxyService, ProxySettings, upstreams_of
from pytest_harbor.task import Task
from pytest_harbor.trial import ServiceContext, TrialHooks, TrialResult

OPENAI_KEY = "sk-real-openai-0123456789"
ANTHROPIC_KEY = "sk-ant-real-0123456789"


class HostAgent:
    """An agent on the host, so that the environment need not listen."""

    name = "tester"
    where = "host"


class Proxied:
    """One trial's proxy: its clients, and its results afterwards."""

    def __init__(self, context: ServiceContext, host: dict[str, str]) -> None:
        self.context = context
        self.result = context.result
        self.host = host
        self.url = host["OPENAI_BASE_URL"].removesuffix("/v1")
        self.secret = host["OPENAI_API_KEY"]
        self.error: InfrastructureError | None = None
        self._clients = contextlib.ExitStack()

    def openai(self, **options) -> openai.OpenAI:
        # Reading certificates takes most of the time to create a client.
        plain = openai.DefaultHttpxClient(verify=False)
        client = openai.OpenAI(base_url=self.host["OPENAI_BASE_URL"], api_key=self.secret, http_client=plain, **options)
        return self._clients.enter_context(client)

    def anthropic(self, **options) -> anthropic.Anthropic:
        plain = anthropic.DefaultHttpxClient(verify=False)
        client = anthropic.Anthropic(
            base_url=self.host["ANTHROPIC_BASE_URL"], api_key=self.secret, http_client=plain, **options
        )
        return self._clients.enter_context(client)

    @property
    def directory(self) -> Path:
        return self.context.work.directory

    @property
    def calls(self) -> list[dict]:
        file = self.directory / "proxy" / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def log(self) -> str:
        return (self.directory / "agent.log").read_text()

    def close(self) -> None:
        self._clients.close()


class Proxies:
    """Runs the proxy for one trial after another."""

    def __init__(self, directory: Path, task: Task, upstream: str) -> None:
        self.directory = directory
        self.task = task
        self.upstream = upstream
        self.hooks = TrialHooks()
        self.number = 0
        self._services = contextlib.ExitStack()

    def settings(self, mode="live", **settings) -> ProxySettings:
        variables = {
            "OPENAI_BASE_URL": f"{self.upstream}/v1",
            "OPENAI_API_KEY": OPENAI_KEY,
            "ANTHROPIC_BASE_URL": self.upstream,
            "ANTHROPIC_API_KEY": ANTHROPIC_KEY,
        }
        settings.setdefault("upstreams", upstreams_of(variables))
        settings.setdefault("cassettes", self.directory / "cassettes")
        return ProxySettings(mode, **settings)

    @contextlib.contextmanager
    def __call__(
        self,
        mode="live",
        *,
        model="",
        attempt=1,
        confirmation=0,
        variables=None,
        graded=bool,
        model_calls=None,
        **settings,
    ):
        """Yield a trial's proxy; if the trial ends with an infrastructure error, it is in `error` afterwards."""
        self.number += 1
        service = ProxyService(self.settings(mode, **settings))
        self._services.callback(service.close)
        directory = self.directory / f"trial{self.number}"
        result = TrialResult(
            run="run-2", task=self.task.id, dataset="tb2", task_path="", agent="tester", attempt=attempt, model=model
        )
        result.confirmation = confirmation
        with LogFile(directory / "agent.log") as log:
            work = AgentContext(
                task=self.task,
                environment=SimpleNamespace(id=f"{self.number:02d}f3a9c0d1e2b3", name=f"harbor-hello-{self.number}aa"),
                variables={"HARBOR_TRIAL_ID": f"hello__{self.number}abcdef", **(variables or {})},
                user=None,
                workdir="/app",
                timeout=60,
                log=log,
                directory=directory,
            )
            context = ServiceContext(HostAgent(), work, result, self.hooks, graded, lambda: result, model_calls)
            proxied = None
            try:
                with service.open(context) as given:
                    assert not given.environment
                    proxied = Proxied(context, dict(given.host))
                    try:
                        yield proxied
                    finally:
                        proxied.close()
            except InfrastructureError as error:
                if proxied is None:
                    raise
                proxied.error = error

    def close(self) -> None:
        self._services.close()

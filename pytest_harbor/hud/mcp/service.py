"""An MCP server beside a trial: what an agent on the host works with, and how it asks to be graded.

It looks to a client as an environment converted by HUD does: the same tools, the prompt that begins the scenario and
the resource that evaluates it. The tools act in the environment of the trial, the evaluation is its own grading.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_harbor.agent import runs_on_host
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.hud.mcp import sdk as mcp_sdk
from pytest_harbor.hud.mcp.environment_shell import EnvironmentShell
from pytest_harbor.hud.mcp.sdk import check_installed
from pytest_harbor.hud.names import base_name, scenario
from pytest_harbor.hud.tools.tools import ToolError, Tools
from pytest_harbor.task import Task
from pytest_harbor.trial import AgentVariables, ServiceContext, TrialResult

__all__ = ["McpService", "check_installed"]

URL = "HARBOR_MCP_URL"
SCENARIO = "HARBOR_MCP_SCENARIO"

TOOLS = ("bash", "edit", "read", "grep", "glob", "list")
GRADED = "the work has been graded; nothing more can be done"
OVER = "the trial is over"
INSTRUCTIONS = "Tools to work on a task in its environment. The prompt {0} is the task, the resource {0} grades it."
# Bytes of a call's arguments, and of its result, in the log.
LOGGED = 16 * 1024


class McpService:
    """Gives agents that run on the host an MCP server for each of their trials."""

    def admit(self, task: Task, variables: Mapping[str, str]) -> None:
        """Any variable may be there."""

    def admit_setup(self, text: str, files: Sequence[tuple[Path, str]]) -> None:
        """Anything may be there."""

    def close(self) -> None:
        """Nothing outlives a trial."""

    @contextlib.contextmanager
    def open(self, context: ServiceContext) -> Iterator[AgentVariables]:
        """Serve while the agent works.

        Raises:
            UnmetRequirement: the MCP library is not installed.

        """
        if not runs_on_host(context.agent):
            yield AgentVariables()
            return
        check_installed()
        served = TrialServer(context)
        try:
            yield AgentVariables(host=served.start())
        finally:
            served.stop()
        # What kept the agent from its work is no fault of its own.
        if served.shell.failure is not None and not served.graded:
            raise served.shell.failure


class TrialServer:
    """The MCP server of one trial.

    Args:
        context: what the trial gives to its services.

    Attributes:
        shell: what runs the scripts of the tools.
        graded: whether the agent has asked to be graded, and was.

    """

    def __init__(self, context: ServiceContext) -> None:
        self._work = context.work
        self._grade = context.grade
        self.shell = EnvironmentShell(context.work)
        self.graded = False
        self._grading = False
        self._tools = Tools(self.shell, mcp_sdk.image_content)
        self._numbers = itertools.count(1)
        self._scenario = scenario(base_name(context.work.task.dataset))
        server = mcp_sdk.new_server(self._scenario.partition(":")[0], INSTRUCTIONS.format(self._scenario))
        for name in TOOLS:
            tool = getattr(self._tools, name)
            server.add_tool(
                self._logged(name, tool), name=name, description=inspect.getdoc(tool), structured_output=False
            )
        server.add_tool(self._logged("_hud_submit", self._submit), name="_hud_submit", structured_output=False)
        server.prompt(name=self._scenario, description="The task; for HUD, the set-up of its scenario")(self._prompt)
        server.resource(
            self._scenario,
            name=self._scenario,
            description="Ends the work and grades it; for HUD, the evaluation of its scenario",
            mime_type="application/json",
        )(self._evaluate)
        self._http = mcp_sdk.HttpServer(server, f"/{secrets.token_urlsafe(24)}/mcp")

    def start(self) -> Mapping[str, str]:
        """Begin to serve, and return the variables that tell where."""
        self._http.start()
        return {URL: self._http.url, SCENARIO: self._scenario}

    def stop(self) -> None:
        """End what runs in the environment, then the server, then its threads."""
        try:
            self._end(OVER)
        finally:
            try:
                self._http.stop()
            finally:
                self.shell.close(wait=not self._grading)

    def _end(self, why: str) -> None:
        """Kill what the tools run, and remove what they keep in the environment."""
        if self.shell.refusal:
            return
        self.shell.stop(why)
        if script := self._tools.closing_script():
            self.shell.run_last(script)

    async def _prompt(self, task_id: str = "") -> str:
        task = self._work.task
        if task_id not in ("", task.name):
            raise mcp_sdk.invalid_argument(f"there is no task {task_id!r} here; this is {task.name!r}")
        return task.instruction

    async def _submit(self, scenario: str, answer: str) -> str:
        """Take an agent's answer, which is kept in its log: what is graded is the environment."""
        if scenario.rpartition(":")[2] != self._scenario.rpartition(":")[2]:
            raise ToolError(f"there is no scenario {scenario!r} here; this is {self._scenario}")
        return "The answer was taken."

    async def _evaluate(self) -> str:
        """End the agent's work and grade it."""
        try:
            return await self.shell.in_thread(self._grade_now)
        except Exception as error:
            self._log(f"grading failed: {error}")
            raise mcp_sdk.anticipated("ResourceError", f"grading failed: {error}") from error

    def _grade_now(self) -> str:
        self._end(GRADED)
        self._grading = True
        try:
            result = self._grade()
        finally:
            self._grading = False
        if not self.graded:
            self._log(f"graded, as the agent asked for it: {result.outcome}, reward {result.reward}")
        self.graded = True
        return evaluation(result)

    def _logged(self, name: str, tool: Callable[..., Any]) -> Callable[..., Any]:
        """Return a tool that says in the agent's log what it was asked for and what came of it."""

        @functools.wraps(tool)
        async def call(**arguments: Any) -> Any:
            number = next(self._numbers)
            given = {key: value for key, value in arguments.items() if value is not None and value is not False}
            self._log(f"[{number}] {name} {_short(json.dumps(given, ensure_ascii=False, default=str))}")
            began = time.monotonic()
            said = "given up by the agent"
            try:
                if self.shell.refusal:
                    raise ToolError(self.shell.refusal)
                result = await tool(**arguments)
                said = f"\n{_short(result).rstrip()}" if isinstance(result, str) else "an image"
            except ToolError as error:
                said = f"error: {error}"
                raise mcp_sdk.anticipated("ToolError", str(error)) from error
            else:
                return result
            finally:
                self._log(f"[{number}] after {time.monotonic() - began:.1f} s: {said}")

        return call

    def _log(self, text: str) -> None:
        self._work.log(f"harbor: mcp {text}\n".encode("utf-8", "replace"))


def evaluation(result: TrialResult) -> str:
    """Return a trial's result as the JSON that HUD's evaluations have.

    Raises:
        InfrastructureError: there is no reward.

    """
    if result.reward is None:
        raise InfrastructureError(f"there is no reward: {result.reason}")
    info = {"outcome": result.outcome, "metrics": result.metrics}
    return json.dumps({"reward": result.reward, "done": True, "content": result.reason or result.outcome, "info": info})


def _short(text: str) -> str:
    return text if len(text) <= LOGGED else f"{text[:LOGGED]} [... {len(text) - LOGGED:,} characters left out ...]"

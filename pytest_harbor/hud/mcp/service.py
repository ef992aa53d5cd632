"""The MCP server of a trial, through which an agent on the host works on its task and requests grading.

To a client it looks like an environment converted by HUD: the same tools, a prompt that starts the scenario, and a
resource that evaluates it. The tools act on the trial's environment, and the evaluation is the trial's own grading.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_harbor._util.unpatched import monotonic
from pytest_harbor.agent import runs_on_host
from pytest_harbor.errors import InfrastructureError
from pytest_harbor.hud.mcp import sdk as mcp_sdk
from pytest_harbor.hud.mcp.environment_shell import EnvironmentShell
from pytest_harbor.hud.mcp.sdk import check_installed
from pytest_harbor.hud.names import base_name, scenario
from pytest_harbor.hud.tools import ToolError, Tools
from pytest_harbor.task import Task
from pytest_harbor.trial import AgentVariables, ServiceContext, TrialResult

URL = "HARBOR_MCP_URL"
SCENARIO = "HARBOR_MCP_SCENARIO"

TOOLS = ("bash", "edit", "read", "grep", "glob", "list")
GRADED = "the work has been graded; no more work is possible"
OVER = "the trial is over"
INSTRUCTIONS = "Tools to work on a task in its environment. The prompt {0} is the task; the resource {0} grades it."
# Maximum length of a call's arguments, and of its result, in the log, in characters.
LOGGED = 16 * 1024


class McpService:
    """A service that starts an MCP server for each trial of an agent that runs on the host."""

    def admit(self, task: Task, variables: Mapping[str, str]) -> None:
        """Accept all environment variables."""

    def admit_setup(self, text: str, files: Sequence[tuple[Path, str]]) -> None:
        """Accept every setup."""

    def close(self) -> None:
        """Do nothing: no server outlives its trial."""

    @contextlib.contextmanager
    def open(self, context: ServiceContext) -> Iterator[AgentVariables]:
        """Run the server while the agent works.

        Raises:
            UnmetRequirement: the MCP library is not installed.
            InfrastructureError: the environment failed while the agent worked.

        """
        if not runs_on_host(context.agent):
            yield AgentVariables()
            return
        check_installed()
        server = TrialServer(context)
        try:
            yield AgentVariables(host=server.start())
        finally:
            server.stop()
        # A failing environment is not the agent's fault.
        if server.shell.failure is not None and not server.graded:
            raise server.shell.failure


class TrialServer:
    """The MCP server of one trial.

    Args:
        context: the trial, as services see it.

    Attributes:
        shell: runs the scripts of the tools.
        graded: whether the agent requested grading and the trial was graded.

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
        server.prompt(name=self._scenario, description="The task; for HUD, its scenario's setup")(self._prompt)
        server.resource(
            self._scenario,
            name=self._scenario,
            description="Ends the work and grades it; for HUD, its scenario's evaluation",
            mime_type="application/json",
        )(self._evaluate)
        self._http = mcp_sdk.HttpServer(server, f"/{secrets.token_urlsafe(24)}/mcp")

    def start(self) -> Mapping[str, str]:
        """Start serving; return the environment variables with the URL and the scenario."""
        self._http.start()
        return {URL: self._http.url, SCENARIO: self._scenario}

    def stop(self) -> None:
        """Stop the tools in the environment, then the server, then its threads."""
        try:
            self._end(OVER)
        finally:
            try:
                self._http.stop()
            finally:
                self.shell.close(wait=not self._grading)

    def _end(self, reason: str) -> None:
        """Kill the tools' scripts, and remove the tools' state from the environment."""
        if self.shell.stop_reason:
            return
        self.shell.stop(reason)
        if script := self._tools.closing_script():
            self.shell.run_cleanup(script)

    async def _prompt(self, task_id: str = "") -> str:
        task = self._work.task
        if task_id not in ("", task.name):
            raise mcp_sdk.invalid_argument(f"there is no task {task_id!r} here; this is {task.name!r}")
        return task.instruction

    async def _submit(self, scenario: str, answer: str) -> str:
        """Accept an agent's answer and log it; only the environment is graded."""
        if scenario.rpartition(":")[2] != self._scenario.rpartition(":")[2]:
            raise ToolError(f"there is no scenario {scenario!r} here; this is {self._scenario}")
        return "Answer received."

    async def _evaluate(self) -> str:
        """End the agent's work and grade it."""
        try:
            return await self.shell.run_in_thread(self._grade_now)
        except Exception as error:
            self._log(f"grading failed: {error}")
            raise mcp_sdk.client_error("ResourceError", f"grading failed: {error}") from error

    def _grade_now(self) -> str:
        self._end(GRADED)
        self._grading = True
        try:
            result = self._grade()
        finally:
            self._grading = False
        if not self.graded:
            self._log(f"graded at the agent's request: {result.outcome}, reward {result.reward}")
        self.graded = True
        return evaluation(result)

    def _logged(self, name: str, tool: Callable[..., Any]) -> Callable[..., Any]:
        """Return a tool that logs its arguments and its result in the agent's log."""

        @functools.wraps(tool)
        async def call(**arguments: Any) -> Any:
            number = next(self._numbers)
            shown = {key: value for key, value in arguments.items() if value is not None and value is not False}
            self._log(f"[{number}] {name} {_short(json.dumps(shown, ensure_ascii=False, default=str))}")
            began = monotonic()
            outcome = "canceled by the agent"
            try:
                if self.shell.stop_reason:
                    raise ToolError(self.shell.stop_reason)
                result = await tool(**arguments)
                outcome = f"\n{_short(result).rstrip()}" if isinstance(result, str) else "an image"
            except ToolError as error:
                outcome = f"error: {error}"
                raise mcp_sdk.client_error("ToolError", str(error)) from error
            else:
                return result
            finally:
                self._log(f"[{number}] after {monotonic() - began:.1f} s: {outcome}")

        return call

    def _log(self, text: str) -> None:
        self._work.log(f"harbor: mcp {text}\n".encode("utf-8", "replace"))


def evaluation(result: TrialResult) -> str:
    """Return a trial's result as JSON in the format of HUD's evaluations.

    Raises:
        InfrastructureError: the trial has no reward.

    """
    if result.reward is None:
        raise InfrastructureError(f"there is no reward: {result.reason}")
    info = {"outcome": result.outcome, "metrics": result.metrics}
    return json.dumps({"reward": result.reward, "done": True, "content": result.reason or result.outcome, "info": info})


def _short(text: str) -> str:
    return text if len(text) <= LOGGED else f"{text[:LOGGED]} [... {len(text) - LOGGED:,} characters omitted ...]"

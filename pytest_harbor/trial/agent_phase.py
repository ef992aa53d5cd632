"""The agent phase: prepare the agent's environment variables and services, run it within its deadline, clean up."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_harbor._util.logs import LogFile
from pytest_harbor._util.seconds import bounded
from pytest_harbor.agent import Agent, AgentContext, AgentReport, needs_setup
from pytest_harbor.environment import Environment, Process
from pytest_harbor.environment.proxies import around_proxies
from pytest_harbor.errors import EnvironmentLost, HookError
from pytest_harbor.task import Task
from pytest_harbor.task.values import user_text
from pytest_harbor.trial.hooks import TrialHooks, call_hook
from pytest_harbor.trial.journal import Journal
from pytest_harbor.trial.result import TrialResult
from pytest_harbor.trial.services import AgentService, AgentVariables, Grading, open_services
from pytest_harbor.trial.settings import TrialSettings
from pytest_harbor.trial.start import TASK_DIRECTORY, agent_variables, task_agent_env
from pytest_harbor.trial.verifier import AGENT_LOG


@dataclass(frozen=True)
class AgentRun:
    """How the agent phase ended.

    Attributes:
        graded: whether the work was graded during the phase, at the agent's request.
        first: the agent's first process; None if it is not known.

    """

    graded: bool
    first: Process | None


@dataclass(frozen=True)
class AgentPhase:
    """Runs an agent in the environment of a trial.

    Attributes:
        task: the task.
        settings: the trial's settings.
        journal: the trial's journal.
        hooks: hooks to call.
        services: services for the agent, such as the model proxy.
        echo: takes the agent's output for a person who watches.
        task_directory: where the task's texts are in the environment.

    """

    task: Task
    settings: TrialSettings
    journal: Journal
    hooks: TrialHooks
    services: Sequence[AgentService]
    echo: Callable[[bytes], None] | None
    task_directory: str = TASK_DIRECTORY

    @property
    def timeout(self) -> float:
        """The agent's deadline in seconds."""
        seconds = self.task.config.agent.timeout_sec or self.settings.agent_timeout
        return bounded(seconds * self.settings.timeout_multiplier)

    def run(
        self,
        agent: Agent,
        environment: Environment,
        environment_variables: Mapping[str, str],
        grade: Callable[[Process | None], Callable[[], TrialResult]],
    ) -> AgentRun:
        """Run an agent; when its time is up, nothing of it stays alive.

        Args:
            agent: the agent.
            environment: the environment it works in.
            environment_variables: the environment variables of everything in the environment.
            grade: grades while the agent still runs, given its first process, and returns what makes that the result.

        Raises:
            InfrastructureError: the agent could not run, or grading at its request failed.

        """
        result = self.journal.result
        first: Process | None = None
        grading = Grading(lambda: grade(first))
        try:
            with LogFile(self.journal.directory / AGENT_LOG, self.echo) as log, self.journal.phase("agent"):
                # If the agent may ask to be graded, whatever starts from here on belongs to it.
                first = environment.exec(["true"], user="0", cwd="/").process if self.services else None
                context = self._context(environment, environment_variables, log, grading)
                report = self._run(agent, context, grading)
                if report.timed_out and report.first_process is not None:
                    how = environment.kill_since(report.first_process)
                    log(f"\nharbor: the agent's {self.timeout:g} s are over; {how}\n".encode())
        finally:
            if grading.seconds:
                result.phases["agent"] = round(result.phases["agent"] - grading.seconds, 4)
        if grading.error:
            raise grading.error
        result.agent_exit = report.exit_code
        result.agent_timed_out = report.timed_out
        result.agent_note = f"timed out after {self.timeout:g} s" if report.timed_out else report.note
        return AgentRun(grading.done, report.first_process or first)

    def _context(
        self, environment: Environment, environment_variables: Mapping[str, str], log: LogFile, grading: Grading
    ) -> AgentContext:
        workdir = self.settings.agent_workdir or environment.workdir
        trial_id = self.journal.directory.name
        variables = agent_variables(self.task, self.settings, workdir, trial_id, self.task_directory)
        variables.update(environment_variables)
        variables.update(task_agent_env(self.task, self.settings)[0])
        variables.update(self.settings.agent_env)
        return AgentContext(
            task=self.task,
            environment=environment,
            variables=variables,
            user=user_text(self.task.config.agent.user),
            workdir=workdir,
            timeout=self.timeout,
            log=log,
            directory=self.journal.directory,
            excluded_seconds=lambda: grading.seconds,
            host_variables={},
        )

    def _run(self, agent: Agent, context: AgentContext, grading: Grading) -> AgentReport:
        """Run the agent between the start and the end of its services, which add to its environment variables."""
        result = self.journal.result
        try:
            with open_services(
                self.services, agent, context, result, self.hooks, grading, self.settings.model_calls
            ) as added:
                context.variables.update(added.environment)
                context.host_variables.update(added.host)
                if needs_setup(agent):
                    missing = task_agent_env(self.task, self.settings)[1]
                    self.journal.warn(*(str(missing[name]) for name in missing if name not in context.variables))
                self._reach_services(context, added)
                self._change_variables(agent, context.variables)
                for service in self.services:
                    service.admit(self.task, context.variables)
                report = agent.run(context)
                # Services look at this when they end.
                result.agent_timed_out = report.timed_out
                return report
        except EnvironmentLost as error:
            # An agent that stops its environment, by accident or to escape a bad trial, is graded all the same.
            context.environment.restart()
            note = f"{error.fact} while the agent worked; the environment was restarted for grading"
            return AgentReport(None, note=note)

    def _reach_services(self, context: AgentContext, added: AgentVariables) -> None:
        """Keep network proxies out of the way between the agent and its services."""
        image = context.environment.image.details.variables
        inside = {**image, **context.environment.proxies, **context.variables}
        context.variables.update(around_proxies(inside, added.environment.values()))
        outside = {**os.environ, **context.variables, **context.host_variables}
        urls = [*added.environment.values(), *added.host.values()]
        context.host_variables.update(around_proxies(outside, urls))

    def _change_variables(self, agent: Agent, variables: dict[str, str]) -> None:
        """Let the hook change the agent's environment variables."""
        call_hook("agent_env", lambda: self.hooks.agent_env(self.task, agent, variables))
        wrong = [f"{k!r}: {v!r}" for k, v in variables.items() if not (isinstance(k, str) and isinstance(v, str))]
        if wrong:
            raise HookError(
                f"the hook pytest_harbor_agent_env set a name or value that is not a str: {', '.join(wrong)}"
            )

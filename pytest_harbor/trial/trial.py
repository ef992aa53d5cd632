"""The phases of a trial in their order, each with its deadline, its timing and its log."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from pytest_harbor._util.logs import LogFile
from pytest_harbor.agent import Agent, AgentContext, AgentReport, needs_setup
from pytest_harbor.environment import Environment, Process, Provider
from pytest_harbor.environment.uploads import agent_uploads
from pytest_harbor.errors import EnvironmentLost, HookError, InfrastructureError, Phase
from pytest_harbor.image import Image, ImageStore
from pytest_harbor.task import Task, TaskError
from pytest_harbor.task.variables import MissingVariable, resolve_variables
from pytest_harbor.trial.artifacts import collect_artifacts, run_collect_hooks
from pytest_harbor.trial.failures import describe, keep, raised_in
from pytest_harbor.trial.healthcheck import await_health
from pytest_harbor.trial.hooks import TrialHooks
from pytest_harbor.trial.place import Recorder, State, TrialPlace
from pytest_harbor.trial.result import Outcome, Retry, TrialResult
from pytest_harbor.trial.services import AgentService, Grading, accompanied
from pytest_harbor.trial.settings import TrialSettings
from pytest_harbor.trial.start import agent_variables, environment_variables, start_request
from pytest_harbor.trial.usage import Usage, known
from pytest_harbor.trial.verifier import AGENT_LOG, Verification, verify

CLASSES: tuple[Outcome, ...] = ("error", "failed", "unverified")
"""What the hook pytest_harbor_error_class may say."""


class Trial:
    """One attempt of one agent at one task.

    The phases are methods, so that a test runner can put each where it belongs (`build` and `start` are set-up, `run`
    is the test, `stop` is tear-down). What the trial came to is in `result`; the shortcuts below it read from there.

    Args:
        task: the task.
        provider: makes the environment.
        images: the run's images.
        place: where the trial belongs.
        settings: what the user has set.
        hooks: where others step in.
        recorder: takes the result to disk, before anybody else hears of it.
        echo: takes the output of agent and tests for a person who watches.
        services: what accompanies the agent's work.

    """

    def __init__(
        self,
        task: Task,
        provider: Provider,
        images: ImageStore,
        place: TrialPlace,
        settings: TrialSettings | None = None,
        hooks: TrialHooks | None = None,
        *,
        recorder: Recorder | None = None,
        echo: Callable[[bytes], None] | None = None,
        services: Sequence[AgentService] = (),
    ) -> None:
        self.task = task
        self.settings = settings or TrialSettings()
        self.agent: Agent | None = None
        self.environment: Environment | None = None
        self._provider = provider
        self._images = images
        self._place = place
        self._hooks = hooks or TrialHooks()
        self._recorder = recorder
        self._echo = echo
        self._services = services
        self._image: Image | None = None
        self._first: Process | None = None
        self._first_user: str | None = None
        self._done = False
        self._variables: dict[str, str] = {}
        self._tries = 0
        self._current = ""
        self.directory = place.directory
        self.result = TrialResult(
            run=place.run,
            task=task.id,
            dataset=task.dataset,
            task_path=str(task.path),
            agent="",
            attempt=place.attempt,
            threshold=self.settings.threshold,
            model=self.settings.model,
            provider=provider.name,
            node_id=place.node_id,
            directory=str(place.directory),
            started_at=_now(),
        )

    # What tests of users read.

    @property
    def reward(self) -> float | None:
        """The reward; None when there is none."""
        return self.run().reward

    @property
    def outcome(self) -> str:
        """`passed`, `failed`, `unverified` or `error`."""
        return self.run().outcome

    @property
    def metrics(self) -> dict[str, float]:
        """Other numbers of reward.json."""
        return self.run().metrics

    @property
    def phases(self) -> dict[str, float]:
        """Seconds by phase."""
        return self.run().phases

    @property
    def usage(self) -> Usage:
        """What the agent used of models.

        Raises:
            NoUsage: that is not known.

        """
        __tracebackhide__ = True
        return known(self.run().usage, self.result.agent)

    # The phases.

    def build(self, ref: str | None = None) -> Image:
        """Find, pull or build the image.

        Args:
            ref: an image to take instead of the task's own.

        Raises:
            InfrastructureError: it cannot be had.
            TaskError: the task is broken.

        """
        self.task.check()
        self._warn(*self.task.warnings)
        with self._phase("build"):
            ref = ref or self._hook("image", lambda: self._hooks.image(self.task))
            image = self._images.ensure(self.task, ref)
        return self._take(image)

    def _take(self, image: Image) -> Image:
        """Make an image the trial's, with the agent's set-up on top of it, and return that."""
        if needs_setup(self.agent):
            with self._phase("build"):
                for service in self._services:
                    service.admit_setup(self.settings.agent_setup, self.settings.agent_files)
        if needs_setup(self.agent) and self.settings.agent_setup and not image.setup:
            with self._phase("build"):
                timeout = self.task.config.environment.build_timeout_sec
                image = self._images.with_setup(image, self.settings.agent_setup, self.settings.agent_files, timeout)
        self.result.image = {"ref": image.ref, "id": image.details.id, "source": image.source}
        if image.setup:
            self.result.image |= {"setup": image.setup, "below": image.below}
        self._image = image
        self._warn(*image.notes)
        return image

    def start(self, image: Image | None = None) -> Environment:
        """Start an environment, make it ready for the agent, and return it; a failed start is tried again.

        Raises:
            InfrastructureError: it does not start or does not become healthy.

        """
        if image is not None and image is not self._image:
            image = self._take(image)
        image = image or self._image or self.build()
        while True:
            try:
                return self._start(image)
            except InfrastructureError as error:
                if not self._may_retry(error):
                    raise
                self._begin_retry(error)

    def _start(self, image: Image) -> Environment:
        with self._phase("start"):
            self._variables = environment_variables(self.task)
            # Also the verifier's, before an agent works in vain.
            resolve_variables(self.task.config.verifier.env, "[verifier].env")
            for service in self._services:
                service.admit(self.task, self._variables)
            request = start_request(self.task, image, self._place.run, self._variables, self.settings)
            environment = self._provider.start(image, request)
            self.environment = environment
            self._warn(*environment.notes)
        with self._phase("setup"):
            if healthcheck := self.task.config.environment.healthcheck:
                await_health(environment, healthcheck, self.settings.timeout_multiplier)
            if needs_setup(self.agent):
                environment.upload(agent_uploads(self.settings.agent_files))
            self._hook("environment_started", lambda: self._hooks.environment_started(self.task, environment))
        return environment

    def run(self, agent: Agent | None = None) -> TrialResult:
        """Run the agent and the verifier, once; further calls return the same result.

        Args:
            agent: the agent, unless it is set already.

        Raises:
            InfrastructureError: the machinery failed, also when tried again; the result is on disk as an error.

        """
        if self._done:
            return self.result
        self.agent = agent or self.agent
        assert self.agent is not None, "a trial needs an agent"
        self.result.agent = self.agent.name
        while True:
            try:
                environment = self.environment or self.start()
                if not self._work(self.agent, environment):
                    verification = self._grade(environment, self._first)
                    self._conclude(environment, verification)
            except (InfrastructureError, MissingVariable, TaskError) as error:
                if isinstance(error, InfrastructureError) and self._may_retry(error):
                    self._begin_retry(error)
                    continue
                self.fail(error)
                if self.result.outcome != "error":
                    return self.result
                raise
            except BaseException as error:
                self.fail(error)
                raise
            self._finish()
            if self.result.outcome == "error":
                raise InfrastructureError(self.result.reason)
            return self.result

    def stop(self) -> None:
        """Remove the environment by force. Without one, does nothing."""
        if self.environment is None:
            return
        environment, self.environment = self.environment, None
        with self._phase("stop"):
            environment.stop()
        with self._whatever_happens():
            self._note("finished")

    def fail(self, error: BaseException, phase: str = "") -> None:
        """Make an error the trial's result and write it down, unless there is a result already.

        Args:
            error: what ended the trial.
            phase: the phase it happened in, where the error does not know.

        """
        if self._done:
            return
        self.result.phase = getattr(error, "phase", None) or phase
        if not self.result.phase and not isinstance(error, TaskError):
            self.result.phase = self._current
        self.result.outcome = "error"
        self.result.reason = describe(error)
        if isinstance(error, InfrastructureError):
            with self._whatever_happens("the hook pytest_harbor_error_class: "):
                decided = self._hooks.error_class(self.task, error, self.result.phase)
                if decided not in (None, *CLASSES):
                    raise ValueError(f"it returned {decided!r}; valid are {', '.join(CLASSES)}")
                self.result.outcome = decided or "error"
                self.result.reward = None if self.result.outcome == "error" else 0.0
        keep(error, self.directory)
        self._finish()

    def skip(self, reason: str) -> None:
        """Make the trial's result that it was skipped, and write it down."""
        if self._done:
            return
        self.result.outcome = "skipped"
        self.result.reason = reason
        with self._whatever_happens():
            self._warn(*self.task.warnings)
        self._finish()

    # What the phases are made of.

    @property
    def trial_id(self) -> str:
        """The trial's id: unique in its run, and the name of its directory."""
        return self.directory.name

    def _work(self, agent: Agent, environment: Environment) -> bool:
        """Let the agent work; when its time is out, nothing of it lives on.

        Returns:
            Whether its work has been graded already, as it asked for that.

        """
        configured = self.task.config.agent
        user = None if configured.user is None else str(configured.user)
        self._first_user = user
        timeout = (configured.timeout_sec or self.settings.agent_timeout) * self.settings.timeout_multiplier
        workdir = self.settings.agent_workdir or environment.workdir
        grading = Grading(lambda: self._grade_early(environment))
        try:
            with LogFile(self.directory / AGENT_LOG, self._echo) as log, self._phase("agent"):
                # Whatever comes into being from here on is the agent's, where it may ask to be graded.
                self._first = environment.exec(["true"], user="0", cwd="/").process if self._services else None
                variables = agent_variables(self.task, self.settings, workdir, self.trial_id)
                variables.update(self._variables)
                variables.update(self.settings.agent_env)
                host_variables: dict[str, str] = {}
                context = AgentContext(
                    task=self.task,
                    environment=environment,
                    variables=variables,
                    user=user,
                    workdir=workdir,
                    timeout=timeout,
                    log=log,
                    directory=self.directory,
                    excluded_seconds=lambda: grading.seconds,
                    host_variables=host_variables,
                )
                try:
                    with accompanied(self._services, agent, context, self.result, self._hooks, grading) as added:
                        variables.update(added.environment)
                        host_variables.update(added.host)
                        self._change_variables(agent, variables)
                        for service in self._services:
                            service.admit(self.task, variables)
                        report = agent.run(context)
                        self.result.agent_timed_out = report.timed_out
                except EnvironmentLost as error:
                    # An agent that stops its environment, by accident or to be rid of a bad trial, is graded
                    # all the same.
                    environment.restart()
                    report = AgentReport(
                        None, note=f"{error.fact}, while the agent worked; it was started again to be graded"
                    )
                if report.timed_out and report.first_process is not None:
                    how = environment.kill_since(report.first_process)
                    log(f"\nharbor: the agent's {timeout:g} s are over; {how}\n".encode())
        finally:
            if grading.seconds:
                self.result.phases["agent"] = round(self.result.phases["agent"] - grading.seconds, 4)
        if grading.error:
            raise grading.error
        self._first = report.first_process or self._first
        self.result.agent_exit = report.exit_code
        self.result.agent_timed_out = report.timed_out
        self.result.agent_note = f"timed out after {timeout:g} s" if report.timed_out else report.note
        return grading.done

    def _change_variables(self, agent: Agent, variables: dict[str, str]) -> None:
        """Have the hook change the agent's variables."""
        self._hook("agent_env", lambda: self._hooks.agent_env(self.task, agent, variables))
        wrong = [f"{k!r}: {v!r}" for k, v in variables.items() if not (isinstance(k, str) and isinstance(v, str))]
        if wrong:
            raise HookError(f"the hook pytest_harbor_agent_env left what is no text: {', '.join(wrong)}")

    def _grade_early(self, environment: Environment) -> Callable[[], TrialResult]:
        """Grade while the agent still runs, and return what makes of it the result."""
        verification = self._grade(environment, self._first)

        def conclude() -> TrialResult:
            self._conclude(environment, verification)
            return self.result

        return conclude

    def _grade(self, environment: Environment, first: Process | None) -> Verification:
        with self._phase("verify"):
            self._warn(*run_collect_hooks(self.task, environment))
            self._warn(*collect_artifacts(self.task, environment, self.directory / "artifacts"))
            return verify(
                self.task,
                environment,
                self.settings,
                self.directory,
                agent_user=self._first_user,
                first=first,
                echo=self._echo,
            )

    def _conclude(self, environment: Environment, verification: Verification) -> None:
        """Turn what the verifier found into a result."""
        result = self.result
        own = self._hook("reward", lambda: self._hooks.reward(self.task, environment, verification))
        if own is not None and (not isinstance(own, int | float) or not math.isfinite(own)):
            raise HookError(f"the hook pytest_harbor_reward returned {own!r}, which is not a finite number")
        reward = verification.reward.value if own is None else float(own)
        result.metrics = dict(verification.reward.metrics)
        if own is not None and verification.reward.value is not None:
            result.metrics.setdefault("verifier_reward", verification.reward.value)
        result.verifier_exit = verification.exit_code
        result.verifier_timed_out = verification.timed_out
        result.tests = verification.tests
        self._warn(*verification.warnings)
        if reward is None:
            result.outcome = "unverified"
            result.phase = "verify"
            result.reason = verification.reward.problem or verification.problem
            result.reward = 0.0 if self.settings.missing_reward == "zero" else None
        else:
            result.reward = reward
            result.outcome = "passed" if reward >= self.settings.threshold else "failed"
            result.phase = "" if result.outcome == "passed" else "verify"

    def _finish(self) -> None:
        self._done = True
        self.result.finished_at = _now()
        with self._whatever_happens():
            self.result.task_digest = self.task.digest
        if self._recorder:
            try:
                self._recorder.append(self.result)
                self._note("finished")
            except OSError as error:
                # A result that is on no disk must not look like one.
                self.result.outcome = "error"
                self.result.reason = f"the result cannot be written: {error}; see whether the disk is full"
        with self._whatever_happens("the hook pytest_harbor_trial_finished: "):
            self._hooks.finished(self.task, self.result)

    def _may_retry(self, error: InfrastructureError) -> bool:
        return error.retry and self._tries < self.settings.infra_retries

    def _begin_retry(self, error: InfrastructureError) -> None:
        """Keep what the failed try left and begin anew beside it."""
        self._tries += 1
        self.result.retries.append(Retry(str(error.phase or ""), str(error), str(self.directory), self.result.usage))
        self.result.usage, self.result.budget = None, ""
        keep(error, self.directory)
        # What cannot be removed now is removed at the end of the session.
        with contextlib.suppress(InfrastructureError):
            self.stop()
        with self._whatever_happens():
            self._note("retried")
        self.result.phases = {name: t for name, t in self.result.phases.items() if name == "build"}
        self.directory = self._place.directory.with_name(f"{self._place.directory.name}.retry{self._tries}")
        self.result.directory = str(self.directory)
        with self._whatever_happens():
            self._note("running")

    @contextlib.contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        """Time a phase, and give errors that leave it its name."""
        began = time.monotonic()
        self._current = phase
        try:
            if not self._done and phase != "stop":
                self._note("running")
            with raised_in(phase):
                yield
        finally:
            spent = time.monotonic() - began
            self.result.phases[phase] = round(self.result.phases.get(phase, 0.0) + spent, 4)

    def _hook(self, name: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except InfrastructureError:
            raise
        except Exception as error:
            raise HookError(
                f"the hook pytest_harbor_{name} raised {type(error).__name__}: {error}", "mend the hook"
            ) from error

    @contextlib.contextmanager
    def _whatever_happens(self, where: str = "") -> Iterator[None]:
        """Turn an error into a warning of the result: it is too late for anything else."""
        try:
            yield
        except Exception as error:
            self._warn(f"{where}{type(error).__name__}: {error}")

    def _note(self, state: State) -> None:
        if self._recorder:
            self._recorder.note(self.result, state, self._current if state == "running" else "")

    def _warn(self, *texts: str) -> None:
        self.result.warnings += [text for text in texts if text not in self.result.warnings]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")

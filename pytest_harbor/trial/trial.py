"""One trial: the phases in order, each with its deadline, its duration and its log."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from pytest_harbor.agent import Agent, needs_setup
from pytest_harbor.environment import Environment, Process, Provider
from pytest_harbor.environment.uploads import agent_uploads
from pytest_harbor.errors import HookError, InfrastructureError
from pytest_harbor.image import Image, ImageStore
from pytest_harbor.task import Task, TaskError
from pytest_harbor.task.values import user_text
from pytest_harbor.task.variables import MissingVariable, resolve_variables
from pytest_harbor.trial.agent_phase import AgentPhase
from pytest_harbor.trial.artifacts import collect_artifacts, run_collect_hooks
from pytest_harbor.trial.healthcheck import await_health
from pytest_harbor.trial.hooks import TrialHooks, call_hook
from pytest_harbor.trial.journal import Journal, Recorder, TrialPlace, now
from pytest_harbor.trial.result import TrialResult
from pytest_harbor.trial.services import AgentService
from pytest_harbor.trial.settings import TrialSettings
from pytest_harbor.trial.start import (
    TASK_DIRECTORY,
    TESTS,
    check_agent_files,
    environment_variables,
    place_task_texts,
    start_request,
    task_agent_env,
    works_in_tests,
)
from pytest_harbor.trial.usage import Usage, known
from pytest_harbor.trial.verifier import Verification, verify


class Trial:
    """One attempt of one agent at one task.

    The phases are methods, so a test runner can put each where it belongs: `build` and `start` are setup, `run` is the
    test, `stop` is teardown. The outcome is in `result`; the properties below it are shortcuts.

    Args:
        task: the task.
        provider: creates the environment.
        images: the run's images.
        place: where the trial belongs.
        settings: threshold, deadlines and so on.
        hooks: hooks to call.
        recorder: writes the result to disk before anything reports it.
        echo: takes the output of agent and tests for a person who watches.
        services: services for the agent, such as the model proxy.

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
        self._run_id = place.run
        self._hooks = hooks or TrialHooks()
        self._echo = echo
        self._services = services
        self._image: Image | None = None
        self._variables: dict[str, str] = {}
        self._task_directory = TASK_DIRECTORY
        self._image_tests: IO[bytes] | None = None
        self.result = TrialResult(
            run=place.run,
            task=task.id,
            dataset=task.dataset,
            task_path=str(task.path),
            agent="",
            attempt=place.attempt,
            confirmation=place.confirmation,
            rerun=place.rerun,
            threshold=self.settings.threshold,
            model=self.settings.model,
            provider=provider.name,
            node_id=place.node_id,
            directory=str(place.directory),
            started_at=now(),
        )
        self._journal = Journal(task, place, self.result, self._hooks, recorder)

    def __repr__(self) -> str:
        result = self.result
        reward = "" if result.reward is None else f", reward {result.reward:g}"
        state = f"{result.outcome}{reward}" if self.ended else "not finished"
        return f"<Trial {result.task} {state}, {self.directory}>"

    def record(self, recorder: Recorder) -> None:
        """Write the trial to disk from now on, if it was created without a recorder."""
        self._journal.recorder = recorder

    @property
    def ended(self) -> bool:
        """Whether the trial has its final result."""
        return self._journal.closed

    # Shortcuts for user tests. Each runs the trial first if it has not run.

    @property
    def reward(self) -> float | None:
        """The reward; None if there is none."""
        return self.run().reward

    @property
    def outcome(self) -> str:
        """`passed`, `failed`, `unverified` or `error`."""
        return self.run().outcome

    @property
    def metrics(self) -> dict[str, float]:
        """The other numbers of reward.json."""
        return self.run().metrics

    @property
    def phases(self) -> dict[str, float]:
        """Seconds by phase."""
        return self.run().phases

    @property
    def usage(self) -> Usage:
        """The agent's model usage.

        Raises:
            NoUsage: it was not metered.

        """
        __tracebackhide__ = True
        return known(self.run().usage, self.result.agent)

    # The phases.

    def build(self, ref: str | None = None) -> Image:
        """Find, pull or build the image.

        Args:
            ref: an image to use instead of the task's own.

        Raises:
            InfrastructureError: the image is not available.
            TaskError: the task is broken.

        """
        self.task.check()
        self._journal.warn(*self.task.warnings)
        with self._journal.phase("build"):
            ref = ref or call_hook("image", lambda: self._hooks.image(self.task))
            image = self._images.ensure(self.task, ref)
        return self._use(image)

    def _use(self, image: Image) -> Image:
        """Make an image the trial's, with the agent's setup added, and return the result."""
        if needs_setup(self.agent):
            setup, files = self.settings.agent_setup, self.settings.agent_files
            # An image may be there long before the agent is installed in it.
            with self._journal.phase("build", "agent setup" if setup and not image.setup else ""):
                for service in self._services:
                    service.admit_setup(setup, files)
                if setup and not image.setup:
                    timeout = self.task.config.environment.build_timeout_sec
                    image = self._images.with_setup(image, setup, files, timeout)
        self.result.image = {"ref": image.ref, "id": image.details.id, "source": image.source}
        if image.setup:
            self.result.image |= {"setup": image.setup, "below": image.below}
        self._image = image
        self._journal.warn(*image.notes)
        return image

    def start(self, image: Image | None = None) -> Environment:
        """Start an environment, get it ready for the agent, and return it; retry a failed start.

        Raises:
            InfrastructureError: it does not start or does not become healthy.

        """
        if image is not None and image is not self._image:
            image = self._use(image)
        image = image or self._image or self.build()
        while True:
            try:
                return self._start(image)
            except InfrastructureError as error:
                if not self._may_retry(error):
                    raise
                self._start_retry(error)

    def _start(self, image: Image) -> Environment:
        with self._journal.phase("start"):
            self._variables = environment_variables(self.task)
            # The verifier's and the agent's too, so that a missing one is found before the agent works. A service may
            # provide what the host lacks, such as a key.
            resolve_variables(self.task.config.verifier.env, "[verifier].env")
            if self.agent is not None and needs_setup(self.agent) and not self._services:
                for missing in task_agent_env(self.task, self.settings)[1].values():
                    raise missing
            for service in self._services:
                service.admit(self.task, self._variables)
            if needs_setup(self.agent):
                self._journal.warn(*check_agent_files(self.settings.agent_files, getattr(self.agent, "line", "")))
            request = start_request(self.task, image, self._run_id, self._variables, self.settings)
            environment = self._provider.start(image, request)
            self.environment = environment
            self._journal.warn(*environment.notes)
            self._task_directory, note = place_task_texts(self.task, environment)
            self._journal.warn(*filter(None, [note]))
        with self._journal.phase("setup"):
            if healthcheck := self.task.config.environment.healthcheck:
                await_health(environment, healthcheck, self.settings.timeout_multiplier)
            if needs_setup(self.agent):
                environment.upload(agent_uploads(self.settings.agent_files))
            call_hook("environment_started", lambda: self._hooks.environment_started(self.task, environment))
            self._image_tests = None
            if works_in_tests(self.settings.agent_workdir or environment.workdir):
                self._journal.warn(f"the agent works in {TESTS}; what it leaves there stays next to the tests")
            else:
                self._image_tests = environment.save(TESTS)
        return environment

    def run(self, agent: Agent | None = None) -> TrialResult:
        """Run the agent and the verifier once; further calls return the same result.

        Args:
            agent: the agent, if it is not set.

        Raises:
            InfrastructureError: something around the trial failed, after retries; the result is on disk as an error.

        """
        if self.ended:
            return self.result
        self.agent = agent = agent or self.agent
        assert agent is not None, "a trial needs an agent"
        self.result.agent = agent.name
        while True:
            try:
                self._run_and_grade(agent, self.environment or self.start())
            except (InfrastructureError, MissingVariable, TaskError) as error:
                if isinstance(error, InfrastructureError) and self._may_retry(error):
                    self._start_retry(error)
                    continue
                self.fail(error)
                if self.result.outcome != "error":
                    return self.result
                raise
            except BaseException as error:
                self.fail(error)
                raise
            self._journal.close()
            if self.result.outcome == "error":
                raise InfrastructureError(self.result.reason)
            return self.result

    def stop(self) -> None:
        """Remove the environment by force; do nothing if there is none."""
        if self.environment is None:
            return
        environment, self.environment = self.environment, None
        if self._image_tests is not None:
            self._image_tests.close()
        with self._journal.phase("stop"):
            environment.stop()
        with self._journal.errors_as_warnings():
            self._journal.note("finished")

    def fail(self, error: BaseException, phase: str = "") -> None:
        """Make an error the trial's result and record it, unless there is a result.

        Args:
            error: what ended the trial.
            phase: the phase it happened in, if the error does not say.

        """
        if not self.ended:
            self._journal.fail(error, phase)

    def skip(self, reason: str) -> None:
        """Make the trial's result that it was skipped and record it, unless there is a result."""
        if self.ended:
            return
        self.result.outcome = "skipped"
        self.result.reason = reason
        with self._journal.errors_as_warnings():
            self._journal.warn(*self.task.warnings)
        self._journal.close()

    @property
    def directory(self) -> Path:
        """The directory of the trial's files; a retry has a directory of its own."""
        return self._journal.directory

    def _run_and_grade(self, agent: Agent, environment: Environment) -> None:
        phase = AgentPhase(
            self.task, self.settings, self._journal, self._hooks, self._services, self._echo, self._task_directory
        )

        def grade_early(first: Process | None) -> Callable[[], TrialResult]:
            verification = self._grade(environment, first)

            def conclude() -> TrialResult:
                self._conclude(environment, verification)
                return self.result

            return conclude

        ended = phase.run(agent, environment, self._variables, grade_early)
        if not ended.graded:
            self._conclude(environment, self._grade(environment, ended.first))

    def _grade(self, environment: Environment, first: Process | None) -> Verification:
        with self._journal.phase("verify"):
            self._journal.warn(*run_collect_hooks(self.task, environment))
            self._journal.warn(*collect_artifacts(self.task, environment, self.directory / "artifacts"))
            return verify(
                self.task,
                environment,
                self.settings,
                self.directory,
                agent_user=user_text(self.task.config.agent.user),
                image_tests=self._image_tests,
                keep_tests=works_in_tests(self.settings.agent_workdir or environment.workdir),
                first=first,
                echo=self._echo,
            )

    def _conclude(self, environment: Environment, verification: Verification) -> None:
        """Turn the verification into the result."""
        result = self.result
        own = call_hook("reward", lambda: self._hooks.reward(self.task, environment, verification))
        if own is not None and (not isinstance(own, int | float) or not math.isfinite(own)):
            raise HookError(f"the hook pytest_harbor_reward returned {own!r}, which is not a finite number")
        reward = verification.reward.value if own is None else float(own)
        result.metrics = dict(verification.reward.metrics)
        if own is not None and verification.reward.value is not None:
            result.metrics.setdefault("verifier_reward", verification.reward.value)
        result.verifier_exit = verification.exit_code
        result.verifier_timed_out = verification.timed_out
        result.tests = verification.tests
        self._journal.warn(*verification.warnings)
        if reward is None:
            result.outcome = "unverified"
            result.phase = "verify"
            result.reason = verification.reward.problem or verification.problem
            result.reward = 0.0 if self.settings.missing_reward == "zero" else None
        else:
            result.reward = reward
            result.outcome = "passed" if reward >= self.settings.threshold else "failed"
            result.phase = "" if result.outcome == "passed" else "verify"

    def _may_retry(self, error: InfrastructureError) -> bool:
        return error.retry and len(self.result.retries) < self.settings.infra_retries

    def _start_retry(self, error: InfrastructureError) -> None:
        # What cannot be removed now is removed at the end of the session.
        with contextlib.suppress(InfrastructureError):
            self.stop()
        self._journal.start_retry(error)

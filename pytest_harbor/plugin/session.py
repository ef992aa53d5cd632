"""What one pytest process knows of its run; it hangs on `config.stash`, and is made as it is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_harbor.plugin.options.config import HarborConfig, read_options

if TYPE_CHECKING:
    from pytest_harbor.environment import Provider
    from pytest_harbor.image import ImageStore
    from pytest_harbor.plugin.agents import Agents
    from pytest_harbor.plugin.gate import Gate
    from pytest_harbor.plugin.lifecycle import Lifecycle
    from pytest_harbor.plugin.selection import Selection
    from pytest_harbor.proxy import Ledger
    from pytest_harbor.results import Run
    from pytest_harbor.task import Task
    from pytest_harbor.trial import AgentService, Trial

SESSION: pytest.StashKey[HarborSession] = pytest.StashKey()
TRIAL: pytest.StashKey[Trial] = pytest.StashKey()


def session_of(config: pytest.Config) -> HarborSession:
    """Return the session of a pytest process."""
    return config.stash[SESSION]


def configure(config: pytest.Config) -> None:
    """Begin a session: read the options, and take part in the run where datasets are given.

    Raises:
        pytest.UsageError: an option's value is not valid.

    """
    session = HarborSession(config, read_options(config))
    config.stash[SESSION] = session
    config.addinivalue_line(
        "markers",
        "harbor(dataset=None, task='*'): run this test once for each task of a dataset (its name, or a path relative "
        "to the test's file) whose name or id matches; without arguments, for each task of --harbor-dataset",
    )
    session.listener = Listener(session)
    config.pluginmanager.register(session.listener, "harbor-listener")
    if session.options.datasets:
        # A baseline that cannot be used is told before anything runs, and so are agents.
        _ = session.gate, session.agents.listed
        session.lifecycle.choose_arguments()


def unconfigure(config: pytest.Config) -> None:
    """End a session."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()


class Listener:
    """Hears of trials, also those of tests that turn up late: hooks that need the session and cost nothing without one.

    Args:
        session: the session.

    """

    def __init__(self, session: HarborSession) -> None:
        self._session = session
        self.other_failures = 0

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count what no verdict on trials may excuse."""
        self.other_failures += report.failed

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist which run it belongs to, and on what it runs."""
        node.workerinput["harbor_run"] = self._session.run_id
        if self._session.provider_used:
            node.workerinput["harbor_environment"] = self._session.provider.name

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear what a worker could not say."""
        problem = getattr(node, "workeroutput", {}).get("harbor_usage_error")
        if problem:
            raise pytest.UsageError(problem)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> Generator[None, None, None]:
        """Keep results for the summary, and have an infrastructure error count as an error everywhere."""
        if hasattr(report, "harbor") or hasattr(report, "harbor_stop"):
            self._session.lifecycle.take(report)
        # A test of the user's own may fail for reasons that are not the trial's.
        self.other_failures += report.failed and not getattr(report, "harbor_scored", False)
        if report.when != "call" or not getattr(report, "harbor_error", False):
            yield
            return
        # What tells failures from errors (JUnit XML and many plugins) goes by the phase of the report.
        report.when = "setup"
        try:
            yield
        finally:
            report.when = "call"


class HarborSession:
    """The state of the plugin in one process.

    Args:
        config: pytest's configuration.
        options: ours.

    """

    def __init__(self, config: pytest.Config, options: HarborConfig) -> None:
        self.config = config
        # A node id that was pasted back brings its task along.
        self.options = options if options.datasets else replace(options, datasets=_named_tasks(config))
        self.listener: Listener | None = None
        self.open_trials: set[Trial] = set()
        # The tasks of all shards that have been asked about, and whether each is of ours.
        self.shard: dict[str, bool] = {}
        self._previous_handler: Any = None

    @property
    def is_worker(self) -> bool:
        """Whether this process is a worker of pytest-xdist."""
        return hasattr(self.config, "workerinput")

    @property
    def provider_used(self) -> bool:
        """Whether this process has spoken to the provider."""
        return "provider" in self.__dict__

    @property
    def runs_trials(self) -> bool:
        """Whether this invocation is to run anything, and not only to show what there is."""
        return not self.config.option.collectonly

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """What accompanies the run; from the first look at this on, the plugin takes part in it."""
        from pytest_harbor.plugin.lifecycle import Lifecycle

        lifecycle = Lifecycle(self)
        self.config.pluginmanager.register(lifecycle, "harbor-lifecycle")
        return lifecycle

    @cached_property
    def run_id(self) -> str:
        """The name of the run; workers share that of their controller."""
        from pytest_harbor._util.run_id import new_run_id

        given: str | None = getattr(self.config, "workerinput", {}).get("harbor_run")
        return given or new_run_id()

    @cached_property
    def selection(self) -> Selection:
        """The tasks to run.

        Raises:
            pytest.UsageError: a path holds no task, or a pattern matches none.

        """
        from pytest_harbor.plugin.selection import Selection

        options = self.options
        if not options.datasets:
            raise pytest.UsageError("there are no Harbor tasks: give --harbor-dataset=PATH")
        seconds = self.gate.seconds() if options.shard else {}
        return Selection(
            options.datasets, options.tasks, options.exclude_tasks, options.taskset, options.shard, seconds
        )

    def in_shard(self, task: Task) -> bool:
        """Tell whether a task is of this run's shard; those that only a mark names are dealt by their ids."""
        if self.options.datasets and task.path in self.selection.whole:
            found = task.path in self.selection.tasks
        else:
            found = self.options.shard is None or self.options.shard.includes(task.id)
        self.shard[task.id] = found
        return found

    @cached_property
    def provider(self) -> Provider:
        """What makes the environments."""
        return self._chosen[0]

    @property
    def why_provider(self) -> str:
        """Why it was chosen, where that was left open."""
        return self._chosen[1]

    @cached_property
    def _chosen(self) -> tuple[Provider, str]:
        from pytest_harbor.environment.factory import create_provider

        options = self.options
        # Workers take what their controller has chosen.
        choice = getattr(self.config, "workerinput", {}).get("harbor_environment", options.environment)
        hidden = (self.config.rootpath, self.config.invocation_params.dir, options.results, *options.datasets)
        return create_provider(choice, hidden)

    @cached_property
    def gate(self) -> Gate:
        """What decides about the run as a whole.

        Raises:
            pytest.UsageError: the baseline cannot be used.

        """
        from pytest_harbor.plugin.gate import Gate

        return Gate(self.options)

    @cached_property
    def run(self) -> Run:
        """The run's directory; workers share that of their controller.

        Raises:
            pytest.UsageError: it cannot be made.

        """
        from pytest_harbor.results import Run

        run = Run(self.options.results, self.run_id)
        try:
            run.create_root()
        except OSError as error:
            raise pytest.UsageError(f"--harbor-results: {run.root} cannot be made: {error}") from error
        return run

    @cached_property
    def images(self) -> ImageStore:
        """The run's images."""
        from pytest_harbor.image import ImageStore

        options = self.options
        return ImageStore(
            self.provider,
            self.run.directory,
            adapt=options.adapt,
            registry=options.registry,
            policy=options.build,
            fallback=options.image,
            retries=options.infra_retries,
            timeout_multiplier=options.timeout_multiplier,
        )

    @cached_property
    def services(self) -> tuple[AgentService, ...]:
        """What accompanies the agents.

        Raises:
            pytest.UsageError: something that it needs is not there, or options contradict each other.

        """
        from pytest_harbor.plugin.services import services_of

        return services_of(self.options, self.agents, self.ledger)

    @cached_property
    def ledger(self) -> Ledger | None:
        """What the run has used of its budget, None where it has none."""
        from pytest_harbor.plugin.services import ledger_of

        return ledger_of(self.options, self.run.directory)

    @cached_property
    def agents(self) -> Agents:
        """What works on the tasks."""
        from pytest_harbor.plugin.agents import Agents

        return Agents(self.config, self.options)

    def trial(self, item: pytest.Item, task: Task) -> Trial:
        """Return the trial of a test, made at the first call."""
        if TRIAL not in item.stash:
            item.stash[TRIAL] = self._new_trial(item, task)
        return item.stash[TRIAL]

    def confirm(self, item: pytest.Item, failed: Trial) -> None:
        """Run a task that newly failed a few more times; what comes of it is on disk and decides nothing."""
        from pytest_harbor.errors import InfrastructureError

        for number in range(1, self.options.confirm + 1):
            trial = self._new_trial(item, failed.task, number)
            try:
                with contextlib.suppress(InfrastructureError):
                    trial.run(failed.agent)
            finally:
                trial.stop()
                self.open_trials.discard(trial)

    def _new_trial(self, item: pytest.Item, task: Task, confirmation: int = 0) -> Trial:
        from pytest_harbor.plugin.cases import assignment_of
        from pytest_harbor.plugin.trial_hooks import ItemHooks
        from pytest_harbor.trial import Trial, TrialPlace

        assignment = assignment_of(item)
        name = assignment.agent if assignment else ""
        place = TrialPlace(
            run=self.run.id,
            directory=self.run.trial_directory(task.name, f"{item.nodeid} {confirmation}".removesuffix(" 0")),
            attempt=assignment.attempt if assignment else 1,
            node_id=item.nodeid,
        )
        trial = Trial(
            task,
            self.provider,
            self.images,
            place,
            self.agents.settings(name),
            ItemHooks(item),
            recorder=self.run,
            echo=_echo if getattr(self.config.option, "capture", "") == "no" else None,
            services=self.services,
        )
        trial.result.confirmation = confirmation
        trial.agent = self.agents.agent(name)
        if trial.agent is not None:
            trial.result.agent = trial.agent.name
        self.open_trials.add(trial)
        return trial

    def collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect a directory if it is a task, or leads to one."""
        if not self.options.datasets:
            return None
        from pytest_harbor.plugin.collection import collect_directory

        return collect_directory(self, path, parent)

    def handle_sigterm(self) -> None:
        """Make SIGTERM an interrupt, so that environments are removed and results written; pytest itself just dies."""
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, _interrupt)

    def close(self) -> None:
        """Give up what is open."""
        if self._previous_handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._previous_handler)
        with contextlib.ExitStack() as stack:
            if self.provider_used:
                stack.callback(self.provider.close)
            for service in self.__dict__.get("services", ()):
                stack.callback(service.close)

    def abandon(self, why: BaseException) -> None:
        """Write down and remove what an interrupt left half done."""
        from pytest_harbor.errors import InfrastructureError

        for trial in list(self.open_trials):
            trial.fail(why)
            with contextlib.suppress(InfrastructureError):
                trial.stop()
        self.open_trials.clear()


def _named_tasks(config: pytest.Config) -> tuple[Path, ...]:
    """Return the directories of the task.toml files among the arguments."""
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        return ()
    paths = [Path(arg.partition("::")[0]) for arg in config.args]
    base = config.invocation_params.dir
    return tuple(Path(os.path.abspath(base / path)).parent for path in paths if path.name == "task.toml")  # noqa: PTH100


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(f"signal {number}")


def _echo(data: bytes) -> None:
    sys.stdout.write(data.decode("utf-8", "replace"))
    sys.stdout.flush()

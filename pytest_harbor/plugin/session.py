"""The state of the plugin in one pytest process, kept on `config.stash`.

Imported in every project that has the plugin installed, so: pytest and the standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_harbor.plugin.options.config import typed_options

if TYPE_CHECKING:
    from pytest_harbor.gate import Verdict
    from pytest_harbor.plugin.agents import Agents
    from pytest_harbor.plugin.fingerprint import Fingerprints
    from pytest_harbor.plugin.gate import Gate
    from pytest_harbor.plugin.options.table import HarborConfig
    from pytest_harbor.plugin.places import Places
    from pytest_harbor.plugin.selection import Selection
    from pytest_harbor.report.terminal import TrialTable
    from pytest_harbor.results.rounds import RoundLog
    from pytest_harbor.runner import Runner
    from pytest_harbor.trial import Trial

SESSION: pytest.StashKey[HarborSession] = pytest.StashKey()


def session_of(config: pytest.Config) -> HarborSession:
    """Return the plugin's session of a pytest process."""
    return config.stash[SESSION]


class HarborSession:
    """What the plugin knows about this run, set step by step by the modules that the comments name.

    Args:
        config: pytest's configuration.
        options: the plugin's options.

    """

    # Set by startup.configure().
    places: Places
    # Set by activation.activate(), which every run with Harbor tasks goes through.
    gate: Gate
    agents: Agents
    fingerprints: Fingerprints
    table: TrialTable
    # Set by rounds.round_log().
    round_log: RoundLog | None = None

    def __init__(self, config: pytest.Config, options: HarborConfig) -> None:
        self.config = config
        self.options = options
        # Set by listener.py at the start of the session.
        self.began = time.monotonic()
        self.active = False
        self.restore_signals: Callable[[], Any] | None = None
        # Set by select(); None if no dataset was given, or none is used.
        self.selection: Selection | None = None
        # The tasks that pytest was kept out of (places.py).
        self.guarded: list[Path] = []
        # What was found before workers started (preflight.py): mistakes in settings, and unmet requirements.
        self.problems: tuple[list[str], list[str]] | None = None
        # Set by runner.open_runner().
        self.runner: Runner | None = None
        self.provider_reason = ""
        # Trials that have begun and not ended (trials.py).
        self.open_trials: set[Trial] = set()
        # Every selected task of all shards by id, and whether it is in this run's shard.
        self.shard: dict[str, bool] = {}
        # Failed reports that are not a scored trial's; no verdict may excuse them (listener.py).
        self.other_failures = 0
        # What --harbor-changed did not run again, and why it ran the rest (changed.py).
        self.changed_notes: list[str] = []
        # Set by lifecycle.py at the end of the session.
        self.verdict: Verdict | None = None
        self.baseline_notes: list[str] = []
        self.exit_note = ""
        # Whether a requested file was not written, which fails the run (lifecycle.py, terminal.py).
        self.output_missing = False
        # Whether pytest prints its summary (terminal.py).
        self.summarizing = False

    @cached_property
    def run_id(self) -> str:
        """The name of the run; workers share their controller's."""
        from pytest_harbor._util.run_id import new_run_id

        given: str | None = getattr(self.config, "workerinput", {}).get("harbor_run")
        return given or new_run_id()

    @cached_property
    def asked_for_verdict(self) -> bool:
        """Whether the command line itself, rather than `addopts` or an ini key, asks for a verdict on the run."""
        config = self.config
        if self.is_worker:
            return bool(config.workerinput.get("harbor_asked_for_verdict"))  # type: ignore[attr-defined]
        if not config.getoption("harbor_gate") and not config.getoption("harbor_baseline"):
            return False
        typed = typed_options(config)
        return bool(typed.harbor_gate or typed.harbor_baseline)

    def select(self) -> Selection | None:
        """Return the selected tasks, found at the first call, or None if no option or argument names any.

        Raises:
            pytest.UsageError: a path holds no task, or a pattern matches none.

        """
        if self.selection is None and (self.options.datasets or self.places.found):
            from pytest_harbor.plugin.selection import Selection

            seconds = self.gate.seconds() if self.options.shard else {}
            self.selection = Selection(self.options, self.places, seconds)
        return self.selection

    @property
    def only_scores(self) -> bool:
        """Whether rewards are recorded without failing the tests of tasks."""
        return self.options.record_only or self.gate.scores

    @property
    def is_worker(self) -> bool:
        """Whether this process is a pytest-xdist worker."""
        return hasattr(self.config, "workerinput")

    @property
    def attempts(self) -> int:
        """The most attempts of each agent at each task: pytest-repeat's --count multiplies --harbor-attempts."""
        return self.attempts_of_tests * self._repeats

    @property
    def attempts_least(self) -> int:
        """The attempts after which a gate may end the run."""
        return self.options.attempts.least * self._repeats

    @property
    def in_rounds(self) -> bool:
        """Whether attempts are made in rounds, until the verdict is certain."""
        return self.runs_trials and self.attempts_least < self.attempts

    @property
    def attempts_of_tests(self) -> int:
        """The most attempts of a user's own tests, which pytest-repeat repeats by itself."""
        # The gate judges after the run of all shards, so none of them can know that more attempts are needed.
        return self.options.attempts.least if self.gate.deferred else self.options.attempts.most

    @property
    def _repeats(self) -> int:
        plugins = self.config.pluginmanager
        repeats = plugins.has_plugin("pytest_repeat") or plugins.has_plugin("repeat")
        return max(self.config.getoption("count", 1) if repeats else 1, 1)

    @property
    def runs_trials(self) -> bool:
        """Whether this invocation runs anything, rather than only listing what it would run."""
        return not self.config.option.collectonly

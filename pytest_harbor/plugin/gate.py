"""The gate of a run: single trials are scored, and the verdict on the run decides the exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from pytest_harbor._util.choices import CONFIG_TABLES
from pytest_harbor.gate import (
    Baseline,
    BaselineError,
    GateSpec,
    Key,
    Labels,
    Rounds,
    Sample,
    Verdict,
    check_same,
    decide,
    empty_groups,
    in_rounds,
    judge,
    labels_of,
    samples_of,
    samples_taken,
    save_baseline,
    unknown_agents,
    versus_problem,
)
from pytest_harbor.gate.toml_table import GateTableError, read_gate
from pytest_harbor.gate.versus import divide
from pytest_harbor.task import TaskError

if TYPE_CHECKING:
    from pytest_harbor.plugin.options.table import HarborConfig
    from pytest_harbor.task import Task
    from pytest_harbor.trial import TrialResult


class Gate:
    """The gate that the options describe.

    Args:
        config: pytest's configuration.
        options: the plugin's options.
        on_command_line: whether flags ask for a verdict, rather than an ini file alone.

    Raises:
        pytest.UsageError: the baseline is not usable or missing, or options exclude each other.

    """

    def __init__(self, config: pytest.Config, options: HarborConfig, *, on_command_line: bool = False) -> None:
        self._options = options
        self._on_command_line = on_command_line
        if self.versus and options.baseline is not None:
            raise pytest.UsageError(
                f"--harbor-gate={options.gate} compares with agent {self.versus} of this run, and --harbor-baseline "
                f"with {options.baseline}; keep one of the two"
            )
        if options.baseline is None and options.gate is not None and options.gate.needs_baseline:
            flags = ("--harbor-gate", "--harbor-baseline", "--harbor-save-baseline")
            raise pytest.UsageError(options.gate.missing_baseline(*flags))
        in_file = rule_in_file(config)
        # A file says how runs are judged, not that every run is.
        if in_file is not None and options.baseline is None and in_file.needs_baseline:
            in_file = None
        self._source = "--harbor-gate" if options.gate else str(config.inipath)
        self.rule = options.gate or in_file
        if options.update_baseline and options.baseline is None:
            raise pytest.UsageError("--harbor-update-baseline needs --harbor-baseline=FILE, the file to update")
        if options.changed and options.save_baseline is not None:
            raise pytest.UsageError(
                "--harbor-save-baseline would save only what --harbor-changed ran; use --harbor-update-baseline"
            )
        if options.attempts.adaptive:
            self._check_adaptive(config)
        self.baseline = self._read(options.baseline) if options.baseline else None

    def _check_adaptive(self, config: pytest.Config) -> None:
        """Refuse attempts that stop at a verdict where there is none, or where that would do harm."""
        options = self._options
        flag, fix = f"--harbor-attempts={options.attempts}", f"give one number, such as {options.attempts.most}"
        if options.save_baseline or options.update_baseline:
            saving = "--harbor-save-baseline" if options.save_baseline else "--harbor-update-baseline"
            raise pytest.UsageError(
                f"{flag} and {saving} exclude each other: rewards of attempts that stop at a verdict are biased; {fix}"
            )
        if options.baseline is None and not (self.rule and self.rule.versus):
            raise pytest.UsageError(
                f"{flag} stops once a comparison is decided, and nothing is compared; "
                f"add --harbor-baseline=FILE or --harbor-gate=versus=AGENT, or {fix}"
            )
        if config.getoption("dist", "no") == "each":
            raise pytest.UsageError(f"{flag} and --dist=each exclude each other; {fix}, or use another --dist")

    def _read(self, path: Path) -> Baseline | None:
        if self._options.update_baseline and not path.exists():
            return None
        try:
            return Baseline.read(path)
        except BaselineError as error:
            raise pytest.UsageError(f"--harbor-baseline: {error}") from error

    @property
    def scores(self) -> bool:
        """Whether the run as a whole is judged, and single trials are only scored."""
        return self._options.baseline is not None or self.rule is not None

    @property
    def versus(self) -> str:
        """The name of the agent of this run that the others are compared with; empty if there is none."""
        return self._options.gate.versus if self._options.gate else ""

    def check_agents(self, names: Collection[str]) -> None:
        """Check that the agents of a run can be compared with one of them.

        Raises:
            pytest.UsageError: they cannot.

        """
        if self.versus and (wrong := versus_problem(self.versus, names)):
            raise pytest.UsageError(f"--harbor-gate={self._options.gate}: {wrong}; --harbor-agents=FILE lists agents")

    @property
    def deferred(self) -> bool:
        """Whether there is no verdict yet, because this run is only one of several shards."""
        return self.scores and self._options.shard is not None and self._options.shard.count > 1

    def seconds(self) -> dict[str, float]:
        """Return the mean seconds of an attempt at each task in the baseline, over all agents."""
        found: dict[str, list[float]] = {}
        for (task, _), sample in self.baseline.samples.items() if self.baseline else ():
            if sample.seconds > 0:
                found.setdefault(task, []).append(sample.seconds)
        return {task: fmean(seconds) for task, seconds in found.items()}

    def model_calls(self, task: str, agent: str) -> bool | None:
        """Return whether an agent called a model for a task in the baseline; None if that is not known."""
        sample = self.baseline.samples.get((task, agent)) if self.baseline else None
        calls = sample.usage.get("calls") if sample else None
        # Some attempts may have called none.
        return None if calls is None or 0 < calls < 1 else calls >= 1

    def newly_failed(self, result: TrialResult) -> bool:
        """Return True if a trial failed and its task always passed in the baseline."""
        before = self.baseline.samples.get((result.task, result.agent)) if self.baseline else None
        if before is None or result.attempt != 1 or result.outcome not in ("failed", "unverified"):
            return False
        return before.digest == result.task_digest and 0 < len(before.rewards) == before.passed

    def problem(self, models: Mapping[Key, str], provider: str) -> str:
        """Return why a run cannot be compared at all, or not be added to the baseline; an empty text if it can.

        Args:
            models: the model of each task and agent.
            provider: name of the environments' provider.

        """
        options, baseline, keys = self._options, self.baseline, models.keys()
        if options.update_baseline == "add" and baseline is not None:
            run = Baseline({key: Sample((), 0, provider=provider, model=model) for key, model in models.items()})
            try:
                check_same(baseline, run)
            except BaselineError as error:
                fix = "run with the same, or start over with --harbor-update-baseline"
                return f"--harbor-update-baseline=add: nothing can be added to {options.baseline}: {error}; {fix}"
        if self.versus and self._on_command_line and not self.deferred:
            wrong = versus_problem(self.versus, {agent for _, agent in keys}) if keys else ""
            return f"--harbor-gate={options.gate}: the selected tests have nothing to compare: {wrong}" if wrong else ""
        if not self._on_command_line or baseline is None or options.update_baseline or self.deferred:
            return ""
        known = {baseline.samples[key].provider for key in keys if key in baseline.samples}
        if not keys or provider in known:
            return ""
        reasons = [] if known else unknown_agents({agent for _, agent in keys}, baseline)
        if known:
            others = ", ".join(sorted(known - {""}))
            reasons = [
                f"it is of {others}, and this run uses {provider}; see --harbor-environment"
                if others
                else "it does not say on which provider it ran; save it again with --harbor-save-baseline"
            ]
        reasons = reasons or ["none of the selected tasks is in it; save it again with --harbor-save-baseline"]
        return f"--harbor-baseline: nothing can be compared with {options.baseline}: {'; '.join(reasons)}"

    def empty_groups(self, tasks: Iterable[Task]) -> list[str]:
        """Return a message for each group that no task belongs to, neither among these nor in the baseline."""
        if self.rule is None or not (self._on_command_line or self.baseline):
            return []
        found = labels_of(self.baseline.samples if self.baseline else {})
        for task in tasks:
            found[task.id] = Labels()
            with contextlib.suppress(TaskError):
                found[task.id] = Labels(task.category or "", task.difficulty or "")
        return [f"{self._source}: {problem}" for problem in empty_groups(self.rule.groups, found)]

    def is_certain(self, results: list[TrialResult], rounds: Rounds) -> bool:
        """Return True if the verdict is certain after a complete round.

        Args:
            results: all results so far.
            rounds: the round that is complete.

        """
        counted = in_rounds(results, rounds)
        if any(result.cut_by_run for result in counted):
            return False
        rule, baseline = replace(self.rule or GateSpec(), compares=True), self.baseline
        run = {**samples_taken(counted, baseline)[0], **samples_of(counted)}
        if rule.versus:
            run, baseline = divide(run, rule.versus)
        return baseline is not None and decide(run, baseline, rule, rounds) is not None

    def judge(
        self, results: list[TrialResult], stopped: str = "", notes: Sequence[str] = (), rounds: Rounds | None = None
    ) -> Verdict | None:
        """Return the verdict on a run, or None if no option asks for one.

        If only an ini file asks for one, a run without trials is not judged: its tests are of another kind.

        Args:
            results: the results that count.
            stopped: why the run ended early; empty if it did not.
            notes: what else a reader should know.
            rounds: the rounds of attempts of the run; None if their number was fixed.

        """
        if self.deferred or not self.scores or not (results or self._on_command_line):
            return None
        spec = self.rule or GateSpec()
        options = self._options
        limit, coverage = options.max_infra_errors, options.min_coverage
        taken, doubts = samples_taken(results, self.baseline)
        run = {**taken, **samples_of(results)}
        return judge(
            run, self.baseline, spec, limit, stopped, doubts, min_coverage=coverage, notes=notes, rounds=rounds
        )

    def exit_status(self, verdict: Verdict) -> int:
        """Return the exit status for a verdict; updating the baseline accepts any."""
        return 0 if self._options.update_baseline else verdict.exit_status(self._options.inconclusive)

    @property
    def accepted_by(self) -> str:
        """The option that makes the exit status 0 although the verdict is not `pass`."""
        return "--harbor-update-baseline" if self._options.update_baseline else "--harbor-inconclusive=pass"

    def save(self, results: list[TrialResult], stopped: str = "") -> list[tuple[bool, list[str]]]:
        """Write the requested baselines.

        Args:
            results: all results of the run.
            stopped: why the run ended early; empty if it did not.

        Returns:
            For each baseline, whether it was written, and the lines of a message.

        """
        if results and all(result.unchanged for result in results):
            return [(True, [f"{file} stays as it is: nothing has changed"]) for file, *_ in self.files_to_write()]
        gaps = [f"the run was stopped: {stopped}"] if stopped else []
        return [self._save(file, results, update, gaps, add=add) for file, update, add in self.files_to_write()]

    def _save(
        self, file: Path, results: list[TrialResult], update: Baseline | None, gaps: list[str], *, add: bool
    ) -> tuple[bool, list[str]]:
        try:
            return True, save_baseline(
                file,
                results,
                update=update,
                add=add,
                gaps=gaps,
                limit=self._options.max_infra_errors,
                forced=self._options.force_baseline,
                prefix="--harbor-",
            )
        except BaselineError as error:
            return False, [str(error)]

    def files_to_write(self) -> Iterator[tuple[Path, Baseline | None, bool]]:
        """Yield each file to write, the baseline to update, None for a new one, and whether to add to its attempts."""
        options = self._options
        if options.save_baseline:
            yield options.save_baseline, None, False
        if options.update_baseline and options.baseline:
            yield options.baseline, self.baseline, options.update_baseline == "add"


def rule_in_file(config: pytest.Config) -> GateSpec | None:
    """Return the rule in a table of pytest's configuration file, unless a flag takes its place."""
    file = config.inipath
    if file is None or file.name not in CONFIG_TABLES or config.getoption("harbor_gate") is not None:
        return None
    try:
        found = read_gate(file)
    except GateTableError as error:
        raise pytest.UsageError(str(error)) from error
    if found is not None and config.getini("harbor_gate"):
        raise pytest.UsageError(
            f"{file} has a table with the rule of a gate and the ini key harbor_gate; keep one of the two"
        )
    return found

"""Samples and baselines from the results of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from statistics import fmean

from pytest_harbor._util.files import Digest
from pytest_harbor._util.text import listed, plural
from pytest_harbor.gate.baseline import COUNTS, MEANS, Baseline, Key, Sample, SampleRun, significant
from pytest_harbor.trial import TrialResult, Usage

# The most tasks that a message names.
_MAX_NAMES = 5

# The usage in a sample, and the name of each number in a result.
_USAGE = {
    "calls": "requests",
    "replayed": "replayed",
    "estimated": "estimated",
    **{name: name for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")},
}


def counts(result: TrialResult) -> bool:
    """Return True if a trial counts: not a confirmation, not skipped, and not cut short by the run's budget."""
    return result.outcome != "skipped" and not result.confirmation and not result.cut_by_run


def samples_of(results: Iterable[TrialResult]) -> dict[Key, Sample]:
    """Gather the attempts of each agent at each task, in the order of their runs.

    If several tests ran the agent on the task, only the trials of one count: the task's own, or else the first by name.
    """
    results = list(results)
    dates = _dates(results)
    groups: dict[Key, dict[str, list[TrialResult]]] = {}
    tests = _counted_tests(results)
    for result in sorted(results, key=lambda result: (result.task, result.agent, result.attempt, result.node_id)):
        if counts(result) and _test(result) == tests[_case(result)]:
            groups.setdefault((result.task, result.agent), {}).setdefault(result.run, []).append(result)
    return {
        key: Sample.pooled([_sample(runs[run], dates[run]) for run in sorted(runs, key=lambda run: (dates[run], run))])
        for key, runs in groups.items()
    }


def _test(result: TrialResult) -> str:
    """Return the test function of a trial, its node id without parameters; empty if there is none."""
    path, separator, name = result.node_id.partition("::")
    return f"{path}::{name.partition('[')[0]}" if separator else ""


def _case(result: TrialResult) -> tuple[str, str, str]:
    return result.run, result.task, result.agent


def _counted_tests(results: Iterable[TrialResult]) -> dict[tuple[str, str, str], str]:
    """Return the test whose trials count, for each agent and task of a run.

    Each test that requests a trial has its own. Were all of them attempts, another test would change the statistics.
    """
    found: dict[tuple[str, str, str], str] = {}
    for result in filter(counts, results):
        tests = (_test(result), found.get(_case(result), _test(result)))
        found[_case(result)] = min(tests, key=lambda test: ("task.toml::" not in test, test))
    return found


def uncounted_tests(results: Iterable[TrialResult]) -> list[str]:
    """Return the tests with trials that are in no sample, since another test has run the same agent on the task."""
    results = list(filter(counts, results))
    tests = _counted_tests(results)
    return sorted({_test(result) for result in results if _test(result) != tests[_case(result)]})


def _dates(results: Iterable[TrialResult]) -> dict[str, str]:
    """Return when each run started its first trial."""
    dates: dict[str, str] = {}
    for result in results:
        known = (date for date in (dates.get(result.run), result.started_at) if date)
        dates[result.run] = min(known, default="")
    return dates


def _sample(results: list[TrialResult], date: str) -> Sample:
    """Return the sample of the attempts of one run."""
    # With --harbor-missing-reward=error, an unverified trial has no reward and counts as an error.
    graded = [result for result in results if result.reward is not None]
    known = graded or results
    sample = Sample(
        rewards=tuple(result.reward for result in graded if result.reward is not None),
        passed=sum(result.outcome == "passed" for result in graded),
        unverified=sum(result.outcome == "unverified" for result in graded),
        expected=sum(result.xfail and result.outcome != "passed" for result in graded),
        errors=len(results) - len(graded),
        digest=known[0].task_digest,
        settings=joint_settings(result.settings for result in known),
        image=known[0].image.get("id", ""),
        provider=known[0].provider,
        model=known[0].model,
        threshold=known[0].threshold,
        category=known[0].category,
        difficulty=known[0].difficulty,
        seconds=round(fmean(sum(result.phases.values()) for result in known), 1),
        agent_seconds=significant(fmean(result.phases.get("agent", 0.0) for result in known)),
        usage=_mean_usage([result.usage for result in known]),
    )
    values = {name: getattr(sample, name) for name in (*COUNTS, *MEANS)}
    return replace(sample, runs=(SampleRun(results[0].run, date, len(sample.rewards), **values),))


def joint_settings(settings: Iterable[str]) -> str:
    """Return one digest for the settings of several attempts, which differ in a replay: each has its own cassette."""
    each = list(settings)
    if "" in each or len(set(each)) < 2:
        return "" if "" in each else each[0]
    digest = Digest()
    digest.add(*each)
    return digest.hex()[: len(each[0])]


def _mean_usage(usages: Sequence[Usage | None]) -> dict[str, float]:
    known = [usage for usage in usages if usage is not None]
    if not known or len(known) < len(usages):
        return {}
    costs = [usage.cost for usage in known if usage.cost is not None]
    means = {name: round(fmean(getattr(usage, field) for usage in known), 1) for name, field in _USAGE.items()}
    return {**means, **({"cost": round(fmean(costs), 6)} if len(costs) == len(known) else {})}


def samples_taken(results: Iterable[TrialResult], baseline: Baseline | None) -> tuple[dict[Key, Sample], list[str]]:
    """Return the samples of tasks that were not run again, as nothing had changed since the baseline that has them.

    The second value says which of them this baseline does not have; without them, the run cannot be judged.
    """
    groups: dict[Key, list[TrialResult]] = {}
    for result in sorted(results, key=lambda result: (result.task, result.agent, result.attempt)):
        if result.unchanged:
            groups.setdefault((result.task, result.agent), []).append(result)
    found: dict[Key, Sample] = {}
    missing = []
    for key, skipped in groups.items():
        sample = baseline.samples.get(key) if baseline else None
        settings = joint_settings(each.settings for each in skipped)
        same = (skipped[0].task_digest, settings, skipped[0].provider)
        if sample is not None and (sample.digest, sample.settings, sample.provider) == same:
            found[key] = sample.graded_by(skipped[0].threshold)
        else:
            missing.append(key[0])
    if not missing:
        return found, []
    tasks = f"{plural(len(missing), 'task')} ({listed(missing, _MAX_NAMES)})"
    return found, [f"not run again, and not in this baseline: {tasks}; compare with the baseline of the run"]


def confirmations_of(results: Iterable[TrialResult]) -> dict[Key, tuple[int, int]]:
    """Return, for each task that newly failed, how many of its confirmations passed, and how many there were."""
    found: dict[Key, tuple[int, int]] = {}
    for result in results:
        if result.confirmation and result.outcome in ("passed", "failed", "unverified"):
            passed, total = found.get((result.task, result.agent), (0, 0))
            found[result.task, result.agent] = (passed + (result.outcome == "passed"), total + 1)
    return found


def baseline_of(results: Iterable[TrialResult]) -> Baseline:
    """Return a baseline from the results of a run."""
    results = list(results)
    samples = samples_of(results)
    run = {
        "ids": sorted({result.run for result in results}),
        "started_at": min((result.started_at for result in results if result.started_at), default=""),
        "trials": sum(len(sample.rewards) + sample.errors for sample in samples.values()),
        "pytest_harbor": version("pytest-harbor"),
    }
    return Baseline(samples, run)

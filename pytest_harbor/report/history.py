"""What an agent achieved from run to run. Tasks are compared only with themselves, as long as they stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from pytest_harbor.gate.baseline import GRADED
from pytest_harbor.gate.samples import counts
from pytest_harbor.results import RESULTS, StoredRun, earlier_runs
from pytest_harbor.trial import TrialResult

# A task fails or passes in a run if at most, or at least, this share of its attempts passed.
FAILS, PASSES = 0.2, 0.8

# What the page of a run shows of earlier ones. Reading 8 MiB of results takes less than half a second. A run with more
# than a fifth of that takes much longer to write its page than to read five others like it.
MAX_RUNS = 30
MAX_BYTES = 8 << 20
MAX_TIMES = 5


@dataclass(frozen=True)
class TaskScore:
    """The graded attempts of an agent at a task in one run.

    Attributes:
        same: what must be equal for scores to be comparable; empty if nothing is comparable to it.
        passed: how many attempts passed.
        rewards: their rewards.

    """

    same: tuple[str, str, float] | None
    passed: int
    rewards: tuple[float, ...]

    @property
    def fails(self) -> bool | None:
        """Whether at most a fifth of the attempts passed; None for neither that nor at least four fifths."""
        share = self.passed / len(self.rewards)
        return True if share <= FAILS else False if share >= PASSES else None

    @property
    def share(self) -> str:
        """How many attempts passed, such as `3/5`."""
        return f"{self.passed}/{len(self.rewards)}"


@dataclass(frozen=True)
class AgentRun:
    """What one agent achieved on one dataset in one run. Confirmations and skipped trials do not count.

    Attributes:
        run: id of the run.
        directory: its directory.
        started_at: when it started: ISO 8601, UTC.
        shard: number and count, such as `2/8`; empty if the run was not sharded.
        dataset: name of the dataset.
        agent: name of the agent.
        models: the models that it was told to use.
        errors: number of trials that ended with an infrastructure error.
        cost: mean cost of a trial in US dollars; None if no trial was metered, or a price is unknown.
        metered: number of trials whose model usage is known.
        estimated: whether token counts are estimated, and so the cost.
        seconds: mean duration of a trial; None if none was timed.
        tasks: the score of each graded task.

    """

    run: str
    directory: Path
    started_at: str
    shard: str
    dataset: str
    agent: str
    models: tuple[str, ...]
    errors: int
    cost: float | None
    metered: int
    estimated: bool
    seconds: float | None
    tasks: Mapping[str, TaskScore] = field(repr=False)

    @property
    def rewards(self) -> list[float]:
        """The rewards of all graded trials."""
        return [reward for score in self.tasks.values() for reward in score.rewards]

    @property
    def passed(self) -> int:
        """The number of trials that passed."""
        return sum(score.passed for score in self.tasks.values())

    @property
    def mean(self) -> float | None:
        """The mean reward of all graded trials; None if there are none."""
        return fmean(rewards) if (rewards := self.rewards) else None

    @property
    def pass_rate(self) -> float | None:
        """The share of graded trials that passed; None if there are none."""
        return self.passed / len(rewards) if (rewards := self.rewards) else None

    def shared(self, other: AgentRun) -> list[str]:
        """Return the tasks that are the same in another run."""
        return [
            task
            for task, score in self.tasks.items()
            if score.same and (theirs := other.tasks.get(task)) and theirs.same == score.same
        ]

    def limited_to(self, tasks: Iterable[str]) -> AgentRun:
        """Return the same with the scores of some tasks only; errors, cost and time stay those of all trials."""
        return replace(self, tasks={task: self.tasks[task] for task in tasks})


@dataclass(frozen=True)
class Change:
    """A task that began to fail, or that was fixed.

    Attributes:
        task: id of the task.
        run: the run in which it changed.
        last: the last run before in which the same task clearly passed or failed.

    """

    task: str
    run: AgentRun
    last: AgentRun

    @property
    def before(self) -> TaskScore:
        """Its attempts before."""
        return self.last.tasks[self.task]

    @property
    def after(self) -> TaskScore:
        """Its attempts in the run."""
        return self.run.tasks[self.task]


def agent_runs(run: StoredRun) -> list[AgentRun]:
    """Return what each agent achieved on each dataset of a run."""
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for result in filter(counts, run.results):
        groups.setdefault((result.dataset, result.agent), []).append(result)
    return [_agent_run(run, *key, groups[key]) for key in sorted(groups)]


def _agent_run(run: StoredRun, dataset: str, agent: str, results: Sequence[TrialResult]) -> AgentRun:
    by_task: dict[str, list[TrialResult]] = {}
    for result in results:
        if result.outcome in GRADED and result.reward is not None:
            by_task.setdefault(result.task, []).append(result)
    usages = [result.usage for result in results if result.usage is not None]
    costs = [usage.cost for usage in usages if usage.cost is not None]
    # Only the run itself knows how long its trials took to stop.
    phases = [[seconds for name, seconds in result.phases.items() if name != "stop"] for result in results]
    seconds = [sum(each) for each in phases if each]
    return AgentRun(
        run.id,
        run.file.parent,
        run.started_at,
        run.shard,
        dataset,
        agent,
        tuple(sorted({result.model for result in results if result.model})),
        sum(result.outcome == "error" for result in results),
        fmean(costs) if costs and len(costs) == len(usages) else None,
        len(usages),
        any(usage.estimated for usage in usages),
        fmean(seconds) if seconds else None,
        {task: _score(by_task[task]) for task in sorted(by_task)},
    )


def _score(results: Sequence[TrialResult]) -> TaskScore:
    first = results[0]
    return TaskScore(
        (first.task_digest, first.provider, first.threshold) if first.task_digest else None,
        sum(result.outcome == "passed" for result in results),
        tuple(result.reward for result in results if result.reward is not None),
    )


def histories(runs: Iterable[AgentRun]) -> dict[tuple[str, str], list[AgentRun]]:
    """Return the runs of each dataset and agent, the oldest first."""
    found: dict[tuple[str, str], list[AgentRun]] = {}
    for each in sorted(runs, key=lambda each: (each.started_at, each.run)):
        found.setdefault((each.dataset, each.agent), []).append(each)
    return dict(sorted(found.items()))


def changes(runs: Iterable[AgentRun]) -> list[Change]:
    """Return the tasks that began to fail or were fixed, in runs of one agent and dataset, the oldest first."""
    last: dict[tuple[str, tuple[str, str, float]], AgentRun] = {}
    found = []
    for run in runs:
        for task, score in run.tasks.items():
            if score.same is None or score.fails is None:
                continue
            before = last.get((task, score.same))
            if before is not None and before.tasks[task].fails != score.fails:
                found.append(Change(task, run, before))
            last[task, score.same] = run
    return found


def page_history(results: Sequence[TrialResult], directory: Path) -> list[list[AgentRun]]:
    """Return the history of each agent and dataset of a run: the runs that its page shows, and at last the run itself.

    Earlier runs have only the tasks that they share with this one, and those that share fewer than half are skipped.
    How much is read is limited.

    Args:
        results: the trials of the run.
        directory: the directory of the run.

    """
    now = {
        (each.dataset, each.agent): [each]
        for each in agent_runs(StoredRun(directory.name, directory / RESULTS, "", results))
        if each.tasks
    }
    try:
        own = (directory / RESULTS).stat().st_size
    except OSError:
        return []
    used = set()
    for run in earlier_runs(directory, max(MAX_BYTES, MAX_TIMES * own)):
        for each in agent_runs(run):
            found = now.get((each.dataset, each.agent))
            shared = each.shared(found[-1]) if found else []
            if found and 2 * len(shared) >= len(found[-1].tasks):
                found.insert(0, each.limited_to(shared))
                used.add(run.file)
        if len(used) == MAX_RUNS:
            break
    return [runs for runs in now.values() if len(runs) > 1]

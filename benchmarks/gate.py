"""How often the gate is wrong: false alarms for an unchanged agent, and regressions that it misses.

Agents are simulated with a fixed seed. Beside the gate are the rule of version 0.1.0 (a sign-flip test of the tasks'
means, and Fisher's exact test per task) and two rules that are common elsewhere.

    python benchmarks/gate.py                    200 runs per cell
    python benchmarks/gate.py --runs 1000        1,000 runs per cell
    python benchmarks/gate.py --assert           exit with 1 if a promise of docs/gates.md is broken
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from pytest_harbor.gate import Baseline, GateSpec, Key, Rounds, Sample, decide, judge

FALSE_ALARMS = 0.05
# How many standard errors a share may be beyond a promise, as one of many cells is by chance.
NOISE = 3.0

Rewards = tuple[float, ...]
Run = dict[Key, Sample]


def realistic(rng: random.Random) -> float:
    """Return the chance of a pass as benchmarks show it: many tasks are nearly always or nearly never solved."""
    kind = rng.random()
    return 0.01 if kind < 0.35 else 0.98 if kind < 0.7 else rng.random()


AGENTS: dict[str, Callable[[random.Random], float]] = {
    "beta": lambda rng: rng.betavariate(0.5, 0.5),
    "real": realistic,
    "hard": lambda _: 0.1,
    "easy": lambda _: 0.95,
    "det": lambda rng: float(rng.random() < 0.5),
    "frac": lambda rng: rng.random(),
}


@dataclass(frozen=True)
class Cell:
    """A situation to simulate.

    Attributes:
        agent: the distribution of the tasks' chances, a name in AGENTS; the rewards of `frac` are tenths.
        tasks: number of tasks.
        before: attempts per task of the baseline.
        after: attempts per task of the run.
        even: how much every task's chance falls.
        broken: how much the mean falls because whole tasks break.
        alike: the chance that an attempt repeats what its run does at this task.
        caught: the share of runs that must be called regressed; None if nothing is promised.

    """

    agent: str
    tasks: int
    before: int
    after: int
    even: float = 0.0
    broken: float = 0.0
    alike: float = 0.0
    caught: float | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the agent is the same before and after."""
        return not self.even and not self.broken

    def __str__(self) -> str:
        loss = f"every task -{self.even:.0%}" if self.even else f"broken -{self.broken:.0%}" if self.broken else "same"
        alike = f", {self.alike:.0%} alike" if self.alike else ""
        return f"{self.agent:4} {self.tasks:4} x {self.before:2}:{self.after:<2} {loss}{alike}"


def cells() -> Iterator[Cell]:
    """Yield the cells, the unchanged agents first."""
    for agent in AGENTS:
        for tasks in (10, 30, 89):
            yield Cell(agent, tasks, 3, 3)
    for before, after in ((10, 1), (10, 3), (3, 1), (1, 3), (3, 10)):
        for agent, tasks in (("hard", 10), ("beta", 30), ("real", 30), ("easy", 30)):
            yield Cell(agent, tasks, before, after)
    for agent, tasks, attempts in (("beta", 30, 10), ("beta", 10, 5), ("beta", 89, 3), ("real", 89, 5)):
        yield Cell(agent, tasks, attempts, attempts, alike=1.0)
    for agent in ("beta", "real"):
        yield Cell(agent, 30, 3, 3, even=0.15, caught=0.65)
        yield Cell(agent, 30, 3, 3, broken=0.1, caught=0.75)
        yield Cell(agent, 89, 3, 3, even=0.15, caught=0.98)
        yield Cell(agent, 89, 3, 3, broken=0.1, caught=0.97)
        yield Cell(agent, 30, 10, 1, broken=0.1)
        yield Cell(agent, 30, 10, 3, even=0.1)


def draw(cell: Cell, chances: Sequence[float], attempts: int, rng: random.Random) -> list[Rewards]:
    """Return the rewards of a simulated run."""

    def reward(chance: float) -> float:
        if cell.agent == "frac":
            return sum(rng.random() < chance for _ in range(10)) / 10
        return float(rng.random() < chance)

    run = []
    for chance in chances:
        common = reward(chance)
        run.append(tuple(common if rng.random() < cell.alike else reward(chance) for _ in range(attempts)))
    return run


def worse(cell: Cell, chances: Sequence[float], rng: random.Random) -> list[float]:
    """Return the tasks' chances once the agent got worse."""
    found = [max(0.0, chance - cell.even) for chance in chances]
    # Solved tasks break, one after the other, until the mean has fallen far enough.
    left = cell.broken * len(found)
    order = sorted(range(len(found)), key=lambda place: (found[place] <= 0.5, rng.random()))
    for place in order:
        loss = min(left, found[place])
        found[place] -= loss
        left -= loss
    return found


def samples(run: Sequence[Rewards]) -> Run:
    """Return a run as samples."""
    return {
        (f"ds/{number:03}", "agent"): Sample(rewards, sum(reward >= 1 for reward in rewards), digest="d")
        for number, rewards in enumerate(run)
    }


def ours(before: Sequence[Rewards], after: Sequence[Rewards]) -> str:
    """Return our gate's verdict."""
    return judge(samples(after), Baseline(samples(before)), GateSpec()).word


def old(before: Sequence[Rewards], after: Sequence[Rewards]) -> str:
    """Return the verdict of the rule of version 0.1.0."""
    from scipy.stats import false_discovery_control, fisher_exact

    changes = [fmean(two) - fmean(one) for one, two in zip(before, after, strict=True)]
    large = fmean(changes) <= -0.05 + 1e-9
    if large and sign_flip(changes) <= 0.0425:
        return "regressed"
    tests = []
    for one, two in zip(before, after, strict=True):
        passed = [sum(reward >= 1 for reward in rewards) for rewards in (two, one)]
        table = [[passed[0], len(two) - passed[0]], [passed[1], len(one) - passed[1]]]
        tests.append(fisher_exact(table, "less").pvalue)
    found = false_discovery_control(tests) <= 0.05
    if any(bad and change <= -0.05 for bad, change in zip(found, changes, strict=True)):
        return "regressed"
    return "inconclusive" if large else "pass"


def sign_flip(changes: Sequence[float]) -> float:
    """Return the p-value of a sign-flip test, from 2,000 random patterns."""
    rng, observed = random.Random(1), sum(changes) + 1e-9
    sizes = [change for change in changes if change]
    low = sum(sum(size if rng.random() < 0.5 else -size for size in sizes) <= observed for _ in range(2000))
    return (low + 1) / 2001 if sizes else 1.0


def any_flip(before: Sequence[Rewards], after: Sequence[Rewards]) -> str:
    """Call a run regressed if any task that passed most of its attempts now fails."""
    flips = any(fmean(one) >= 0.5 > fmean(two) for one, two in zip(before, after, strict=True))
    return "regressed" if flips else "pass"


def five_points(before: Sequence[Rewards], after: Sequence[Rewards]) -> str:
    """Call a run regressed if the mean reward fell by more than 0.05."""
    return "regressed" if fmean(map(fmean, before)) - fmean(map(fmean, after)) > 0.05 else "pass"


RULES = {"gate": ours, "0.1.0": old, "any flip": any_flip, "5 points": five_points}


def simulate(cell: Cell, runs: int, seed: int) -> dict[str, float]:
    """Return how often each rule says `regressed`, and how often the gate cannot say."""
    rng = random.Random(f"{seed} {cell}")
    found = dict.fromkeys((*RULES, "inconclusive"), 0)
    for _ in range(runs):
        chances = [AGENTS[cell.agent](rng) for _ in range(cell.tasks)]
        before = draw(cell, chances, cell.before, rng)
        after = draw(cell, worse(cell, chances, rng), cell.after, rng)
        for name, rule in RULES.items():
            word = rule(before, after)
            found[name] += word == "regressed"
            found["inconclusive"] += rule is ours and word == "inconclusive"
    return {name: count / runs for name, count in found.items()}


@dataclass(frozen=True)
class Adaptive:
    """Runs of 1 to 10 attempts per task against a baseline of 10, over 30 tasks.

    Attributes:
        words: the share of runs with each verdict.
        rounds: the mean number of attempts per task.
        blocked: the share of baselines for which any of 20 unchanged runs is no pass; None if the agent changed.

    """

    words: dict[str, float]
    rounds: float
    blocked: float | None


def adaptive(cell: Cell, runs: int, seed: int) -> Adaptive:
    """Simulate runs in rounds; for an unchanged agent, 20 per baseline."""
    rng = random.Random(f"adaptive {seed} {cell}")
    repeats = 20 if cell.unchanged else 1
    words: dict[str, int] = {}
    total = blocked = 0
    for _ in range(runs):
        chances = [AGENTS[cell.agent](rng) for _ in range(cell.tasks)]
        before = draw(cell, chances, cell.before, rng)
        found = [rounds_of(cell, before, worse(cell, chances, rng), rng) for _ in range(repeats)]
        for word, rounds in found:
            words[word] = words.get(word, 0) + 1
            total += rounds
        blocked += any(word != "pass" for word, _ in found)
    everything = runs * repeats
    shares = {word: count / everything for word, count in words.items()}
    return Adaptive(shares, total / everything, blocked / runs if cell.unchanged else None)


def rounds_of(cell: Cell, before: Sequence[Rewards], chances: Sequence[float], rng: random.Random) -> tuple[str, int]:
    """Return the verdict on a run in rounds, and how many there were."""
    baseline = Baseline(samples(before))
    attempts: list[Rewards] = [() for _ in chances]
    for done in range(1, cell.after + 1):
        attempts = [(*had, *new) for had, new in zip(attempts, draw(cell, chances, 1, rng), strict=True)]
        run, rounds = samples(attempts), Rounds(done, cell.after)
        if decide(run, baseline, GateSpec(), rounds):
            break
    return judge(run, baseline, GateSpec(), rounds=rounds).word, done


def adaptive_cells() -> list[Cell]:
    """Return the cells of runs in rounds; `after` is the largest number of rounds."""
    return [
        Cell(agent, 30, 10, 10, **loss)
        for agent in ("beta", "real")
        for loss in ({}, {"broken": 0.1}, {"broken": 0.2}, {"even": 0.1})
    ]


def broken_promise(cell: Cell, share: float, runs: int) -> str:
    """Return what a cell shows against the gate's promises, beyond noise; empty if nothing."""
    if cell.unchanged:
        limit = FALSE_ALARMS + NOISE * math.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / runs)
        return f"{cell}: {share:.1%} false alarms, more than {FALSE_ALARMS:.0%}" if share > limit else ""
    if cell.caught is None:
        return ""
    limit = cell.caught - NOISE * math.sqrt(cell.caught * (1 - cell.caught) / runs)
    return f"{cell}: {share:.1%} caught, less than {cell.caught:.0%}" if share < limit else ""


def print_adaptive(pool: ProcessPoolExecutor, runs: int, seed: int) -> None:
    """Print what runs in rounds cost, and how often they end with which verdict."""
    print("\n1 to 10 attempts per task: mean number, verdicts, baselines for which any of 20 unchanged runs is no pass")
    found = pool.map(partial(adaptive, runs=max(runs // 2, 1), seed=seed), table := adaptive_cells())
    for cell, result in zip(table, found, strict=True):
        shares = "".join(f"{word:>14} {share:5.1%}" for word, share in sorted(result.words.items()))
        blocked = "" if result.blocked is None else f"{result.blocked:10.1%}"
        print(f"{cell!s:46}{result.rounds:6.2f}{shares}{blocked}", flush=True)


def main() -> None:
    """Print the table, and check the promises with --assert."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200, help="simulated runs per cell (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    parser.add_argument("--assert", dest="check", action="store_true", help="exit with 1 if a promise is broken")
    options = parser.parse_args()
    broken = []
    print("how often a rule says `regressed`, and the gate `inconclusive`; attempts are before:after")
    print(f"{'':46}" + "".join(f"{name:>10}" for name in RULES) + "  inconclusive")
    with ProcessPoolExecutor() as pool:
        found = pool.map(partial(simulate, runs=options.runs, seed=options.seed), table := list(cells()))
        for cell, shares in zip(table, found, strict=True):
            numbers = "".join(f"{shares[name]:10.1%}" for name in RULES)
            print(f"{cell!s:46}{numbers}{shares['inconclusive']:14.1%}", flush=True)
            if problem := broken_promise(cell, shares["gate"], options.runs):
                broken.append(problem)
        print_adaptive(pool, options.runs, options.seed)
    if options.check and broken:
        raise SystemExit("\n".join(broken))


if __name__ == "__main__":
    main()

"""The error rates of the gate: false alarms for an unchanged agent, and misses for one that is worse on every task.

Agents are simulated with a fixed seed: the chance that a task passes is drawn from Beta(0.5, 0.5), which solves most
tasks nearly always or nearly never. Two rules that are common elsewhere are shown for comparison.

    python benchmarks/gate.py                    400 runs per cell
    python benchmarks/gate.py --runs 2000        2,000 runs per cell
    python benchmarks/gate.py --assert           exit with 1 if a promise is broken
"""

from __future__ import annotations

import argparse
import random
from statistics import fmean

from pytest_harbor.gate import Baseline, GateSpec, Key, Sample, judge

SIZES = (10, 30, 89)
ATTEMPTS = (1, 3, 5)
LOSS = 0.15
FALSE_ALARMS = 0.05
CAUGHT = {(30, 3): 0.60, (89, 3): 0.95}
Run = dict[Key, Sample]


def draw(chances: list[float], attempts: int, rng: random.Random) -> Run:
    """Return a simulated run of an agent, given the chance that each task passes."""
    run = {}
    for number, chance in enumerate(chances):
        rewards = tuple(float(rng.random() < chance) for _ in range(attempts))
        run[f"ds/{number:03}", "agent"] = Sample(rewards, int(sum(rewards)), digest="d", provider="docker")
    return run


def ours(before: Run, after: Run) -> bool:
    """Return True if our gate says that the agent has regressed."""
    return judge(after, Baseline(before), GateSpec()).word == "regressed"


def any_flip(before: Run, after: Run) -> bool:
    """Return True if any task that passed most of its attempts now fails."""
    return any(before[key].mean >= 0.5 > after[key].mean for key in before)


def five_points(before: Run, after: Run) -> bool:
    """Return True if the mean reward fell by more than 0.05."""
    loss = fmean(before[key].mean for key in before) - fmean(after[key].mean for key in after)
    return loss > 0.05


RULES = {"ours": ours, "any flip": any_flip, "5 points": five_points}


def cell(size: int, attempts: int, runs: int, loss: float, rng: random.Random) -> dict[str, float]:
    """Return how often each rule reports a regression of an agent that is worse by `loss` on every task."""
    reported = dict.fromkeys(RULES, 0)
    for _ in range(runs):
        chances = [rng.betavariate(0.5, 0.5) for _ in range(size)]
        before = draw(chances, attempts, rng)
        after = draw([max(0.0, chance - loss) for chance in chances], attempts, rng)
        for name, rule in RULES.items():
            reported[name] += rule(before, after)
    return {name: count / runs for name, count in reported.items()}


def main() -> None:
    """Print the table, and check the promises with --assert."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=400, help="simulated runs per cell (default 400)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    parser.add_argument("--assert", dest="check", action="store_true", help="exit with 1 if a promise is broken")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    broken = []
    print("how often a rule says `regressed`   same agent                        15 points worse on every task")
    print("tasks  attempts                 " + 2 * "".join(f"{name:>10}" for name in RULES))
    for size in SIZES:
        for attempts in ATTEMPTS:
            same = cell(size, attempts, options.runs, 0.0, rng)
            worse = cell(size, attempts, options.runs, LOSS, rng)
            numbers = [f"{share:10.1%}" for shares in (same, worse) for share in shares.values()]
            print(f"{size:5}  {attempts:8}                 {''.join(numbers)}")
            if same["ours"] > FALSE_ALARMS:
                broken.append(f"{size} x {attempts}: {same['ours']:.1%} false alarms, more than {FALSE_ALARMS:.0%}")
            if worse["ours"] < CAUGHT.get((size, attempts), 0.0):
                broken.append(
                    f"{size} x {attempts}: {worse['ours']:.1%} caught, less than {CAUGHT[size, attempts]:.0%}"
                )
    if options.check and broken:
        raise SystemExit("\n".join(broken))


if __name__ == "__main__":
    main()

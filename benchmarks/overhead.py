"""What the plugin costs: trivial tasks run by it, straight through the Engine API, and by `harbor run` where it is installed.

    python benchmarks/overhead.py            prints a table; benchmarks/README.md says how to read it
    python benchmarks/overhead.py --assert   also ends with 1 where a limit is exceeded
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

IMAGE = "debian:bookworm-slim"
AGENT = "echo hello > /app.txt"
PER_TRIAL_LIMIT = 1.15
WHOLE_RUN_LIMIT = 1.6
WORKERS = (1, 2, 4)

TASK_TOML = f"""\
version = "1.0"

[task]
name = "benchmark/{{name}}"

[agent]
timeout_sec = 60.0

[verifier]
timeout_sec = 60.0

[environment]
docker_image = "{IMAGE}"
"""
TEST_SH = """\
#!/bin/bash
grep -qx hello /app.txt && echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt
"""

Variant = tuple[str, int, int]
"""Who runs, how many trials at a time, how many tasks."""


def main() -> None:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-N", "--tasks", type=int, default=8, help="tasks of a run (default 8)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each variant; medians are shown (default 3)")
    parser.add_argument("--no-harbor", action="store_true", help="leave `harbor run` out even where it is installed")
    parser.add_argument("--assert", dest="judge", action="store_true", help="end with 1 where a limit is exceeded")
    options = parser.parse_args()
    few, many = options.tasks, options.tasks * 3
    # First those of which the difference is taken, so that they are close to each other in time.
    variants: list[Variant] = [(who, 1, count) for count in (few, many) for who in ("engine", "plugin")]
    variants += [(who, workers, few) for workers in WORKERS[1:] for who in ("engine", "plugin")]
    seconds: dict[Variant, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="harbor-benchmark-") as folder:
        bench = Bench(Path(folder), {few, many})
        for who in ("engine", "plugin"):  # warm: the image is there, bytecode is compiled
            bench.run((who, 1, few))
        for number in range(options.repeat):
            for variant in variants if number % 2 == 0 else reversed(variants):
                seconds[variant].append(bench.run(variant))
        if shutil.which("harbor") and not options.no_harbor:
            for workers in (1, 4):
                seconds["harbor", workers, few].append(bench.run(("harbor", workers, few)))
    report(seconds, few, many)
    if options.judge and (failures := judge(seconds, few, many)):
        raise SystemExit("\n".join(failures))


class Bench:
    """Runs variants in a directory.

    Args:
        folder: an empty directory.
        sizes: how many tasks the datasets have.

    """

    def __init__(self, folder: Path, sizes: set[int]) -> None:
        self._folder = folder
        self._runs = 0
        for size in sizes:
            for number in range(size):
                write_task(folder / f"tasks-{size}" / f"trivial-{number:03}")

    def run(self, variant: Variant) -> float:
        """Run one variant and return its seconds, from the start of its process to its end."""
        who, workers, count = variant
        self._runs += 1
        dataset = str(self._folder / f"tasks-{count}")
        results = str(self._folder / f"results-{self._runs}")
        commands = {
            "engine": [sys.executable, str(Path(__file__).with_name("engine_api.py")), dataset, results]
            + [f"-n{workers}", f"--agent-command={AGENT}"],
            "plugin": [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"-n{workers}"]
            + [f"--harbor-dataset={dataset}", f"--harbor-agent-command={AGENT}", f"--harbor-results={results}"],
            "harbor": ["harbor", "run", "-p", dataset, "-a", "oracle", "-n", str(workers), "-o", results, "-q", "-y"],
        }
        began = time.monotonic()
        # Not where a pytest.ini or a conftest.py of somebody else could play a part.
        done = subprocess.run(
            commands[who], cwd=self._folder, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
        )
        spent = time.monotonic() - began
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(commands[who])} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        print(f"  {who:7} {workers} at a time, {count:3} tasks: {spent:6.2f} s", file=sys.stderr, flush=True)
        return spent


def write_task(directory: Path) -> None:
    """Write a task that wants one file with one line."""
    files = {
        "task.toml": TASK_TOML.format(name=directory.name),
        "instruction.md": "Create the file /app.txt with the one line hello.\n",
        "tests/test.sh": TEST_SH,
        "solution/solve.sh": f"#!/bin/bash\n{AGENT}\n",
        # Harbor asks for a Dockerfile's directory even where docker_image is set.
        "environment/Dockerfile": f"FROM {IMAGE}\n",
    }
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)


def per_trial(seconds: dict[Variant, list[float]], who: str, few: int, many: int) -> list[float]:
    """Return the seconds that one more trial takes, for each repetition: the slope, in which no start-up is left."""
    pairs = zip(seconds[who, 1, few], seconds[who, 1, many], strict=True)
    return [(longer - shorter) / (many - few) for shorter, longer in pairs]


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median of the ratios of runs that were neighbours in time."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def report(seconds: dict[Variant, list[float]], few: int, many: int) -> None:
    """Print what was measured."""
    engine, plugin = (per_trial(seconds, who, few, many) for who in ("engine", "plugin"))
    print(f"One more trial, start-up apart (slope from {few} to {many} tasks, 1 at a time, median of {len(engine)}):")
    print(f"  Engine API     {statistics.median(engine):7.3f} s")
    print(f"  pytest-harbor  {statistics.median(plugin):7.3f} s  {ratio(plugin, engine):5.2f} x")
    print(f"\nA whole run of {few} tasks with start-up (seconds, per trial, ratio to the Engine API):")
    names = {"engine": "Engine API", "plugin": "pytest-harbor", "harbor": "harbor run"}
    for workers in WORKERS:
        for who, name in names.items():
            runs = seconds.get((who, workers, few))
            if not runs:
                continue
            base = seconds["engine", workers, few]
            middle = statistics.median(runs)
            times = ratio(runs, base) if len(runs) == len(base) else middle / statistics.median(base)
            print(f"  {workers} at a time  {name:13}  {middle:7.2f} s  {middle / few:7.3f} s  {times:6.2f} x")


def judge(seconds: dict[Variant, list[float]], few: int, many: int) -> list[str]:
    """Return what exceeds its limit."""
    one = ratio(*(per_trial(seconds, who, few, many) for who in ("plugin", "engine")))
    whole = ratio(*(seconds[who, 4, few] for who in ("plugin", "engine")))
    failures = []
    if one > PER_TRIAL_LIMIT:
        failures.append(f"a trial costs {one:.2f} x the Engine API's own; the limit is {PER_TRIAL_LIMIT}")
    if whole > WHOLE_RUN_LIMIT:
        failures.append(f"a run with 4 workers takes {whole:.2f} x the Engine API's own; the limit is {WHOLE_RUN_LIMIT}")
    return failures


if __name__ == "__main__":
    main()

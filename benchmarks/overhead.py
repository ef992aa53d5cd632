"""The overhead of the plugin: trivial tasks run by it, by direct Engine API calls, and by `harbor run` if installed.

python benchmarks/overhead.py            prints a table; see benchmarks/README.md
python benchmarks/overhead.py --assert   also exits with status 1 if a limit is exceeded
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path

from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.errors import EngineUnavailable

IMAGE = "debian:bookworm-slim"
API_SCRIPT = Path(__file__).with_name("engine_api.py")
AGENT = "echo hello > /app.txt"
PER_TRIAL_LIMIT = 1.15
WHOLE_RUN_LIMIT = 1.6
NAMESPACE_LIMIT = 0.25
WORKERS = (1, 2, 4)
# With PYTHONDONTWRITEBYTECODE, every pytest process would compile all its plugins again.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
NAMES = {"engine": "Engine API", "plugin": "pytest-harbor", "namespace": "no engine", "harbor": "harbor run"}

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

Variant = tuple[str, int]
"""A runner, and its number of parallel trials."""


def main() -> None:
    """Measure, print, and check the limits if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-N", "--tasks", type=int, default=8, help="tasks per run (default 8)")
    parser.add_argument("--repeat", type=int, default=5, help="runs per variant; the median is shown (default 5)")
    parser.add_argument("--no-harbor", action="store_true", help="skip `harbor run` even if it is installed")
    parser.add_argument("--assert", dest="judge", action="store_true", help="exit with status 1 if a limit is exceeded")
    options = parser.parse_args()
    ours = ("engine", "plugin", "namespace") if has_namespaces() else ("engine", "plugin")
    variants: list[Variant] = [(who, workers) for workers in WORKERS for who in ours]
    with tempfile.TemporaryDirectory(prefix="harbor-benchmark-") as folder:
        bench = Bench(Path(folder), options.tasks)
        for variant in variants[: len(ours)]:
            bench.run(variant)  # pull the image and compile bytecode
        bench.reset()
        for number in range(options.repeat):
            # Alternate the order, so that a change in load affects all variants equally.
            for variant in variants if number % 2 == 0 else reversed(variants):
                bench.run(variant)
        if shutil.which("harbor") and not options.no_harbor:
            for workers in WORKERS:
                bench.run(("harbor", workers))
    report(bench)
    if options.judge and (failures := judge(bench)):
        raise SystemExit("\n".join(failures))


class Bench:
    """A benchmark that runs variants in a directory and keeps their times.

    Args:
        folder: An empty directory.
        tasks: The number of tasks.

    Attributes:
        seconds: For each variant, the duration of each run from the start of its process to its end.
        periods: For each run with one trial at a time, the median seconds from one trial's start to the next.

    """

    def __init__(self, folder: Path, tasks: int) -> None:
        self._folder = folder
        self._runs = 0
        self.tasks = tasks
        self.reset()
        for number in range(tasks):
            write_task(folder / "tasks" / f"trivial-{number:03}")

    def reset(self) -> None:
        """Discard all measurements."""
        self.seconds: dict[Variant, list[float]] = defaultdict(list)
        self.periods: dict[str, list[float]] = defaultdict(list)

    def run(self, variant: Variant) -> None:
        """Run one variant."""
        who, workers = variant
        self._runs += 1
        dataset = self._folder / "tasks"
        results = self._folder / f"results-{self._runs}"
        pytest = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--harbor-dataset", dataset, "--harbor-results", results, "--harbor-agent-command", AGENT),
        ]
        command = {
            "engine": [sys.executable, API_SCRIPT, dataset, results, "--image", IMAGE, "--agent-command", AGENT],
            "plugin": [*pytest, "--harbor-environment", "docker"],
            "namespace": [*pytest, "--harbor-environment", "namespace"],
            "harbor": [
                *("harbor", "run", "--agent", "oracle", "--quiet", "--yes"),
                *("--path", dataset, "--jobs-dir", results),
            ],
        }[who] + ["-n", str(workers)]
        began = time.monotonic()
        # In the temporary directory, so that no other pytest.ini or conftest.py has an effect.
        done = subprocess.run(command, env=ENVIRONMENT, cwd=self._folder, capture_output=True, text=True, check=False)
        spent = time.monotonic() - began
        if done.returncode != 0:
            raise SystemExit(f"{command} exited with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        self.seconds[variant].append(spent)
        print(f"  {NAMES[who]}, {workers} at a time: {spent:.2f} s", file=sys.stderr, flush=True)
        if workers == 1 and who != "harbor":
            starts = start_times(results)
            self.periods[who].append(statistics.median(b - a for a, b in itertools.pairwise(starts)))


def has_namespaces() -> bool:
    """Return True if this machine can run trials without an engine."""
    try:
        NamespaceProvider().describe()
    except EngineUnavailable as error:
        print(f"skipped: {error}", file=sys.stderr)
        return False
    return True


def start_times(results: Path) -> list[float]:
    """Return the start times of a run's trials in seconds, sorted."""
    (file,) = results.rglob("results.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    if [line["reward"] for line in lines].count(1) != len(lines):
        raise SystemExit(f"not every trial earned a reward of 1: {file.read_text()}")
    return sorted(datetime.fromisoformat(line["started_at"]).timestamp() for line in lines)


def write_task(directory: Path) -> None:
    """Write a task that asks for one file with one line."""
    files = {
        "task.toml": TASK_TOML.format(name=directory.name),
        "instruction.md": "Create the file /app.txt with the one line hello.\n",
        "tests/test.sh": TEST_SH,
        "solution/solve.sh": f"#!/bin/bash\n{AGENT}\n",
        # Harbor requires the Dockerfile's directory even if docker_image is set.
        "environment/Dockerfile": f"FROM {IMAGE}\n",
    }
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median ratio of runs that ran next to each other."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def report(bench: Bench) -> None:
    """Print the measurements."""
    periods = bench.periods
    print(
        f"One trial, excluding startup (1 at a time, median of {len(periods['engine'])} runs of {bench.tasks} tasks):"
    )
    for who in periods:
        print(f"  {NAMES[who]:13}  {_cells(periods[who], periods['engine'])}")
    print(f"\nA whole run of {bench.tasks} tasks, including startup:")
    for workers in WORKERS:
        for who, name in NAMES.items():
            if runs := bench.seconds.get((who, workers)):
                a_trial = f"{statistics.median(runs) / bench.tasks:7.3f} s per trial"
                cells = _cells(runs, bench.seconds["engine", workers])
                print(f"  {workers} at a time  {name:13}  {cells}  {a_trial}")


def _cells(runs: list[float], base: list[float]) -> str:
    middle = statistics.median(runs)
    times = ratio(runs, base) if len(runs) == len(base) else middle / statistics.median(base)
    return f"{middle:7.2f} s  {times:6.2f} x"


def judge(bench: Bench) -> list[str]:
    """Return a message for each exceeded limit."""
    one = ratio(bench.periods["plugin"], bench.periods["engine"])
    whole = ratio(bench.seconds["plugin", 4], bench.seconds["engine", 4])
    failures = []
    if bench.periods["namespace"]:
        without = ratio(bench.periods["namespace"], bench.periods["plugin"])
        if without > NAMESPACE_LIMIT:
            failures.append(
                f"a trial without an engine costs {without:.2f} x one on Docker; the limit is {NAMESPACE_LIMIT}"
            )
    if one > PER_TRIAL_LIMIT:
        failures.append(f"a trial costs {one:.2f} x the Engine API's own; the limit is {PER_TRIAL_LIMIT}")
    if whole > WHOLE_RUN_LIMIT:
        failures.append(f"a run 4 at a time takes {whole:.2f} x the Engine API's own; the limit is {WHOLE_RUN_LIMIT}")
    return failures


if __name__ == "__main__":
    main()

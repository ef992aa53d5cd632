"""The time to collect tasks as their number grows, compared with pytest's collection of as many one-line test files.

    python benchmarks/collection.py                    1,000 and 10,000 tasks
    python benchmarks/collection.py --sizes 100 1000   other sizes
    python benchmarks/collection.py --assert           exits with status 1 if the cost per task doubles with more tasks

Each number is the time of a complete `pytest --collect-only -q` minus that for a single task or file, which excludes
startup.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 2.0

TASK_TOML = """\
version = "1.0"

[metadata]
difficulty = "{difficulty}"
category = "category-{category}"
tags = ["tag-{tag}", "all"]

[environment]
docker_image = "debian:bookworm-slim"
"""


def main() -> None:
    """Measure, print, and check the limits if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs=2, default=[1000, 10_000], metavar=("FEW", "MANY"))
    parser.add_argument("--repeat", type=int, default=3, help="number of runs; the median is shown (default 3)")
    parser.add_argument(
        "--assert", dest="judge", action="store_true", help="exit with status 1 if collection is not linear"
    )
    options = parser.parse_args()
    growth = {}
    with tempfile.TemporaryDirectory(prefix="harbor-benchmark-") as folder:
        root = Path(folder)
        for size in (1, *options.sizes):
            write_tasks(root / f"tasks-{size}", size)
            write_tests(root / f"files-{size}", size)
        for kind, name in (("tasks", "tasks"), ("files", "test files")):
            start = measure(root, kind, 1, options.repeat)
            each = []
            for size in options.sizes:
                spent = measure(root, kind, size, options.repeat) - start
                each.append(spent / size * 1000)
                print(f"  {size:7,} {name:10}  {spent:7.2f} s  {each[-1]:6.3f} ms each", flush=True)
            growth[kind] = each[1] / each[0]
            print(f"  {name}: with many, each costs {growth[kind]:.2f} x as much as with few")
    if options.judge and growth["tasks"] > LIMIT:
        raise SystemExit(f"collection is not linear: {growth['tasks']:.2f} x, the limit is {LIMIT}")


def measure(root: Path, kind: str, size: int, repeat: int) -> float:
    """Return the median time of a collection in seconds."""
    path = str(root / f"{kind}-{size}")
    arguments = [f"--harbor-dataset={path}"] if kind == "tasks" else [path]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *arguments]
    runs = []
    for _ in range(repeat):
        began = time.monotonic()
        process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        runs.append(time.monotonic() - began)
        if process.returncode != 0:
            raise SystemExit(
                f"{' '.join(command)} exited with {process.returncode}\n{process.stdout[-2000:]}{process.stderr}"
            )
    return statistics.median(runs)


def write_tasks(directory: Path, size: int) -> None:
    """Write a dataset with a realistic mix of marks: a few shared by many tasks, and some for single tasks."""
    for number in range(size):
        task = directory / f"task-{number:05}"
        (task / "tests").mkdir(parents=True)
        difficulty = ("easy", "medium", "hard")[number % 3]
        text = TASK_TOML.format(difficulty=difficulty, category=number % 20, tag=number // 4)
        (task / "task.toml").write_text(text)
        (task / "instruction.md").write_text("Do it.\n")
        (task / "tests" / "test.sh").write_text("#!/bin/bash\necho 1 > /logs/verifier/reward.txt\n")


def write_tests(directory: Path, size: int) -> None:
    """Write test files, each in its own directory, like tasks."""
    for number in range(size):
        folder = directory / f"folder-{number:05}"
        folder.mkdir(parents=True)
        (folder / f"test_{number:05}.py").write_text("def test_it():\n    pass\n")


if __name__ == "__main__":
    main()

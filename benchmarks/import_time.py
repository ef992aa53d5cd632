"""What the plugin adds to pytest's start in a project that has it installed and does not use it.

    python benchmarks/import_time.py            prints milliseconds
    python benchmarks/import_time.py --assert   also ends with 1 where the limit is exceeded

pytest imports the module of every installed plugin. Counted are the modules that `import pytest_harbor.plugin` loads
and `import pytest` does not, each with its own time as `python -X importtime` tells it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

LIMIT = 10.0
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def main() -> None:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=9, help="imports in fresh processes (default 9)")
    parser.add_argument("--assert", dest="judge", action="store_true", help="end with 1 where the limit is exceeded")
    options = parser.parse_args()
    plain = set(own_times("pytest"))
    runs = []
    for _ in range(options.repeat):
        times = own_times("pytest_harbor.plugin")
        runs.append({name: spent for name, spent in times.items() if name not in plain})
    # The least of them: importing is the same work each time, and whatever comes on top is somebody else's.
    best = min(runs, key=lambda run: sum(run.values()))
    added = sum(best.values())
    for name in sorted(best, key=lambda name: -best[name]):
        print(f"  {best[name]:6.2f} ms  {name}")
    print(f"  {added:6.2f} ms  in all, on top of pytest's own imports (limit {LIMIT:g} ms)")
    if options.judge and added > LIMIT:
        raise SystemExit(1)


def own_times(module: str) -> dict[str, float]:
    """Import a module in a fresh process; return the milliseconds that each module took, without what it imports."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {match[2]: int(match[1]) / 1000 for match in map(_LINE.match, said.splitlines()) if match}


if __name__ == "__main__":
    main()

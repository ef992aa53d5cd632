"""The startup time that the plugin adds to pytest in a project that does not use it.

    python benchmarks/import_time.py            prints milliseconds
    python benchmarks/import_time.py --assert   also exits with status 1 if the limit is exceeded

pytest imports the module of every installed plugin. This counts the modules that `import pytest_harbor.plugin` loads
and `import pytest` does not, each with its own time as reported by `python -X importtime`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

LIMIT = 10.0
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def main() -> None:
    """Measure, print, and check the limits if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=9, help="number of imports, each in a new process (default 9)")
    parser.add_argument(
        "--assert", dest="judge", action="store_true", help="exit with status 1 if the limit is exceeded"
    )
    options = parser.parse_args()
    plain = set(own_times("pytest"))
    runs = []
    for _ in range(options.repeat):
        times = own_times("pytest_harbor.plugin")
        runs.append({name: spent for name, spent in times.items() if name not in plain})
    # The fastest run: the work is always the same, so anything slower is noise.
    best = min(runs, key=lambda run: sum(run.values()))
    added = sum(best.values())
    for name in sorted(best, key=lambda name: -best[name]):
        print(f"  {best[name]:6.2f} ms  {name}")
    print(f"  {added:6.2f} ms  total, in addition to pytest's own imports (limit {LIMIT:g} ms)")
    if options.judge and added > LIMIT:
        raise SystemExit(1)


def own_times(module: str) -> dict[str, float]:
    """Import a module in a new process; return the milliseconds per module, excluding its own imports."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {match[2]: int(match[1]) / 1000 for match in map(_LINE.match, report.splitlines()) if match}


if __name__ == "__main__":
    main()

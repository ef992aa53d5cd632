"""The cost of installing an agent for ten trials: the wall time of a run compared with the time of one setup.

The setup measures itself: it writes its start and end times to files, and the agent of each trial prints them.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

LIMIT = 1.3
IMAGE = "debian:bookworm-slim"

# Unique in each run, so that no cached layer is used.
SETUP = """\
# {nonce}
date +%s.%N >/began
sleep {seconds}
mkdir -p /opt/agent
for number in $(seq 500); do echo "module $number" >/opt/agent/$number.py; done
tar -C /opt -czf /opt/agent.tar.gz agent
date +%s.%N >/ended
"""
AGENT = "cat /began /ended && test -e /opt/agent/500.py && echo done >/answer"
FILES = {
    "task.toml": f'[environment]\ndocker_image = "{IMAGE}"\n',
    "instruction.md": "Write an answer.\n",
    "tests/test.sh": "grep -q done /answer && echo 1 >/logs/verifier/reward.txt\n",
}


def main() -> None:
    """Measure, print, and check the limits if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-N", "--trials", type=int, default=10, help="number of trials (default 10)")
    parser.add_argument("-n", "--workers", type=int, default=4, help="number of trials at a time (default 4)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the setup sleeps (default 20)")
    parser.add_argument("--environment", default="docker", choices=("docker", "namespace"), help="default: docker")
    parser.add_argument(
        "--assert", dest="judge", action="store_true", help="exit with status 1 if the limit is exceeded"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="harbor-benchmark-") as directory:
        folder = Path(directory)
        for name, text in FILES.items():
            file = folder / "tasks" / "answer" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        setup = SETUP.format(nonce=secrets.token_hex(8), seconds=options.seconds)
        (folder / "setup.sh").write_text(setup, encoding="utf-8")
        wall, results = run(folder, options)
        # The layer is cached now; the time saved is the cost of installing.
        again, _ = run(folder, options)
    refs = {result["image"]["ref"] for result in results}
    if options.environment == "docker":
        subprocess.run(["docker", "image", "rm", "--force", *refs], capture_output=True, check=False)
    if [result["outcome"] for result in results] != ["passed"] * options.trials or len(refs) != 1:
        raise SystemExit(f"not every trial passed on one image: {[result['reason'] for result in results]}")
    own = results[0]["setup"]
    ratio = wall / own
    begins, ends = (sorted(map(datetime.fromisoformat, times)) for times in zip(*map(span, results), strict=True))
    trials = (ends[-1] - begins[0]).total_seconds()
    print(f"{options.trials} trials, {options.workers} at a time, on {options.environment}")
    print(f"one setup, by its own clock    {own:6.1f} s")
    print(f"the whole run                 {wall:6.1f} s  ratio {ratio:.2f} (limit {LIMIT})")
    print(f"  from first trial to last    {trials:6.1f} s  ratio {trials / own:.2f}, without pytest's own time")
    print(
        f"  more than a repeated run   {wall - again:5.1f} s  ratio {(wall - again) / own:.2f}, the cost of installing"
    )
    if options.judge and ratio > LIMIT:
        raise SystemExit(f"{options.trials} trials take {ratio:.2f} times one setup; the limit is {LIMIT}")


def span(result: dict[str, Any]) -> tuple[str, str]:
    """Return the start and end time of a trial."""
    return result["started_at"], result["finished_at"]


def run(folder: Path, options: argparse.Namespace) -> tuple[float, list[dict[str, Any]]]:
    """Run the trials; return the seconds of the whole process, and the results with the time of the setup."""
    words = [
        *("--harbor-dataset=tasks", f"--harbor-attempts={options.trials}", "-n", str(options.workers)),
        *(f"--harbor-environment={options.environment}", "-p", "no:cacheprovider", "-q"),
        *("--harbor-agent-setup=setup.sh", f"--harbor-agent-command={AGENT}"),
    ]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    wall = time.monotonic() - began
    files = sorted(
        folder.glob("harbor-results/*/results.jsonl"), key=lambda file: file.stat().st_mtime_ns, reverse=True
    )
    if done.returncode or not files:
        raise SystemExit(f"pytest exited with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    results = [json.loads(line) for line in files[0].read_text(encoding="utf-8").splitlines()]
    for result in results:
        times = Path(result["directory"], "agent", "agent.log").read_text(encoding="utf-8").split()
        result["setup"] = float(times[1]) - float(times[0])
    return wall, results


if __name__ == "__main__":
    main()

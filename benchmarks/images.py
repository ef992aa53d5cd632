"""What the images of a dataset cost with HUD's layer in them: built here, and as `hud convert` lays them out.

The two build the same tasks with the same number of builds at a time. Nothing is taken from the build cache: the
Dockerfiles are new in each run, and so is this project's layer, whose own build is told apart: a machine does it once,
or never where a registry has it. The base images have to be there.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pytest_harbor.image.layers import LAYER_PYTHON, hud_layer_context

LIMIT = 0.25
HUD = "hud-python==0.5.41"
BASES = ("debian:bookworm-slim", "python:3.12-slim")
BUILD = ("docker", "buildx", "build", "--builder", "default")
LABEL = "pytest-harbor-benchmark"

DOCKERFILE = """\
FROM {base}
LABEL {label}={nonce}
ENV TASK={number}-{nonce}
WORKDIR /app
COPY data.txt ./
"""
TASK_TOML = '[task]\nname = "benchmark/task-{number:02}"\n'

# What hud-python 0.5.41 writes resolves to a release that refuses to work, and to Pythons that it does not run on.
PINS = (
    (re.compile(r'"hud-python"'), f'"{HUD}"'),
    (re.compile(r"^requires-python = .*$", re.MULTILINE), 'requires-python = ">=3.11,<3.13"'),
)


def main() -> None:
    """Measure, print, and judge if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-N", "--tasks", type=int, default=20, help="how many tasks (default 20)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="builds at a time (default: as many as CPUs)")
    parser.add_argument("--base", action="append", help=f"base image, repeatable (default {', '.join(BASES)})")
    parser.add_argument("--hud", help=f"the program `hud` of {HUD} (default: installed for the time of the run)")
    parser.add_argument("--assert", dest="judge", action="store_true", help="end with 1 where the limit is exceeded")
    options = parser.parse_args()
    nonce = secrets.token_hex(6)
    with tempfile.TemporaryDirectory(prefix="harbor-benchmark-") as place:
        folder = Path(place)
        hud = options.hud or install_hud(folder / "venv")
        bases = options.base or BASES
        for base in bases:
            run("docker", "image", "inspect", base)
        for number in range(options.tasks):
            write_task(folder / "tasks", number, bases[number % len(bases)], nonce)
        try:
            theirs = build_theirs(folder, hud, options.jobs)
            layer, images = build_ours(folder, options.jobs)
        finally:
            forget(nonce)
    print(f"{options.tasks} images, {options.jobs} at a time")
    print(f"as `hud convert` lays them out  {theirs:7.1f} s")
    print(f"pytest-harbor                   {images:7.1f} s  ratio {images / theirs:.3f} (limit {LIMIT})")
    print(f"  and its layer, once           {layer:7.1f} s  ratio {(layer + images) / theirs:.3f} with it")
    if options.judge and images / theirs > LIMIT:
        raise SystemExit(f"the images take {images / theirs:.3f} times as long, more than {LIMIT}")


def install_hud(venv: Path) -> Path:
    """Install hud-python and return its program."""
    for name in (sys.executable, "python3.12", "python3.11"):
        python = shutil.which(name)
        if python and run(python, "-c", "import sys; print(sys.version_info[:2] in ((3, 11), (3, 12)))") == "True\n":
            run(python, "-m", "venv", venv)
            run(venv / "bin/pip", "install", "--quiet", HUD)
            return venv / "bin/hud"
    raise SystemExit(f"{HUD} needs Python 3.11 or 3.12, and there is none on PATH; give --hud")


def write_task(dataset: Path, number: int, base: str, nonce: str) -> None:
    """Write a task whose Dockerfile no cache knows."""
    task = dataset / f"task-{number:02}"
    texts = {
        "task.toml": TASK_TOML.format(number=number),
        "instruction.md": "Do nothing.\n",
        "tests/test.sh": "echo 1 > /logs/verifier/reward.txt\n",
        "environment/Dockerfile": DOCKERFILE.format(base=base, label=LABEL, nonce=nonce, number=number),
        "environment/data.txt": f"data of task {number}\n",
    }
    for name, text in texts.items():
        file = task / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def build_theirs(folder: Path, hud: str | Path, jobs: int) -> float:
    """Convert the tasks with HUD's program, build what it writes, and return the seconds of the builds."""
    converted = folder / "converted"
    run(hud, "convert", folder / "tasks", "--output", converted)
    environments = sorted(path.parent for path in converted.glob("*/Dockerfile.hud"))
    for environment in environments:
        pins = environment / "pyproject.toml"
        text = pins.read_text(encoding="utf-8")
        for pattern, pin in PINS:
            text = pattern.sub(pin, text)
        pins.write_text(text, encoding="utf-8")

    def build(environment: Path) -> None:
        began = time.monotonic()
        command = (
            "docker",
            "buildx",
            "build",
            "--builder",
            "default",
            "--load",
            "--tag",
            f"{LABEL}:{environment.name}",
        )
        run(*command, "--file", environment / "Dockerfile.hud", environment)
        print(f"  {environment.name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(build, environments))
    spent = time.monotonic() - began
    run(
        "docker",
        "run",
        "--rm",
        f"{LABEL}:{environments[0].name}",
        "uv",
        "run",
        "--no-project",
        "python",
        "-c",
        "import hud",
    )
    return spent


def build_ours(folder: Path, jobs: int) -> tuple[float, float]:
    """Build the layer without a cache, then the images of the tasks, and return the seconds of each."""
    context = hud_layer_context()
    began = time.monotonic()
    layer = f"pytest-harbor:{context.digest[:24]}"
    with context.laid_out() as plain:
        run(*BUILD, "--no-cache", "--load", "--tag", layer, "--label", "pytest-harbor.image=1", plain.path)
    middle = time.monotonic()
    print(f"  the layer: {middle - began:.1f} s", file=sys.stderr, flush=True)
    command = (sys.executable, "-m", "pytest_harbor.cli", "images", folder / "tasks", "--adapt=hud", f"--jobs={jobs}")
    said = run(*command)
    ended = time.monotonic()
    print(said, file=sys.stderr, flush=True)
    ref = re.findall(r"^built .*(pytest-harbor:[0-9a-f]+) ", said, re.MULTILINE)[0]
    run("docker", "run", "--rm", "--entrypoint", LAYER_PYTHON, ref, "-I", "-c", "import hud")
    return middle - began, ended - middle


def forget(nonce: str) -> None:
    """Remove the images of this run; the layer stays."""
    found = run("docker", "image", "ls", "--quiet", "--filter", f"label={LABEL}={nonce}").split()
    if found:
        run("docker", "image", "rm", "--force", *sorted(set(found)))


def run(*command: str | Path) -> str:
    """Run a command and return its output.

    Raises:
        SystemExit: it failed.

    """
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        raise SystemExit(f"{shown} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()

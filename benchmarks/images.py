"""The time to build a dataset's images with HUD's layer: with pytest-harbor, and as `hud convert` writes them.

Both build the same tasks with the same number of parallel builds, and without the build cache: the Dockerfiles are
unique in each run, and our layer is rebuilt. The layer is reported separately, because a machine builds it only once,
or never if a registry has it. The base images must be present.
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

# The output of hud-python 0.5.41 resolves to a broken release, and to Python versions that it does not support.
PINS = (
    (re.compile(r'"hud-python"'), f'"{HUD}"'),
    (re.compile(r"^requires-python = .*$", re.MULTILINE), 'requires-python = ">=3.11,<3.13"'),
)


def main() -> None:
    """Measure, print, and check the limits if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-N", "--tasks", type=int, default=20, help="number of tasks (default 20)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="parallel builds (default: the number of CPUs)"
    )
    parser.add_argument("--base", action="append", help=f"base image, repeatable (default {', '.join(BASES)})")
    parser.add_argument("--hud", help=f"the `hud` program of {HUD} (default: install it temporarily)")
    parser.add_argument(
        "--assert", dest="judge", action="store_true", help="exit with status 1 if the limit is exceeded"
    )
    options = parser.parse_args()
    nonce = secrets.token_hex(6)
    with tempfile.TemporaryDirectory(prefix="harbor-benchmark-") as directory:
        folder = Path(directory)
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
            remove_images(nonce)
    print(f"{options.tasks} images, {options.jobs} at a time")
    print(f"as written by `hud convert`     {theirs:7.1f} s")
    print(f"pytest-harbor                   {images:7.1f} s  ratio {images / theirs:.3f} (limit {LIMIT})")
    print(f"  and its layer, once           {layer:7.1f} s  ratio {(layer + images) / theirs:.3f} with it")
    if options.judge and images / theirs > LIMIT:
        raise SystemExit(f"the images take {images / theirs:.3f} times as long; the limit is {LIMIT}")


def install_hud(venv: Path) -> Path:
    """Install hud-python and return its program."""
    for name in (sys.executable, "python3.12", "python3.11"):
        python = shutil.which(name)
        if python and run(python, "-c", "import sys; print(sys.version_info[:2] in ((3, 11), (3, 12)))") == "True\n":
            run(python, "-m", "venv", venv)
            run(venv / "bin/pip", "install", "--quiet", HUD)
            return venv / "bin/hud"
    raise SystemExit(f"{HUD} requires Python 3.11 or 3.12, but neither is on PATH; set --hud")


def write_task(dataset: Path, number: int, base: str, nonce: str) -> None:
    """Write a task whose Dockerfile is in no cache."""
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
    """Convert the tasks with `hud`, build the output, and return the seconds of the builds."""
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
    """Build the layer without a cache, then the tasks' images; return the seconds of both."""
    context = hud_layer_context()
    began = time.monotonic()
    layer = f"pytest-harbor:{context.digest[:24]}"
    with context.laid_out() as plain:
        run(*BUILD, "--no-cache", "--load", "--tag", layer, "--label", "pytest-harbor.image=1", plain.path)
    middle = time.monotonic()
    print(f"  the layer: {middle - began:.1f} s", file=sys.stderr, flush=True)
    command = (sys.executable, "-m", "pytest_harbor.cli", "images", folder / "tasks", "--adapt=hud", f"--jobs={jobs}")
    output = run(*command)
    ended = time.monotonic()
    print(output, file=sys.stderr, flush=True)
    ref = re.findall(r"^built .*(pytest-harbor:[0-9a-f]+) ", output, re.MULTILINE)[0]
    run("docker", "run", "--rm", "--entrypoint", LAYER_PYTHON, ref, "-I", "-c", "import hud")
    return middle - began, ended - middle


def remove_images(nonce: str) -> None:
    """Remove the images of this run, but keep the layer."""
    found = run("docker", "image", "ls", "--quiet", "--filter", f"label={LABEL}={nonce}").split()
    if found:
        run("docker", "image", "rm", "--force", *sorted(set(found)))


def run(*command: str | Path) -> str:
    """Run a command and return its output.

    Raises:
        SystemExit: The command failed.

    """
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shown = " ".join(map(str, command))
        raise SystemExit(f"{shown} exited with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()

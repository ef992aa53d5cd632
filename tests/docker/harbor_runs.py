"""Tiny datasets in a test's directory, and pytest runs on them like a user's."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from inner_pytest import FEWER_PLUGINS

REPOSITORY = Path(__file__).parents[2]
IMAGE = "debian:bookworm-slim"
RUN_LABEL = "pytest-harbor.run"

# The agent of most tests runs a task's instruction as a script.
INSTRUCTED = ("--harbor-agent-command=bash /task/instruction.md",)
ONE = "echo 1 > /logs/verifier/reward.txt\n"
# A shell script that prints the command lines of all processes, one per line.
PROCESSES = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; echo; done 2>/dev/null"


@dataclass
class Finished:
    """A finished run."""

    code: int
    text: str
    directory: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __getitem__(self, task: str) -> dict[str, Any]:
        return self.results[task]

    def outcomes(self) -> dict[str, str]:
        return {name: result["outcome"] for name, result in self.results.items()}

    def rewards(self) -> dict[str, float | None]:
        return {name: result["reward"] for name, result in self.results.items()}

    def file(self, task: str, path: str) -> str:
        """Return the text of a file in a trial's directory."""
        return Path(self.results[task]["directory"], path).read_text(encoding="utf-8")

    @property
    def all(self) -> list[dict[str, Any]]:
        """The results of all attempts."""
        return read_results(self.directory)

    def trial(self, task: str) -> Path:
        return Path(self.results[task]["directory"])


class Harbor:
    """A dataset in a test's directory: writes tasks and runs pytest on them."""

    def __init__(self, pytester: pytest.Pytester, client: docker.DockerClient) -> None:
        self.pytester = pytester
        self.client = client
        self.path = pytester.path
        self.dataset = pytester.path / "ds"
        self.processes: list[subprocess.Popen[str]] = []

    def task(
        self,
        name: str,
        work: str = "true\n",
        test: str = ONE,
        *,
        image: str | None = IMAGE,
        solve: str | None = None,
        files: Mapping[str, str | bytes] | None = None,
        **tables: Any,
    ) -> Path:
        """Write a task: its agent's script, its test script, more files, and the tables of task.toml."""
        folder = self.dataset / name
        environment = dict(tables.pop("environment", {}))
        if image is not None:
            environment["docker_image"] = image
        content: dict[str, str | bytes] = {"instruction.md": work, "tests/test.sh": test, **(files or {})}
        if solve is not None:
            content["solution/solve.sh"] = solve
        lines = [f"artifacts = {_toml(tables.pop('artifacts'))}"] if "artifacts" in tables else []
        for table, values in {"environment": environment, **tables}.items():
            lines.append(f"[{table}]")
            lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        content["task.toml"] = "\n".join(lines) + "\n"
        for path, data in content.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data if isinstance(data, bytes) else data.encode())
        return folder

    def run(self, *args: str, agent: Sequence[str] = INSTRUCTED, dataset: Path | None = None) -> Finished:
        """Run pytest on the dataset and return its results."""
        before = self.runs()
        done = self.pytester.runpytest_subprocess(
            *FEWER_PLUGINS, f"--harbor-dataset={dataset or self.dataset}", *agent, *args, timeout=200
        )
        return self.finished(before, int(done.ret), "\n".join([*done.outlines, *done.errlines]))

    def finished(self, before: set[Path], code: int, text: str) -> Finished:
        new = sorted(self.runs() - before)
        if not new:
            return Finished(code, text, self.path)
        return Finished(code, text, new[-1], {_name(line): line for line in read_results(new[-1])})

    def runs(self) -> set[Path]:
        return {path for path in (self.path / "harbor-results").glob("*") if path.is_dir()}

    def spawn(self, *args: str, agent: Sequence[str] = INSTRUCTED) -> subprocess.Popen[str]:
        """Start pytest on the dataset in the background."""
        with (self.path / "output.txt").open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *FEWER_PLUGINS, f"--harbor-dataset={self.dataset}", *agent, *args],
                cwd=self.path,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def images(self, *args: str, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `pytest-harbor images` on the dataset; its logs go to the test's directory."""
        command = [sys.executable, "-m", "pytest_harbor.cli", "images", str(path or self.dataset), *args]
        env = {**os.environ, "TMPDIR": str(self.path), **variables}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=env)

    @property
    def output(self) -> str:
        """The output of spawned processes."""
        return (self.path / "output.txt").read_text(encoding="utf-8")

    def logs(self, text: str) -> list[Path]:
        """Return the directories of trials whose agent has already printed a text."""
        found = (self.path / "harbor-results").glob("*/*/agent/agent.log")
        return [log.parents[1] for log in found if text in log.read_text(encoding="utf-8")]

    def containers(self) -> list[str]:
        """Return the names of the containers of this test's runs."""
        return [
            container.name
            for run in self.runs()
            for container in self.client.containers.list(
                all=True, ignore_removed=True, filters={"label": f"{RUN_LABEL}={run.name}"}
            )
        ]

    def kill_processes(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# The first lines of a Dockerfile whose image is small enough to push and pull many times.
SMALL = f"""\
FROM {IMAGE} AS all
RUN mkdir /small; files="/bin/bash /bin/sh $(dpkg -L coreutils | grep /bin/)"; \\
  cp -L --parents $files $(ldd $files | grep -o '/[^ :]*' | sort -u) /small
FROM scratch
COPY --from=all /small /
"""


class Unique:
    """Files for images that were never built before, marked with a label."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._mark = f"pytest-harbor-test-{secrets.token_hex(6)}"

    def __call__(self, *lines: str, start: str = f"FROM {IMAGE}\n", **others: str) -> dict[str, str]:
        """Return the files of a task: a Dockerfile that ends with these lines, and other files next to it."""
        dockerfile = start + "\n".join([f"LABEL {self._mark}=1", *lines]) + "\n"
        return {"environment/Dockerfile": dockerfile, **{f"environment/{name}": text for name, text in others.items()}}

    def remove_images(self) -> None:
        """Remove the images, derived images before their bases."""
        images = {image.id for image in self._client.images.list(filters={"label": f"{self._mark}=1"})}
        while images:
            bases = set()
            for image in images:
                try:
                    self._client.api.remove_image(image, force=True)
                except docker.errors.ImageNotFound:
                    # It was removed together with an image derived from it.
                    continue
                except docker.errors.APIError as error:
                    if error.status_code != 409:
                        raise
                    bases.add(image)
            assert len(bases) < len(images), f"images cannot be removed: {bases}"
            images = bases


def builds(run: Finished) -> list[str]:
    """Return the logs of all builds of a run."""
    return sorted(path.read_text() for path in run.directory.glob("images/build-*/log-*.txt"))


def path_without_docker(scratch: Path) -> str:
    """Return a PATH with every program except docker."""
    folder = scratch / "bin-without-docker"
    folder.mkdir()
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).glob("*"):
            link = folder / program.name
            if program.name != "docker" and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


def _name(result: dict[str, Any]) -> str:
    """Return a task's name, with the agent if the run lists several."""
    name = Path(result["task_path"]).name
    with_agent = f"{name}[{result['agent']}]"
    return with_agent if result["node_id"].endswith(f"::{with_agent}") else name


def read_results(run: Path) -> list[dict[str, Any]]:
    file = run / "results.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait until a condition is true and return its value."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"still not true after {seconds:g} s: {what}")
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Return True if a process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)

"""The work of a trial with direct calls to the Engine API: the baseline of overhead.py.

    python benchmarks/engine_api.py DATASET RESULTS -n 4 --image debian:bookworm-slim --agent-command "COMMAND"

A minimal implementation for these tasks only: the fewest calls that leave the same files in the container and the same
results on disk. It has no deadlines, retries or image builds, and does not defend against hostile agents or clean up
after being killed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import docker

# One command removes what the agent may have left, puts the tests in place, and runs them.
GRADE = "rm -rf /tests /logs/verifier && mkdir -m 777 /logs/verifier && mv /.tests /tests && exec /tests/test.sh"

_connections = threading.local()


def main() -> None:
    """Run every task of a dataset once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("-n", type=int, default=1, help="trials at a time")
    parser.add_argument("--image", required=True)
    parser.add_argument("--agent-command", required=True)
    options = parser.parse_args()
    tasks = sorted(path.parent for path in options.dataset.glob("*/task.toml"))
    options.results.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.n) as pool, (options.results / "results.jsonl").open("w") as lines:
        for result in pool.map(
            lambda task: run_trial(task, options.image, options.agent_command, options.results), tasks
        ):
            print(json.dumps(result), file=lines, flush=True)
            if result["reward"] != 1:
                raise SystemExit(f"{result['task']}: reward {result['reward']}")


def run_trial(task: Path, image: str, command: str, results: Path) -> dict[str, object]:
    """Start a container, run the agent, grade its work, and remove the container."""
    client = _client()
    began = datetime.now(timezone.utc)
    directory = results / task.name
    container = client.create_container(
        image,
        ["sleep", "infinity"],
        labels={"pytest-harbor-benchmark": "1"},
        host_config=client.create_host_config(init=True, pids_limit=4096),
    )["Id"]
    try:
        client.put_archive(container, "/", _task_files(task))
        client.start(container)
        agent_exit = _exec(client, container, ["bash", "-c", command], directory / "agent" / "agent.log")
        client.put_archive(container, "/", _test_files(task))
        verifier_exit = _exec(client, container, ["sh", "-c", GRADE], directory / "verifier" / "test-stdout.txt")
        _download(client, container, directory)
    finally:
        client.remove_container(container, force=True, v=True)
    return {
        "task": task.name,
        "reward": float((directory / "verifier" / "reward.txt").read_text()),
        "agent_exit": agent_exit,
        "verifier_exit": verifier_exit,
        "started_at": began.isoformat(),
    }


def _client() -> docker.APIClient:
    if not hasattr(_connections, "client"):
        _connections.client = docker.from_env(version="auto", timeout=120).api
    return _connections.client


def _exec(client: docker.APIClient, container: str, command: list[str], log: Path) -> int:
    log.parent.mkdir(parents=True, exist_ok=True)
    exec_id = client.exec_create(container, command)["Id"]
    with log.open("wb") as file:
        for chunk in client.exec_start(exec_id, stream=True):
            file.write(chunk)
    return client.exec_inspect(exec_id)["ExitCode"]


def _task_files(task: Path) -> bytes:
    with _tar() as (archive, data):
        _add_directory(archive, "task", 0o755)
        for name in ("instruction.md", "task.toml"):
            _add_file(archive, f"task/{name}", task / name, 0o644)
        _add_directory(archive, "logs", 0o755)
        for name in ("agent", "verifier", "artifacts"):
            _add_directory(archive, f"logs/{name}", 0o777)
    return data.getvalue()


def _test_files(task: Path) -> bytes:
    with _tar() as (archive, data):
        _add_directory(archive, ".tests", 0o755)
        for path in sorted((task / "tests").iterdir()):
            _add_file(archive, f".tests/{path.name}", path, 0o755)
    return data.getvalue()


@contextlib.contextmanager
def _tar():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        yield archive, data


def _add_directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    content = path.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _download(client: docker.APIClient, container: str, directory: Path) -> None:
    chunks, _ = client.get_archive(container, "/logs")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        for member in archive:
            member.name = member.name.removeprefix("logs").lstrip("/")
            if member.name:
                archive.extract(member, directory, filter="data")


if __name__ == "__main__":
    main()

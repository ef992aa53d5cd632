"""A registry shared by machines: one pushes images, another pulls them and builds nothing."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from harbor_runs import SMALL, Finished, Harbor, Unique, builds, path_without_docker
from registries import Registry

from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.errors import RegistryUnavailable

NOP = ("--harbor-agent=nop",)


def small(unique: Unique, *lines: str, **others: str) -> dict[str, str]:
    return unique(*lines, start=SMALL, **others)


def pulls(run: Finished) -> list[str]:
    """Return the logs of all images that a run pulled from a registry."""
    logs = [path.read_text() for path in run.directory.glob("images/build-*/pull.txt")]
    return [log for log in logs if "Downloaded newer image" in log or "Image is up to date" in log]


def sources(run: Finished) -> dict[str, str]:
    return {name: result["image"]["source"] for name, result in run.results.items()}


def test_second_machine_pulls_and_builds_nothing(harbor: Harbor, unique: Unique, registry: Registry) -> None:
    for name in ("one", "two"):
        harbor.task(name, image=None, files=small(unique, "COPY data.txt /", **{"data.txt": "x"}))
    harbor.task("three", image=None, files=small(unique, "COPY data.txt /", **{"data.txt": "y"}))
    repository = f"{registry.address}/{harbor.path.name}/images"
    first = harbor.images("--push", repository)
    assert first.returncode == 0, first.stderr
    assert "2 images: 2 built; 0 tasks skipped" in first.stdout
    assert "ds/one, ds/two" in first.stdout
    assert len(registry.tags(f"{harbor.path.name}/images")) == 2

    unique.remove_images()
    harbor.task("new", image=None, files=small(unique, "COPY data.txt /", **{"data.txt": "z"}))
    run = harbor.run("-n2", f"--harbor-registry={repository}", agent=NOP)
    assert set(run.outcomes().values()) == {"passed"}, run.text
    assert len(pulls(run)) == 2
    assert len(builds(run)) == 1
    found = sources(run)
    assert (found["new"], found["three"]) == ("built", "pulled")
    assert {found["one"], found["two"]} <= {"pulled", "cached"}
    assert all(result["warnings"] == [] for result in run.results.values())

    # Only the new image is built; finding the published ones needs no pull or build.
    unique.remove_images()
    again = harbor.images("--push", repository)
    assert "3 images: 2 published, 1 built" in again.stdout, again.stdout + again.stderr
    assert "3 images: 3 published" in harbor.images("--push", repository).stdout


@pytest.mark.parametrize("why", ["down", "refuses"])
def test_unavailable_registry_is_reported_once(harbor: Harbor, unique: Unique, guarded: Registry, why: str) -> None:
    for name in ("one", "two"):
        harbor.task(name, image=None, files=small(unique, f"ENV TASK={name}"))
    harbor.task("three", image=None, files=small(unique, "ENV TASK=one"))
    if why == "down":
        guarded.close()
    run = harbor.run("-n2", f"--harbor-registry={guarded.address}/ds", agent=NOP)
    assert set(run.outcomes().values()) == {"passed"}, run.text
    assert len(builds(run)) == 2
    message = f"registry {guarded.address}/ds does not answer or refuses"
    reason = "connection refused" if why == "down" else "no basic auth credentials"
    assert run.text.count(message) == 1
    assert reason in run.text
    for result in run.results.values():
        [warning] = result["warnings"]
        assert message in warning
        assert reason in warning

    refused = harbor.images("--push", f"{guarded.address}/ds")
    assert refused.returncode == 1
    assert message in refused.stderr
    assert refused.stdout == ""


def test_credentials_of_docker_login(
    harbor: Harbor, unique: Unique, guarded: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    harbor.task("one", image=None, files=small(unique))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def login(password: str) -> None:
        token = base64.b64encode(f"harbor:{password}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {guarded.address: {"auth": token}}}))

    login("wrong")
    denied = harbor.images("--push", f"{guarded.address}/ds")
    assert denied.returncode == 1
    assert "cannot be pushed (unauthorized" in denied.stderr
    assert "docker login" in denied.stderr
    assert Path(denied.stderr.rpartition("Log: ")[2].strip()).is_file()

    login("secret")
    pushed = harbor.images("--push", f"{guarded.address}/ds")
    assert pushed.returncode == 0, pushed.stderr
    unique.remove_images()
    run = harbor.run(f"--harbor-registry={guarded.address}/ds", agent=NOP)
    assert sources(run) == {"one": "pulled"}, run.text


def test_broken_image_is_built_and_others_are_pulled(harbor: Harbor, unique: Unique, registry: Registry) -> None:
    for name in ("broken", "whole"):
        harbor.task(name, image=None, files=small(unique, "COPY data.txt /", **{"data.txt": name}))
    repository = f"{harbor.path.name}/broken"
    # Without the CLI, as the engine would reuse BuildKit's layers instead of downloading them.
    path = path_without_docker(harbor.path)
    pushed = harbor.images("--push", f"{registry.address}/{repository}", PATH=path)
    assert pushed.returncode == 0, pushed.stderr
    tags = dict(re.findall(r":([0-9a-f]+-\w+)  ds/(\w+)$", pushed.stdout, re.MULTILINE))
    layers = {name: registry.layers(repository, tag) for tag, name in tags.items()}
    own = set(layers["broken"]) - set(layers["whole"])
    assert own
    for digest in own:
        registry.corrupt(digest)
    unique.remove_images()

    run = harbor.run("-n2", f"--harbor-registry={registry.address}/{repository}", agent=NOP)
    assert sources(run) == {"broken": "built", "whole": "pulled"}, run.text
    assert run["whole"]["warnings"] == []
    [warning] = run["broken"]["warnings"]
    assert warning.startswith("image built locally: image ")
    assert "cannot be pulled" in warning
    assert warning in run.text


class Stalling(BaseHTTPRequestHandler):
    """A registry that answers only the engine's first request until the test is over."""

    over = threading.Event()

    def do_GET(self) -> None:
        if self.path != "/v2/":
            self.over.wait()
        self.send_response(200)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def stalling() -> Iterator[str]:
    """The address of a registry that stalls on every request for an image."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    Stalling.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_stalled_pull_times_out(engine: object, stalling: str, tmp_path: Path) -> None:
    provider = DockerProvider()
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="no response for 2 s"):
        provider.pull_image(f"{stalling}/ds:none", log=tmp_path / "log.txt", timeout=2)
    assert time.monotonic() - began < 20
    provider.close()

"""`pytest-harbor images`: builds every image of a dataset once, and a failure stops no other build."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from harbor_runs import IMAGE, SMALL, Harbor, Unique, wait_for
from registries import Registry

from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.image import ImageDetails, ImageStore


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, ...]]:
    """Parse the printed images: tasks to source and names (local, remote)."""
    lines = re.findall(r"^(\w+) +[\d.]+ s (\S+)(?: -> (\S+))?  (.+)$", done.stdout, re.MULTILINE)
    return {names: (how, *filter(None, refs)) for how, *refs, names in lines}


def test_failure_is_reported_and_stops_no_other_build(harbor: Harbor, unique: Unique) -> None:
    for number in range(6):
        harbor.task(f"shared-{number}", image=None, files=unique("ENV A=1"))
    harbor.task("fails", image=None, files=unique("RUN echo words of the build && false"))
    harbor.task("finished", image=IMAGE, files=unique("ENV A=2"))
    harbor.task("broken", image=None, files=unique(), agent={"timeout_sec": "long"})
    steps = harbor.task("several-steps", image=None, files=unique())
    (steps / "task.toml").write_text('[[steps]]\nname = "one"\n')
    # A builder that the user has selected does not see the engine's images.
    done = harbor.images("--jobs=2", BUILDX_BUILDER="none-of-this-name")
    assert done.returncode == 1
    found = rows(done)
    assert {names: row[0] for names, row in found.items()} == {
        "ds/fails": "failed",
        "ds/finished": "present",
        "ds/shared-0, ds/shared-1, ds/shared-2, ds/shared-3 and 2 more": "built",
    }
    assert re.search("^skipped +ds/several-steps: multi-step tasks are not supported yet$", done.stdout, re.MULTILINE)
    assert re.search("^3 images: .*1 built.*; 1 task skipped$", done.stdout, re.MULTILINE)
    task, build = sorted(done.stderr.splitlines())
    assert task.startswith("failed: ds/broken: ")
    assert "timeout_sec" in task
    assert build.startswith("failed: ds/fails: build failed: ")
    log = Path(build.rpartition("Log: ")[2])
    assert log.is_relative_to(harbor.path)
    assert "words of the build" in log.read_text()

    again = harbor.images("--task=shared-*", "--task=finished")
    assert again.returncode == 0, again.stderr
    assert sorted(row[0] for row in rows(again).values()) == ["cached", "present"]
    fresh = harbor.images("--task=shared-1", "--build=always", "--logs", str(harbor.path / "kept"))
    assert [row[0] for row in rows(fresh).values()] == ["built"]
    assert len(list(harbor.path.glob("kept/images/build-*/log-*.txt"))) == 1
    nothing = harbor.images("--task=none")
    assert nothing.returncode == 1
    assert "no task matches 'none'" in nothing.stderr


def test_interrupt_ends_the_builds(harbor: Harbor, unique: Unique) -> None:
    for number in range(3):
        harbor.task(f"slow-{number}", image=None, files=unique("RUN sleep 1000", f"ENV A={number}"))
    command = [sys.executable, "-m", "pytest_harbor.cli", "images", str(harbor.dataset), "--jobs=2"]
    logs = harbor.path / "logs"
    process = subprocess.Popen([*command, "--logs", str(logs)], stderr=subprocess.PIPE, text=True)
    harbor.processes.append(process)

    def are_running() -> bool:
        return sum("sleep 1000" in log.read_text() for log in logs.glob("images/build-*/log-*.txt")) == 2

    wait_for(are_running, "two builds to run", 60)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == "pytest-harbor: interrupted\n"
    assert process.returncode == 130
    assert time.monotonic() - began < 15
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(str(harbor.dataset).encode() in line for line in running)


class EmptyEngine(DockerProvider):
    """An engine that has only the images that it pulled or built."""

    def __init__(self) -> None:
        super().__init__()
        self.images: set[str] = set()

    def find_image(self, ref: str) -> ImageDetails | None:
        return super().find_image(ref) if ref in self.images else None

    def tag_image(self, ref: str, name: str) -> None:
        super().tag_image(ref, name)
        self.images.add(name)

    def build_image(self, *args: object, **options: object) -> None:
        super().build_image(*args, **options)  # type: ignore[arg-type]
        self.images.add(str(args[1]))


def environment(harbor: Harbor, unique: Unique, name: str) -> Path:
    """Write a converted environment that copies only a small part of the layer."""
    folder = harbor.path / "converted" / name
    start = f"ARG HARBOR_LAYER=must-not-be-needed\nFROM ${{HARBOR_LAYER}} AS harbor-layer\n{SMALL}"
    dockerfile = unique("COPY --from=harbor-layer /logs /logs", "COPY tasks/ /tasks/", start=start)
    (folder / "tasks" / f"task-of-{name}").mkdir(parents=True)
    (folder / "Dockerfile.hud").write_text(dockerfile["environment/Dockerfile"])
    (folder.parent / "taskset.json").write_text("[]")
    return folder


def test_converted_environments_and_their_layer(
    harbor: Harbor, unique: Unique, registry: Registry, hud_layer: str
) -> None:
    names = ["hud-harbor-ds-g1", "hud-harbor-ds-g2"]
    for name in names:
        folder = environment(harbor, unique, name).parent
    repository = f"{registry.address}/deployed"
    done = harbor.images("--push", repository, path=folder)
    assert done.returncode == 0, done.stderr
    found = rows(done)
    assert set(found) == {"the layer", *names}
    assert found["the layer"][2].startswith(f"{repository}:{hud_layer.partition(':')[2]}-")
    for name in names:
        how, ref, remote = found[name]
        assert how == "built"
        assert re.fullmatch(rf"{name}:[0-9a-f]{{24}}", ref)
        assert remote.startswith(f"{repository}:{ref.replace(':', '-')}-")
        assert harbor.client.images.get(f"{name}:latest").id == harbor.client.images.get(ref).id
    again = rows(harbor.images("--push", repository, path=folder))
    assert {row[0] for row in again.values()} == {"published"}
    assert set(rows(harbor.images("--task=task-of-*-g2", path=folder))) == {"the layer", names[1]}

    # If the registry has all images, the layer is not needed; if one is new, the layer is pulled too.
    provider = EmptyEngine()
    store = ImageStore(provider, harbor.path / "run", adapt="hud", registry=repository)
    ref, make = store.converted_environment(folder / names[0], names[0])
    assert make().source == "pulled"
    assert provider.images == {ref}
    ref, make = store.converted_environment(environment(harbor, unique, "new"), "new")
    assert make().source == "built"
    assert provider.images >= {ref, hud_layer}
    assert len(list(harbor.path.glob("run/images/build-*/log-*.txt"))) == 1
    provider.close()
    # Other tests still use the layer itself.
    harbor.client.api.remove_image(found["the layer"][2])

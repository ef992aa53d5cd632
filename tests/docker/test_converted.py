"""Converted environments: they build, contain the files of a trial's image, and hide the tests."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from harbor_runs import IMAGE, Harbor

from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.environment.docker.build import has_buildx
from pytest_harbor.hud.convert import convert
from pytest_harbor.image import ImageStore
from pytest_harbor.task import Dataset

if not has_buildx():
    pytest.skip("no docker CLI with buildx", allow_module_level=True)

TOKEN = "only-the-tests-know-this"
# Paths that a deployable image adds to the task's own files, and that creating a container adds.
ADDED = ("hud", "harbor", "logs", "workspace", ".dockerenv", "dev", "etc/hostname", "etc/hosts", "etc/resolv.conf")

# Copies more of the context than an instruction names, in every possible way and several stages.
GREEDY = f"""\
# syntax is only a word here
FROM {IMAGE} AS first
COPY . /first
FROM {IMAGE}
RUN echo second > /second
FROM {IMAGE}
RUN mkdir -m 700 /there
COPY --from=0 /first /first
COPY --from=1 /second /second
COPY . /app
COPY --chown=1000:1000 ./ /there/
COPY d* /several/
ADD . /added
RUN --mount=type=bind,target=/context cp -a /context /mounted
WORKDIR /app
COPY . .
ENTRYPOINT ["/bin/sh", "-c", \\
  "exec \\"$@\\"", "sh"]
CMD ["sleep", "1"]"""
CONTEXT = {
    "a.txt": "a\n",
    "d/deep/b": "b\n",
    "d/link": "-> nowhere",
    "link": "-> d",
    ".hidden/x": "x\n",
    "notes.md": "n\n",
}
IGNORE = "*.md\nenv.py\n**/t*s\n"


def write_context(task: Path, ignore: str) -> None:
    for name, content in CONTEXT.items():
        path = task / "environment" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    (task / "environment/a.txt").chmod(0o755)
    (task / "environment/d").chmod(0o700)
    (task / "environment/empty").mkdir()
    if ignore:
        (task / "environment/.dockerignore").write_text(ignore)


def build(dockerfile: Path, *options: str) -> str:
    command = ["docker", "buildx", "build", "--builder", "default", "--load", "--quiet", *options]
    done = subprocess.run([*command, "-f", str(dockerfile), str(dockerfile.parent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def build_converted(environment: Path, layer: str) -> str:
    return build(environment / "Dockerfile.hud", "--build-arg", f"HARBOR_LAYER={layer}")


def files(engine: docker.DockerClient, image: str) -> dict[str, tuple]:
    """Return the files of an image: types, modes, owners, link targets and contents."""
    container = engine.containers.create(image, ["true"])
    try:
        stream = io.BytesIO(b"".join(container.export()))
    finally:
        container.remove(force=True)
    found = {}
    with tarfile.open(fileobj=stream) as archive:
        for entry in archive:
            name = entry.name.rstrip("/")
            if not any(name == each or name.startswith(f"{each}/") for each in ADDED):
                content = archive.extractfile(entry).read() if entry.isreg() else b""  # type: ignore[union-attr]
                digest = hashlib.sha256(content).hexdigest()
                found[name] = (entry.type, entry.mode, entry.uid, entry.gid, entry.linkname, digest)
    return found


def layers(engine: docker.DockerClient, image: str) -> Iterator[tarfile.TarFile]:
    """Yield every layer of an image, from `docker save`."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.images.get(image).save()))) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        for name in manifest[0]["Layers"]:
            with tarfile.open(fileobj=saved.extractfile(name)) as layer:
                yield layer


@pytest.mark.parametrize("ignore", ["", IGNORE])
def test_converted_image_has_the_original_files_and_no_tests(
    harbor: Harbor, engine: docker.DockerClient, hud_layer: str, ignore: str
) -> None:
    task = harbor.task(
        "greedy",
        test=f"# {TOKEN}\n",
        solve=f"# {TOKEN} solution\n",
        image=None,
        files={"environment/Dockerfile": GREEDY, "tests/data.txt": TOKEN},
    )
    write_context(task, ignore)
    convert(harbor.dataset, harbor.path / "out")

    original = build(task / "environment/Dockerfile")
    converted = build_converted(harbor.path / "out/hud-harbor-ds", hud_layer)
    expected = files(engine, original)
    assert files(engine, converted) == expected
    assert {"app/Dockerfile", "added/link", "mounted/d/link", "first/.hidden/x", "several/deep/b"} <= set(expected)
    assert ("app/notes.md" in expected) is not ignore

    if ignore:
        return
    holders = []
    for layer in layers(engine, converted):
        for entry in layer:
            if entry.isreg() and TOKEN.encode() in layer.extractfile(entry).read():  # type: ignore[union-attr]
                holders.append(entry.name)
            assert "solution" not in Path(entry.name).parts
    assert sorted(holders) == ["harbor/tasks/greedy/tests/data.txt", "harbor/tasks/greedy/tests/test.sh"]


def test_hard_dockerfiles_build(harbor: Harbor, hud_layer: str) -> None:
    for name, dockerfile in {
        "backtick": f"# escape=`\nFROM {IMAGE}\nRUN true `\n  && true\nCOPY . `\n  /app\nCMD a `\n  b\n",
        "crlf": f"FROM {IMAGE}\r\nRUN true\r\nCOPY . /app\r\nCMD a \\\r\n  b\r\n",
        "dangling": f"FROM {IMAGE}\nCOPY . /app \\\n",
        "user": f"FROM {IMAGE}\nCOPY . /app\nUSER nobody\nWORKDIR /nowhere",
        "empty": "FROM scratch\nCOPY . /\n",
        "linked": f"FROM {IMAGE}\nRUN ln -s /var/tmp/logs /logs\n",
    }.items():
        harbor.task(name, image=None, files={"environment/Dockerfile": dockerfile})
    harbor.task("named")
    done = convert(harbor.dataset, harbor.path / "out")
    assert done.rejected == ()
    assert len(done.environments) == 7
    for environment in done.environments:
        build_converted(harbor.path / "out" / environment.name, hud_layer)


def test_converted_directory_runs_like_its_source(harbor: Harbor, engine: docker.DockerClient) -> None:
    common = {"environment/Dockerfile": f"FROM {IMAGE}\nCOPY . /app\nWORKDIR /app\n", "environment/word": "hello\n"}
    grade = 'if [ "$(cat answer)" = "$(cat word)" ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt\n'
    # The agent would see any file that the conversion left in the image.
    clean = '[ "$(ls -A)" = "$(printf "Dockerfile\\nword")" ] || exit 3\n'
    harbor.task("solved", clean + "cp word answer\n", grade, image=None, files=common)
    harbor.task("failed", clean + "echo other > answer\n", grade, image=None, files=common)
    harbor.task("named", "true\n", "echo 0.5 > /logs/verifier/reward.txt\n")
    convert(harbor.dataset, harbor.path / "out")

    source = harbor.run("--harbor-threshold=0.5")
    assert source.rewards() == {"solved": 1.0, "failed": 0.0, "named": 0.5}, source.text
    again = harbor.run("--harbor-threshold=0.5", dataset=harbor.path / "out")
    assert again.rewards() == source.rewards(), again.text
    for name, result in source.results.items():
        assert again[name]["task"] == result["task"] == f"ds/{name}"
        assert again[name]["image"]["id"] == result["image"]["id"]
        assert again[name]["image"]["source"] in ("cached", "present")
        assert again[name]["agent_exit"] == result["agent_exit"] == 0


def test_generated_files_are_not_in_the_context(harbor: Harbor, tmp_path: Path) -> None:
    text = f"FROM {IMAGE}\nCOPY . /app\nRUN ls -A /app > /listed && test ! -e /app/tasks\n"
    harbor.task("a", image=None, files={"environment/Dockerfile": text, "environment/x": harbor.path.name})
    convert(harbor.dataset, harbor.path / "out")
    provider = DockerProvider()
    try:
        store = ImageStore(provider, tmp_path / "run", policy="always", retries=0)
        image = store.ensure(Dataset(harbor.path / "out")[0])
        assert image.source == "built"
    finally:
        provider.close()

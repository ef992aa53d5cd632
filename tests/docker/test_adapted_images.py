"""Images adapted with `--harbor-adapt=lean`: their Dockerfiles still build, and their services still start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from harbor_runs import IMAGE, ONE, Harbor, Unique

from pytest_harbor.environment.docker import DockerProvider
from pytest_harbor.environment.docker import build as building
from pytest_harbor.image import ImageStore
from pytest_harbor.image.layers import LAYER_PYTHON
from pytest_harbor.task import Task

NOP = ("--harbor-agent=nop",)

# Dockerfiles that break easily when lines are appended or when ENTRYPOINT and CMD are reset.
HARD = {
    "entrypoint over several lines": 'FROM {base}\nENTRYPOINT ["/bin/sh", \\\n  # why\n\n  "-c", "true"]\n',
    "tab after CMD": "FROM {base}\nCMD\tnothing-of-this-name\n",
    "health check on the next line": "FROM {base}\nHEALTHCHECK --interval=1h \\\n  CMD true\n",
    "ENTRYPOINT of an earlier stage": 'FROM {base} AS first\nCMD ["x"]\nENTRYPOINT ["y"]\nFROM first\nRUN true\n',
    "ends in a continuation line": "FROM {base}\nRUN true && \\\n  true \\",
    "no final newline": "FROM {base}\nUSER nobody",
    "backtick": "# escape=`\nFROM {base}\nRUN true `\n  && true\nCMD a `\n  b\n",
    "CRLF": "FROM {base}\r\nRUN true\r\nCMD a \\\r\n  b\r\n",
    "/logs is a link": "FROM {base}\nRUN ln -s /var/tmp/logs /logs\n",
    "no shell": "FROM scratch\nCOPY Dockerfile /only-file\n",
}


@pytest.fixture
def store(engine: docker.DockerClient, tmp_path: Path) -> Iterator[ImageStore]:
    provider = DockerProvider()
    yield ImageStore(provider, tmp_path / "run", policy="always", retries=0)
    provider.close()


@pytest.mark.parametrize("builder", ["buildx", "engine"])
def test_hard_dockerfiles_build(
    harbor: Harbor, store: ImageStore, monkeypatch: pytest.MonkeyPatch, builder: str
) -> None:
    if builder == "engine":
        monkeypatch.setattr(building, "has_buildx", lambda _: False)
    for number, (case, dockerfile) in enumerate(HARD.items()):
        text = dockerfile.format(base=IMAGE)
        path = harbor.task(str(number), image=None, files={"environment/Dockerfile": text})
        image = store.ensure(Task.load(path))
        config = harbor.client.api.inspect_image(image.ref)["Config"]
        harbor.client.api.remove_image(image.ref)
        assert image.source == "built", case
        assert config["Cmd"] == ["sleep", "2147483647"], case
        assert config["Labels"]["pytest-harbor.adapt"] == "lean", case
        assert config["User"] == ("nobody" if "nobody" in text else ""), case
        assert bool(config.get("Entrypoint")) == ("over several" in case or "earlier" in case), case


def test_image_stays_up_with_its_services(harbor: Harbor, store: ImageStore) -> None:
    script = '#!/bin/sh\nsleep 1234567 &\nexec "$@"\n'
    dockerfile = f'FROM {IMAGE}\nCOPY --chmod=755 start /start\nENTRYPOINT [ "/start" ]\nCMD ["true"]\n'
    path = harbor.task("service", image=None, files={"environment/Dockerfile": dockerfile, "environment/start": script})
    image = store.ensure(Task.load(path))
    container = harbor.client.containers.run(image.ref, detach=True)
    try:
        output = container.exec_run("sh -c 'cat /proc/1/cmdline; cat /proc/[0-9]*/cmdline; ls -ld /logs/*'").output
        assert output.startswith(b"sleep\x002147483647\x00")
        assert b"1234567" in output
        assert output.count(b"drwxrwxrwx") == 3
    finally:
        container.remove(force=True)


def test_unprivileged_agent_can_write_its_logs(harbor: Harbor) -> None:
    harbor.task(
        "nobody",
        work="touch /logs/agent/mine /logs/artifacts/mine",
        test=f"[ -e /logs/artifacts/mine ] && {ONE}",
        image=None,
        files={"environment/Dockerfile": f"FROM {IMAGE}\nUSER nobody\n"},
    )
    run = harbor.run()
    assert run.outcomes() == {"nobody": "passed"}, run.text
    assert (run.trial("nobody") / "agent/mine").exists()


def test_hud_without_buildkit(
    harbor: Harbor, unique: Unique, hud_layer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(building, "has_buildx", lambda _: False)
    provider = DockerProvider()
    store = ImageStore(provider, tmp_path / "run", adapt="hud")
    image = store.ensure(Task.load(harbor.task("nobody", image=None, files=unique("USER nobody"))))
    provider.close()
    assert image.source == "built"
    version = [LAYER_PYTHON, "-I", "-c", "import hud; print(hud.__version__)"]
    assert harbor.client.containers.run(image.ref, version, remove=True) == b"0.5.41\n"

"""The layer of --harbor-adapt=hud: its Python runs on every base image as any user, and uses nothing of the base."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest

from pytest_harbor.environment.docker.build import has_buildx
from pytest_harbor.image.layers import LAYER_PYTHON, layer_stage, pyproject
from pytest_harbor.task.document import tomllib

if not has_buildx():
    pytest.skip("no docker CLI with buildx", allow_module_level=True)

PROBE = Path(__file__).with_name("layer_probe.py")
STRANGER = 12345

# Bases that are not available here are imitated by how they differ: Alpine's C library, Fedora's directories and its
# missing name service modules. Broken libraries are placed where a loader looks first.
BASES = r"""
FROM debian:bookworm-slim AS packages
RUN apt-get update -qq && cd /tmp && apt-get download -qq busybox-static musl \
 && for deb in *.deb; do dpkg -x "$deb" /packages; done

FROM scratch AS busybox
COPY --from=packages /packages/bin /bin
RUN ["/bin/busybox", "--install", "-s", "/bin"]

FROM busybox AS alpine
COPY --from=packages /packages/lib /lib
RUN for name in libc.so.6 libgcc_s.so.1 libssl.so.3 libz.so.1; do echo none >/lib/$name; done

FROM ubuntu:24.04 AS fedora-root
RUN mkdir -p /r/etc /r/usr/lib64 && ln -s usr/lib64 /r/lib64 \
 && cp -L /usr/lib/*-linux-gnu/lib*.so.? $(ls /lib64/ld-* /lib/ld-* 2>/dev/null) /r/usr/lib64 \
 && echo root:x:0:0:root:/root:/bin/sh >/r/etc/passwd \
 && echo 'passwd: sss files systemd' >/r/etc/nsswitch.conf \
 && echo 'hosts: files myhostname resolve [!UNAVAIL=return] dns' >>/r/etc/nsswitch.conf \
 && echo /usr/lib64 >/r/etc/ld.so.conf && ldconfig -r /r

FROM busybox AS fedora
COPY --from=fedora-root /r /

FROM debian:bookworm-slim AS debian
USER nobody

FROM ubuntu:24.04 AS ubuntu
"""
TAKEN = """
FROM {base} AS on-{base}
COPY --from={layer} / /
COPY layer_probe.py /probe.py
RUN ["{python}", "-I", "/probe.py", "/logs/agent/report.json"]
"""
USERS = {"debian": 65534, "ubuntu": 0, "busybox": 0, "alpine": 0, "fedora": 0}
WITH_PASSWD = {"debian", "ubuntu", "fedora"}


def build(dockerfile: str, context: Path, output: Path) -> str:
    """Build a Dockerfile, write the files of the last stage to a directory, and return the log."""
    command = ["docker", "buildx", "build", "--builder", "default", "--progress", "plain", "--file", "-"]
    done = subprocess.run(
        [*command, "--output", f"type=local,dest={output}", str(context)],
        input=dockerfile,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def reports(hud_layer: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The probe's report on each base; workers that need it at the same time share one build."""
    output = tmp_path_factory.mktemp("reports")
    parts = [TAKEN.format(base=base, layer=hud_layer, python=LAYER_PYTHON) for base in USERS]
    copies = [f"COPY --from=on-{base} /logs/agent/report.json /{base}.json\n" for base in USERS]
    build(BASES + "".join(parts) + "\nFROM scratch\n" + "".join(copies), PROBE.parent, output)
    return {base: json.loads((output / f"{base}.json").read_text()) for base in USERS}


def check_report(report: dict[str, Any]) -> None:
    assert report["versions"][0] == "0.5.41"
    assert report["certificates"] > 50
    assert (report["sqlite"], report["ctypes"], report["child"], report["uv"]) == (42, True, "42", "uv")
    assert "127.0.0.1" in report["localhost"]
    assert report["folders"] == {"agent": "0o777", "artifacts": "0o777", "verifier": "0o777"}
    assert report["foreign"] == [], "libraries of the base were loaded"


@pytest.mark.parametrize("base", USERS)
def test_every_base(reports: dict[str, dict[str, Any]], base: str) -> None:
    check_report(reports[base])
    assert reports[base]["user"] == USERS[base]
    assert reports[base]["root"] == ("root" if base in WITH_PASSWD else None)


def test_unknown_user_without_network_or_writable_files(engine: docker.DockerClient, hud_layer: str) -> None:
    output = engine.containers.run(
        hud_layer,
        [LAYER_PYTHON, "-I", "-c", PROBE.read_text()],
        user=str(STRANGER),
        read_only=True,
        network_mode="none",
        remove=True,
    )
    report = json.loads(output)
    check_report(report)
    assert (report["user"], report["root"]) == (STRANGER, None)


def test_all_packages_are_pinned(reports: dict[str, dict[str, Any]]) -> None:
    document = tomllib.loads(pyproject("any"))
    pins = [*document["project"]["dependencies"], *document["tool"]["uv"]["constraint-dependencies"]]
    installed = reports["busybox"]["installed"]
    assert installed == {
        name: version for name, _, version in (pin.partition("==") for pin in pins) if name in installed
    }


def test_environments_share_the_built_layer(hud_layer: str, tmp_path: Path) -> None:
    logs = []
    for name, escape in (("harbor-one", "\\"), ("harbor-two", "`")):
        (tmp_path / "pyproject.toml").write_text(pyproject(name))
        recipe = layer_stage("layer", escape) + "FROM layer\nFROM scratch\nCOPY --from=layer /logs /logs\n"
        logs.append(build(f"# escape={escape}\n{recipe}", tmp_path, tmp_path / name))
        assert sorted(path.name for path in (tmp_path / name / "logs").iterdir()) == ["agent", "artifacts", "verifier"]
    steps = [line.split()[0] for line in logs[1].splitlines() if "uv pip install" in line]
    assert steps
    assert f"{steps[0]} CACHED" in logs[1]

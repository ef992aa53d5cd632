"""Images: built once for all tasks that share them, reused, and clear messages if they are not available."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from harbor_runs import IMAGE, ONE, Harbor, Unique, builds, path_without_docker

NOP = ("--harbor-agent=nop",)


def test_built_once_and_reused_until_it_changes(harbor: Harbor, unique: Unique) -> None:
    files = unique("COPY data.txt tool /", **{"data.txt": "one", "tool": "#!/bin/sh\n"})
    for number in range(4):
        harbor.task(f"shared-{number}", test=f"[ $(cat /data.txt) = one ] && {ONE}", image=None, files=files)
    first = harbor.run("-n4", agent=NOP)
    assert first.outcomes() == {f"shared-{number}": "passed" for number in range(4)}, first.text
    assert len(builds(first)) == 1
    assert len({result["image"]["id"] for result in first.results.values()}) == 1
    assert "built" in {result["image"]["source"] for result in first.results.values()}

    again = harbor.run("-k", "shared-0", agent=NOP)
    assert builds(again) == []
    assert again["shared-0"]["image"] == {**first["shared-0"]["image"], "source": "cached"}

    environment = harbor.dataset / "shared-0/environment"
    os.utime(environment / "data.txt", (0, 0))
    (environment / "tool").chmod(0o755)
    mode = harbor.run("-k", "shared-0", agent=NOP)
    assert len(builds(mode)) == 1
    (environment / "data.txt").write_text("two")
    content = harbor.run("-k", "shared-0", agent=NOP)
    assert len(builds(content)) == 1
    assert content.outcomes() == {"shared-0": "unverified"}
    ids = {run["shared-0"]["image"]["id"] for run in (first, mode, content)}
    assert len(ids) == 3


def test_policies(harbor: Harbor, unique: Unique) -> None:
    files = unique("RUN touch /from-dockerfile")
    test = f"[ -e /from-dockerfile ] && {ONE}"
    harbor.task("own", test=test, image=None, files=files)
    harbor.task("named-too", test=test, image=IMAGE, files=files)
    harbor.task("absent-too", test=test, image="pytest-harbor.invalid/none:1", files=files)
    harbor.task("absent", image="pytest-harbor.invalid/none:1")

    never = harbor.run("-v", "--harbor-build=never", agent=NOP)
    assert never.outcomes() == {
        "own": "error",
        "named-too": "unverified",
        "absent-too": "error",
        "absent": "error",
    }
    assert "--harbor-build=never forbids building it" in never["own"]["reason"]
    assert "--harbor-build=never forbids pulling it" in never["absent"]["reason"]
    assert builds(never) == []

    auto = harbor.run("-n2", agent=NOP)
    assert auto.outcomes() == {
        "own": "passed",
        "named-too": "unverified",
        "absent-too": "passed",
        "absent": "error",
    }, auto.text
    assert auto["named-too"]["image"] == {**auto["named-too"]["image"], "ref": IMAGE, "source": "present"}
    note = "docker_image pytest-harbor.invalid/none:1 is not available"
    assert any(
        note in warning and "built from the Dockerfile instead" in warning for warning in auto["absent-too"]["warnings"]
    )
    assert "pytest-harbor.invalid/none:1 does not exist locally and cannot be pulled" in auto["absent"]["reason"]
    assert len(builds(auto)) == 1

    always = harbor.run("-n2", "--harbor-build=always", agent=NOP)
    assert {name: always[name]["outcome"] for name in ("own", "named-too", "absent-too")} == {
        "own": "passed",
        "named-too": "passed",
        "absent-too": "passed",
    }, always.text
    assert len(builds(always)) == 1


@pytest.mark.parametrize("builder", ["cli", "sdk"])
def test_failing_builds(harbor: Harbor, unique: Unique, builder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if builder == "sdk":
        monkeypatch.setenv("PATH", path_without_docker(harbor.path))
    elif shutil.which("docker") is None:
        pytest.skip("no docker CLI")
    failing = unique("RUN echo words of the build && sh -c 'exit 42'")
    for number in range(3):
        harbor.task(f"failing-{number}", image=None, files=failing)
    harbor.task("no-base", image=None, files={"environment/Dockerfile": "FROM pytest-harbor.invalid/base:1\n"})
    harbor.task("no-file", image=None, files=unique("COPY absent.txt /"))
    harbor.task("syntax", image=None, files={"environment/Dockerfile": f"FROM {IMAGE}\nRUNN true\n"})
    harbor.task("fine")
    run = harbor.run("-n2", "-v", "--harbor-infra-retries=0", agent=NOP)
    assert run.outcomes() == {
        **{f"failing-{number}": "error" for number in range(3)},
        **dict.fromkeys(("no-base", "no-file", "syntax"), "error"),
        "fine": "passed",
    }, run.text
    for number in range(3):
        name = f"failing-{number}"
        assert run[name]["phase"] == "build"
        # The line that failed, and the log with the rest.
        assert "exit 42" in run[name]["reason"]
        log = Path(run[name]["reason"].rpartition("Log: ")[2])
        assert "words of the build" in log.read_text()
    assert "words of the build" in run.text
    assert sum("words of the build" in log for log in builds(run)) == 1
    assert "pytest-harbor.invalid/" in run["no-base"]["reason"]
    assert "absent.txt" in run["no-file"]["reason"]
    assert "RUNN" in run["syntax"]["reason"]
    assert "Traceback" not in run.text


def test_without_docker_command(harbor: Harbor, unique: Unique, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path_without_docker(harbor.path))
    ignored = {".dockerignore": "*.md\nsecret/\n", "README.md": "no", "keep.txt": "yes"}
    test = f"[ -e /all/keep.txt ] && ! [ -e /all/README.md ] && ! [ -e /all/secret ] && {ONE}"
    for name in ("one", "two"):
        harbor.task(name, test=test, image=None, files=unique("COPY . /all/", **ignored, **{"secret/key.txt": "no"}))
    harbor.task("needs-buildkit", image=None, files=unique("RUN --mount=type=cache,target=/c true"))
    harbor.task("heredoc", image=None, files=unique("RUN <<EOF", "touch /made", "EOF"))
    run = harbor.run("-n2", "-v", "--harbor-infra-retries=0", agent=NOP)
    assert run.outcomes() == {"one": "passed", "two": "passed", "needs-buildkit": "error", "heredoc": "error"}, run.text
    for name in ("needs-buildkit", "heredoc"):
        assert "needs BuildKit: install the docker CLI with its buildx plugin" in run[name]["reason"]
    assert sum("COPY . /all/" in log for log in builds(run)) == 1


def test_dockerignore_and_build_features(harbor: Harbor, unique: Unique) -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker CLI")
    ignored = {".dockerignore": "# all but one\n*\n!keep.txt\n", "README.md": "no", "keep.txt": "yes"}
    harbor.task(
        "ignores",
        test=f"[ -e /all/keep.txt ] && ! [ -e /all/README.md ] && ! [ -e /all/secret ] && {ONE}",
        image=None,
        files=unique("COPY . /all/", **ignored, **{"secret/key.txt": "no"}),
    )
    run = harbor.run("-v", agent=NOP)
    assert run.outcomes() == {"ignores": "passed"}, run.text
    # An ignored file does not change the image.
    (harbor.dataset / "ignores/environment/README.md").write_text("changed")
    assert harbor.run(agent=NOP)["ignores"]["image"]["source"] == "cached"


def test_build_deadline(harbor: Harbor, unique: Unique) -> None:
    harbor.task("slow", image=None, files=unique("RUN sleep 100"), environment={"build_timeout_sec": 1})
    run = harbor.run("-v", "--harbor-infra-retries=0", agent=NOP)
    assert run.outcomes() == {"slow": "error"}
    assert "took longer than 1 s" in run["slow"]["reason"]
    assert "build_timeout_sec" in run["slow"]["reason"]


def test_setup_only(harbor: Harbor, unique: Unique) -> None:
    harbor.task("one", "echo agent", image=None, files=unique("RUN true"))
    for agent in (("--harbor-agent-command=bash /task/instruction.md",), ()):
        run = harbor.run("--setup-only", agent=agent)
        assert run.code == 0, run.text
        assert "SETUP    F harbor_image" in run.text
        assert run.results == {}
        assert not list(run.directory.glob("*/agent/agent.log"))
    assert builds(run) == []
    done = harbor.run("--harbor-build=never")
    assert done.outcomes() == {"one": "passed"}, done.text

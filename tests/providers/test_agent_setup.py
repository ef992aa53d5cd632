"""The agent's setup as a layer of a task's image, and the agent files of each trial, on every provider."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_harbor import TrialSettings, run_trial
from pytest_harbor.errors import ImageError
from pytest_harbor.image import Image, ImageStore

DOCKERFILE = r"""FROM BASE
RUN useradd --create-home --uid 1234 worker && mkdir /app && chown worker /app
ENV COLOR=blue
WORKDIR /app
USER worker
ENTRYPOINT ["/bin/sh", "-c", "echo $COLOR >/tmp/service; exec \"$@\"", "--"]
"""
# A random text that is the same in every trial on one layer, and in no other.
TOKEN = "head -c 16 /dev/urandom | od -An -tx1 >/token"
ODD = """\
set -- "a  'b' \\"c\\"" $HOME '$HOME' \\\\ ü "$(id -u)" "$PWD" "$COLOR"
printf '[%s]' "$@" >/words
cat /agent/requirements.txt >/seen
"""


@pytest.fixture(scope="session")
def service_image(build):
    """Return the image of a task with a user, a working directory and a service."""
    return build(DOCKERFILE)


@pytest.fixture
def images_to_remove(provider):
    """Yield a set for the names of images to remove after the test."""
    names = set()
    yield names
    if provider.name == "docker":
        for name in names:
            provider._client.remove_image(name, force=True)


@pytest.fixture
def store(provider, tmp_path, images_to_remove):
    """Yield a function that creates the image store of a run."""
    stores = []

    def make(run="run", **options):
        stores.append(ImageStore(provider, tmp_path / run, retries=0, **options))
        return stores[-1]

    yield make
    images_to_remove.update(*(store._known for store in stores))


@pytest.fixture
def agent(tmp_path):
    """Return the working copy of an agent."""
    directory = tmp_path / "agent"
    directory.mkdir()
    (directory / "requirements.txt").write_text(f"one {tmp_path}\n")
    (directory / "main.sh").write_text("#!/bin/sh\ncat /agent/lib/text\n")
    (directory / "main.sh").chmod(0o700)
    (directory / "lib").mkdir(mode=0o700)
    (directory / "lib" / "text").write_text("first")
    (directory / "lib" / "text").chmod(0o600)
    (directory / "lib" / "link").symlink_to("/agent/lib/text")
    (directory / "notes.md").touch()
    (directory / ".dockerignore").write_text("*.md\n")
    return directory


def test_setup_keeps_the_image_configuration(store, service_image, start, agent, many_users):
    image = store().with_setup(service_image, ODD, [(agent, "/agent")])
    assert (image.setup, image.below, image.source) == ("built", service_image.ref, "built")
    old, new = service_image.details, image.details
    assert (new.user, new.workdir, new.entrypoint) == (old.user, old.workdir, old.entrypoint) != ("", "", ())
    assert new.variables == old.variables
    environment = start(image)
    result = environment.exec("id -un; pwd; cat /tmp/service /words; stat -c %U /words; ls -A /agent; ls -d /.harbor*")
    words = r"""[a  'b' "c"][/root][$HOME][\][ü][0][/][blue]root"""
    lines = ["worker", "/app", "blue", words, "requirements.txt"]
    assert result.output.splitlines()[:-1] == lines
    assert "No such file" in result.output.splitlines()[-1]


def test_setup_is_cached_by_its_inputs(store, service_image, agent):
    text = f"{TOKEN}; cat /agent/requirements.txt"
    first = store().with_setup(service_image, text, [(agent, "/agent")])
    (agent / "main.sh").write_text("exit 1\n")
    second = store("second").with_setup(service_image, text, [(agent, "/agent")])
    assert (second.setup, second.details.id) == ("cached", first.details.id)
    with pytest.raises(ImageError, match=r"the agent's setup on .* is not built, and --harbor-build=never forbids"):
        store(policy="never").with_setup(service_image, f"{text};", [(agent, "/agent")])
    assert store(policy="never").with_setup(service_image, text, [(agent, "/agent")]).setup == "cached"
    (agent / "requirements.txt").write_text("two\n")
    third = store("third").with_setup(service_image, text, [(agent, "/agent")])
    assert third.details.id != first.details.id
    always = store("always", policy="always")
    rebuilt = [always.with_setup(service_image, text, [(agent, "/agent")]) for _ in range(2)]
    other = store("always", policy="always").with_setup(service_image, text, [(agent, "/agent")])
    assert {image.setup for image in (*rebuilt, other)} == {"built"}
    assert len({third.details.id, *(image.details.id for image in (*rebuilt, other))}) == 2


def test_setup_in_another_language(store, provider, start):
    below = provider.find_image("python:3.12-slim")
    script = "#!/usr/bin/env python3\nfrom pathlib import Path\nPath('/made').write_text('by \"python\" $x ü')\n"
    image = store().with_setup(Image("python:3.12-slim", "present", below), script)
    assert start(image).exec("cat /made").output == 'by "python" $x ü'


def test_failing_setup_reports_its_last_output(store, service_image, tmp_path):
    text = f"#!/bin/bash -u\n# {tmp_path}\necho installing; echo no such package ü >&2; false; echo not reached\n"
    with pytest.raises(ImageError) as caught:
        store().with_setup(service_image, text)
    assert caught.value.fact == (
        f"the agent's setup on {service_image.ref} failed: exit code 1, last output:\ninstalling\nno such package ü"
    )
    assert "no such package" in caught.value.log.read_text()
    # Another worker of the run reports the failure without building again.
    with pytest.raises(ImageError, match="no such package"):
        store().with_setup(service_image, text)


@pytest.fixture
def task(make_task):
    """Return a task whose agent runs as an unprivileged user."""
    toml = '[environment]\ndocker_image = "python:3.12-slim"\n[agent]\nuser = "nobody"\n'
    return make_task(toml=toml, test="echo 1 >/logs/verifier/reward.txt\n", solution="test ! -e /agent\n")


def test_trial_as_unprivileged_user(provider, task, agent, tmp_path, images_to_remove, many_users):
    settings = TrialSettings(
        agent_setup=f"{TOKEN}; cat /agent/requirements.txt", agent_files=[(agent, "/agent")], infra_retries=0
    )

    def trial(who, text):
        (agent / "lib" / "text").write_text(text)
        return run_trial(task, who, settings=settings, provider=provider, results=tmp_path / "results")

    seen = []

    def work(_task, environment):
        command = (
            "id -un; cat /token; /agent/main.sh; echo; stat -c '%U %n' /agent/* /agent/lib/*; readlink /agent/lib/link"
        )
        seen.append(environment.exec(command).output.splitlines())

    first, second, oracle = trial(work, "first"), trial(work, "second"), trial("oracle", "third")
    assert [result.outcome for result in (first, second, oracle)] == ["passed"] * 3, first.reason
    images_to_remove.add(first.image["ref"])
    assert (first.image["setup"], first.image["below"]) == ("built", "python:3.12-slim")
    assert (second.image["setup"], second.image["id"]) == ("cached", first.image["id"])
    assert (oracle.image["ref"], oracle.agent_exit) == ("python:3.12-slim", 0)
    assert "setup" not in oracle.image
    assert [lines.pop(2) for lines in seen] == ["first", "second"]
    assert seen[0] == seen[1]
    files = ["/agent/lib", "/agent/main.sh", "/agent/requirements.txt", "/agent/lib/link", "/agent/lib/text"]
    assert seen[0][0] == "nobody"
    assert seen[0][2:] == [*(f"root {file}" for file in files), "/agent/lib/text"]
    (agent / "main.sh").unlink()
    agent.rename(tmp_path / "moved")
    lost = run_trial(task, work, settings=settings, provider=provider, results=tmp_path / "results")
    assert (lost.outcome, lost.phase) == ("error", "build")
    assert "agent does not exist" in lost.reason


@pytest.mark.slow
def test_workers_share_the_setup(namespace, make_task, tmp_path):
    for name, base in (("one", "FROM x\nUSER games\n"), ("two", "FROM x\nRUN touch /two\n")):
        make_task(f"ds/{name}", files={"environment/Dockerfile": base}, test="echo 1 >/logs/verifier/reward.txt\n")
    (tmp_path / "setup.sh").write_text(f"test ! -e /two || {{ echo not for two; exit 7; }}\n{TOKEN}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nharbor_agent_setup = setup.sh\nharbor_agent_command = cat /token\n")
    words = ["--harbor-dataset=ds", "--harbor-environment=namespace", "--harbor-attempts=3", "-n2"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (file,) = tmp_path.glob("harbor-results/*/results.jsonl")
    results = [json.loads(line) for line in file.read_text().splitlines()]
    passed = [result for result in results if result["task"] == "ds/one"]
    assert [result["outcome"] for result in passed] == ["passed"] * 3, done.stdout
    assert len({Path(result["directory"], "agent", "agent.log").read_text() for result in passed}) == 1
    failed = [result for result in results if result["task"] == "ds/two"]
    assert [(result["outcome"], result["phase"]) for result in failed] == [("error", "build")] * 3
    assert all("exit code 7, last output:\nnot for two" in result["reason"] for result in failed)
    assert len(list(file.parent.glob("images/*/log-*.txt"))) == 2 + 1 + 2

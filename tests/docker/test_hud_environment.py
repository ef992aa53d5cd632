"""Deployable images, driven by HUD's own library: tools, setup, grading, and tests that an agent cannot find."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from pytest_harbor.hud.convert.dockerfile_tail import serve_lines, shell_before
from pytest_harbor.image.dockerfile import Dockerfile
from pytest_harbor.image.env_py import env_py

CLIENT = Path(__file__).with_name("hud_client.py")
NAME = "tasks-of-a-test"
# Split in two, so that a search for it does not find the search itself.
MARK = ("only-the-tests", "know-this")

CHECK = """#!/bin/sh
# only-the-tests-know-this
echo "tests run in $(pwd) as $(id -u) with $WORD"
if [ "$(cat answer.txt)" = "$WORD" ]; then echo 1; else echo 0; fi >/logs/verifier/reward.txt
"""
TOML = """
[verifier]
env = { WORD = "${ANSWER:-hello}" }
"""

ROOTED = """
FROM debian:bookworm-slim
WORKDIR /app
ENV COLOUR="from the image" PYTHONPATH=/nowhere
"""
ROOTED_TASKS = {
    "plain": {"task.toml": TOML, "tests/test.sh": CHECK.replace("\n", "\r\n")},
    "silent": {"tests/test.sh": "#!/bin/sh\necho I say nothing\n"},
    "slow": {"task.toml": "[verifier]\ntimeout_sec = 3\n", "tests/test.sh": "#!/bin/sh\necho begun\nsleep 60\n"},
    "needy": {"task.toml": '[verifier]\nenv = { KEY = "${NO_DEFAULT}" }\n', "tests/test.sh": CHECK},
}

# An image with a user in several groups, and an ENTRYPOINT line for the shell that SHELL names.
OWNED = """
FROM debian:bookworm-slim AS base
RUN groupadd -g 2000 extra && useradd -m -u 1000 -G extra worker && useradd -m -u 1001 grader
SHELL ["/bin/bash", "-c"]
FROM base
WORKDIR /srv/work
RUN chown worker .
RUN printf '#!/bin/sh\\necho "$ROLE $(id -u)" >/tmp/service\\nexec "$@"\\n' >/start && chmod 755 /start
USER worker
ENV ROLE=service
ENTRYPOINT exec /start "$0" "$@"
"""
OWNED_TASKS = {
    "owned": {
        "task.toml": '[verifier]\nuser = "grader"\nenv = { WORD = "hello" }\n[environment]\nenv = { ROLE = "main" }\n',
        "tests/test.sh": CHECK,
    },
    "by root": {
        "task.toml": '[agent]\nuser = "root"\n[environment]\nworkdir = "/opt"\n[environment.healthcheck]\n'
        'command = "[ -e /tmp/service ] && [ -e /tmp/tried ] || { touch /tmp/tried; false; }"\n',
        "tests/test.sh": CHECK,
    },
}

BARE = """
FROM debian:bookworm-slim AS packages
RUN apt-get update -qq && cd /tmp && apt-get download -qq busybox-static && dpkg -x busybox-static*.deb /packages
FROM scratch
COPY --from=packages /packages/bin /bin
RUN ["/bin/busybox", "--install", "-s", "/bin"]
USER 65534
"""


@pytest.fixture(scope="module")
def built(engine: docker.DockerClient, hud_layer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function that builds each deployable image once for all tests."""
    images: dict[str, str] = {}

    def build(text: str, tasks: dict[str, dict[str, str]]) -> str:
        if text in images:
            return images[text]
        context = tmp_path_factory.mktemp("context")
        dockerfile = Dockerfile.parse(text)
        last = dockerfile.stages[-1]
        entrypoint = next((piece for piece in last.instructions if piece.keyword == "ENTRYPOINT"), None)
        shell = shell_before(dockerfile, entrypoint) if entrypoint else ()
        kept = "".join(piece.text for piece in dockerfile.pieces if piece is not entrypoint)
        (context / "Dockerfile").write_text(kept + serve_lines(entrypoint, shell, layer=hud_layer))
        (context / "env.py").write_text(env_py(NAME, list(tasks)))
        for name, files in tasks.items():
            whole = {"task.toml": "", "instruction.md": f"<!-- canary -->\n\nDo {name}.\n", **files}
            for path, content in whole.items():
                file = context / "tasks" / name / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
        # Each worker has its own name for an image; the image is removed with the last name.
        images[text] = f"pytest-harbor-test-{secrets.token_hex(6)}"
        engine.images.build(path=str(context), tag=images[text], rm=True)
        return images[text]

    yield build
    for image in images.values():
        engine.api.remove_image(image)


Session = Callable[..., list[Any]]


@pytest.fixture
def session(hud_python: str) -> Session:
    """Return a function that runs steps in a new container and returns their results."""

    def run(image: str, *steps: list[Any], options: tuple[str, ...] = ()) -> list[Any]:
        plan = {"run": ["run", "-i", "--rm", *options, image], "name": NAME, "steps": steps}
        done = subprocess.run(
            [hud_python, "-W", "ignore", CLIENT],
            input=json.dumps(plan),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [result.get("text", result) for result in json.loads(done.stdout.splitlines()[-1])]

    return run


def bash(command: str) -> list[Any]:
    return ["bash", {"command": command}]


def row(task: str) -> dict[str, Any]:
    return {
        "env": {"name": NAME},
        "scenario": f"{NAME}:run-task",
        "args": {"task_id": task},
        "metadata": {"harbor_source": f"of-a-test/{task}"},
    }


@pytest.fixture
def rooted(built: Any) -> str:
    return built(ROOTED, ROOTED_TASKS)


@pytest.fixture
def owned(built: Any) -> str:
    return built(OWNED, OWNED_TASKS)


def test_solved_task_scores(rooted: str, session: Session) -> None:
    [result] = session(rooted, ["row", row("plain"), "echo hello >answer.txt"])
    assert result == {"prompt": "Do plain.\n", "reward": 1.0}


def test_unsolved_task_scores_0_and_grading_ends_the_tools(rooted: str, session: Session) -> None:
    rows, tools, unknown, prompt, graded, late, again, same, other = session(
        rooted,
        ["rows", [row(name) for name in ROOTED_TASKS]],
        ["tools"],
        ["set up", "no such task"],
        ["set up", "plain"],
        ["grade"],
        bash("cat /tests/test.sh"),
        ["set up", "plain"],
        ["grade"],
        ["set up", "silent"],
    )
    assert [each["args"]["task_id"] for each in rows] == list(ROOTED_TASKS)
    assert tools == ["bash", "edit", "glob", "grep", "list", "read"]
    assert all(name in unknown["error"] for name in ("no such task", *ROOTED_TASKS))
    assert prompt == "Do plain.\n"
    assert (graded["reward"], graded["done"], graded["isError"]) == (0.0, True, False)
    assert "tests run in /app as 0 with hello" in graded["info"]["output"]
    assert "has been graded" in late["error"]
    assert (again, same) == (prompt, graded)
    assert "graded for 'plain'" in other["error"]


def test_tools_run_in_the_task(rooted: str, session: Session) -> None:
    steps = [
        bash("echo $COLOUR, $HOME, $KEY, $(pwd); mkdir -p sub; cd sub; export KEPT=yes"),
        bash("pwd; echo $KEPT; head -c 150000 /dev/zero | tr '\\0' x; echo error >&2"),
        ["edit", {"command": "create", "path": "answer.txt", "file_text": "hello\n"}],
        ["read", {"filePath": "/app/answer.txt"}],
        # The parent ends first, so the child becomes a child of the server.
        bash("(sleep 0.1 & ) ; sleep 0.3; grep -l zombie /proc/[0-9]*/status"),
        bash("rm -r /app; echo gone"),
        bash("mkdir /app && echo made"),
    ]
    began, kept, _, read, zombies, gone, made = session(rooted, *steps, options=("-e", "KEY=not for the agent"))
    assert began == "from the image, /root, , /app\n"
    assert kept == "/app/sub\nyes\n" + "x" * 150_000 + "error\n"
    assert "hello" in read
    assert "status" not in zombies
    assert gone == "gone\n"
    assert made.endswith("made\n")


# Searches, as a root agent could, all files and the memory, environment and open files of all other processes.
SEARCH = """
import os, re
needle = "-".join({mark}).encode()
own, pid = set(), os.getpid()
while pid > 1:
    own.add(pid)
    pid = int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])
found = []
def look(path):
    try:
        with open(path, "rb") as file:
            rest = b""
            while data := file.read(1 << 20):
                if needle in rest + data:
                    found.append(path)
                    return
                rest = data[-64:]
    except OSError:
        pass
for folder, folders, names in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and not os.path.islink(path):
            look(path)
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
    if pid in own:
        continue
    look(f"/proc/{{pid}}/environ")
    for kind in ("fd", "map_files"):
        try:
            names = os.listdir(f"/proc/{{pid}}/{{kind}}")
        except OSError:
            continue
        for name in names:
            # Opening a pipe would block.
            if os.path.isfile(f"/proc/{{pid}}/{{kind}}/{{name}}"):
                look(f"/proc/{{pid}}/{{kind}}/{{name}}")
    try:
        lines, memory = open(f"/proc/{{pid}}/maps").readlines(), open(f"/proc/{{pid}}/mem", "rb")
    except OSError:
        continue
    for line in lines:
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        try:
            memory.seek(begin)
            if needle in memory.read(end - begin):
                found.append(f"/proc/{{pid}}/mem")
        except (OSError, ValueError, OverflowError):
            pass
print(sorted(re.sub("[0-9]+", "N", path) for path in set(found)))
"""


def test_root_agent_cannot_find_the_tests(rooted: str, session: Session) -> None:
    control = "'con' 'trol'"
    search = "/hud/.venv/bin/python -I - <<'END'\n{}\nEND"
    _, _, known, tests, key, listed = session(
        rooted,
        ["set up", "plain"],
        # Shows that the search finds what is there.
        bash(f"mkdir /known && printf %s-%s {control} >/known/file && VALUE=$(printf %s-%s {control}) sleep 60 &"),
        bash(search.format(SEARCH.format(mark=("con", "trol")))),
        bash(search.format(SEARCH.format(mark=MARK))),
        bash(search.format(SEARCH.format(mark=("for-the-verifier", "alone")))),
        bash("ls -A /harbor; ls /tests; cat /proc/1/environ /proc/1/maps; kill -9 1; kill -STOP 1"),
        options=("-e", "ANSWER=for-the-verifier-alone"),
    )
    assert "/known/file" in known
    assert "/proc/N/environ" in known
    assert "/proc/N/mem" in known
    assert (tests, key) == ("[]\n", "[]\n")
    assert "plain" not in listed
    assert listed.count("Permission denied") == 2


def test_planted_rewards_do_not_score(rooted: str, session: Session) -> None:
    plant = """
    mkdir -p /app/mine /app/tests
    echo 1 >/app/mine/reward.txt
    echo '{"reward": 1}' >/app/mine/reward.json
    rm -rf /logs/verifier && ln -s /app/mine /logs/verifier
    printf '#!/bin/sh\\necho 1 >/logs/verifier/reward.txt\\n' >/app/tests/test.sh
    chmod +x /app/tests/test.sh
    ln -s /app/tests /tests
    """
    # Any module that the server imports after this would run the agent's code.
    poison = "find /hud -name '*.py' -exec sed -i '1i raise SystemExit' {} + ; find /hud -name '*.pyc' -delete"
    _, _, _, graded = session(rooted, ["set up", "silent"], bash(plant), bash(poison), ["grade"])
    assert (graded["reward"], graded["isError"]) == (0.0, True)
    assert graded["content"].startswith("test.sh wrote neither reward.txt nor reward.json")
    assert graded["info"]["output"] == "I say nothing\n"

    pipes = "cd /logs/verifier && mkfifo reward.txt test-stdout.txt && mkdir -p reward.json /tests/test.sh"
    _, _, graded = session(rooted, ["set up", "silent"], bash(pipes), ["grade"])
    assert graded["content"].startswith("test.sh wrote neither reward.txt nor reward.json")


def test_test_timeout_and_missing_variable(rooted: str, session: Session) -> None:
    began = time.monotonic()
    needy, _, graded = session(rooted, ["set up", "needy"], ["set up", "slow"], ["grade"])
    assert "needs ${NO_DEFAULT}" in needy["error"]
    assert "docker run -e NO_DEFAULT=" in needy["error"]
    assert graded["content"].startswith("test.sh took longer than 3 s and was killed")
    assert (graded["reward"], graded["info"]["timed_out"], graded["info"]["output"]) == (0.0, True, "begun\n")
    assert time.monotonic() - began < 40


def test_users_and_entrypoint(owned: str, session: Session) -> None:
    _, who, place, hidden, _, graded = session(
        owned,
        ["set up", "owned"],
        bash("id; cat /tmp/service"),
        bash("echo $HOME $(pwd) $ROLE"),
        bash("ls /harbor/tasks; cat /proc/1/environ; echo 1 >/logs/verifier/reward.txt"),
        # A leftover process must not be able to write to another user's verifier directory.
        bash("(while :; do echo 1 >/logs/verifier/reward.txt; done) 2>/dev/null &"),
        ["grade"],
    )
    assert who == "uid=1000(worker) gid=1000(worker) groups=1000(worker),2000(extra)\nmain 1000\n"
    assert place == "/home/worker /srv/work main\n"
    assert hidden.count("denied") + hidden.count("No such file") == 2
    assert (graded["reward"], graded["isError"]) == (0.0, False)
    assert "tests run in /srv/work as 1001 with hello" in graded["info"]["output"]

    _, who = session(owned, ["set up", "by root"], bash("id -u; pwd; echo $HOME; cat /tmp/service; ls /tmp/tried"))
    assert who == "0\n/opt\n/root\nservice 1000\n/tmp/tried\n"


def test_image_without_user_names(built: Any, session: Session) -> None:
    image = built(BARE, {"only": {"tests/test.sh": CHECK.replace("answer.txt", "/workspace/answer.txt")}})
    prompt, who, _, graded = session(
        image, ["set up"], bash("id -u; id -g; pwd; ls -ld /app"), bash(">/workspace/answer.txt"), ["grade"]
    )
    assert prompt == "Do only.\n"
    assert who.startswith("65534\n0\n/\ndrwxrwxrwx ")
    assert graded["reward"] == 1.0


@pytest.mark.parametrize(
    "options, why",
    [
        (["--user", "65534"], "must be started as root"),
        (["--read-only"], "cannot be moved out of the file system"),
        (["--volume", "{here}:/harbor/tasks"], "/harbor/tasks is mounted"),
    ],
)
def test_server_refuses_to_start_if_tests_cannot_be_hidden(
    rooted: str, tmp_path: Path, options: list[str], why: str
) -> None:
    (tmp_path / "plain").mkdir()
    words = ["docker", "run", "--rm", *(option.format(here=tmp_path) for option in options), rooted]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert why in done.stderr
    assert (tmp_path / "plain").is_dir()


@pytest.mark.parametrize(
    "words",
    [(), ("-w", "/hud", "IMAGE", "/hud/.venv/bin/python", "-m", "hud", "dev", "env:env", "--stdio")],
    ids=["own start", "hud dev"],
)
def test_ends_with_its_input_or_a_signal(rooted: str, words: tuple[str, ...]) -> None:
    command = ["docker", "run", "-i", "--rm", *(rooted if word == "IMAGE" else word for word in words or ("IMAGE",))]

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin
        assert process.stdout
        hello = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        call = {"name": "bash", "arguments": {"command": "ls -A /harbor; pwd"}}
        for message in (
            {"id": 1, "method": "initialize", "params": hello},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": call},
            {"id": 3, "method": "tools/call", "params": {**call, "arguments": {"command": "sleep 600"}}},
        ):
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert answers[1]["result"]["content"][0]["text"] == "/app\n"
        return process

    for end in (lambda process: process.stdin.close(), lambda process: process.terminate()):
        process = start()
        ended_at = time.monotonic()
        end(process)
        process.wait(timeout=30)
        assert time.monotonic() - ended_at < 8
        process.stdout.close()
        if not process.stdin.closed:
            process.stdin.close()

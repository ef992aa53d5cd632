"""The `openai` agent in real environments: its tools, and a task that it solves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from model_server import Answer, Call

from pytest_harbor import TrialSettings, run_trial
from pytest_harbor._util.logs import LogFile
from pytest_harbor.agent import AgentContext, OpenAIAgent
from pytest_harbor.task import Task

HELLO = Path(__file__).parents[2] / "examples" / "tasks" / "hello-world"
ODD = "odd 'name' $HOME \"`x`\" ü -n"
TEXT = "-n $HOME 'a' \"b\" `c` \\n %s ü\u20ac\U0001f600\r\n\n  last, without a line break"


@pytest.fixture
def use(environment, make_task, tmp_path, model_server):
    """Return a function that makes a model call tools at once, as user worker in /app, and returns their results."""

    def use(*calls: Call) -> list[str]:
        model_server.script = [Answer(calls=calls), Answer("Done.")]
        with LogFile(tmp_path / "log.txt") as log:
            context = AgentContext(
                task=Task.load(make_task()),
                environment=environment,
                variables={"COLOR": "green"},
                user="worker",
                workdir="/app",
                timeout=60.0,
                log=log,
                directory=tmp_path / "trial",
                host_variables={"OPENAI_BASE_URL": f"{model_server.url}/v1", "OPENAI_MODEL": "tiny"},
            )
            report = OpenAIAgent().run(context)
        assert report.exit_code == 0, report.note
        messages = model_server.requests[-1].json["messages"]
        return [message["content"] for message in messages if message["role"] == "tool"]

    return use


def bash(command: str, **options) -> Call:
    return Call("bash", {"command": command, **options})


def read(path: str, **options) -> Call:
    return Call("read_file", {"path": path, **options})


def write(path: str, content: str) -> Call:
    return Call("write_file", {"path": path, "content": content})


def edit(path: str, old: str, new: str) -> Call:
    return Call("edit_file", {"path": path, "old": old, "new": new})


def check(*pairs: tuple[Call, str | None], by) -> None:
    """Check the tools' results: exactly, or only that they contain the text after `...`, or not at all for None."""
    answers = by(*(call for call, _ in pairs))
    for (call, expected), answer in zip(pairs, answers, strict=True):
        if expected is not None and expected.startswith("..."):
            assert expected[3:] in answer, (call, answer)
        elif expected is not None:
            assert answer == expected, (call, answer)


def test_commands(use):
    check(
        (bash("pwd; id -un; echo $COLOR; cd /; X=1"), "[exit code 0]\n/app\nworker\ngreen\n"),
        (bash("pwd; echo $X >&2; exit 3"), "[exit code 3]\n/app\n\n"),
        (bash("echo ${BASH_VERSION:+bash}"), "[exit code 0]\nbash\n"),
        (bash("nosuch --help"), "...command not found"),
        (
            bash("echo a; sleep 60", timeout_seconds=1),
            "[timed out after 1 s; killed with every process it had started]\na\n",
        ),
        (bash("seq 200000"), "...characters omitted ...]"),
        (bash("printf 'a\\0b\\377'"), "[exit code 0]\na\0b\ufffd"),
        (bash("echo \0"), "[exit code 126]\nthe command contains a null character\n"),
        (bash("true " + "x" * 200_000), "...[exit code 126]"),
        (bash("true " + "x" * 200_000), "...rgument list too long"),
        (bash("sleep 300 & echo $! >pid"), "[exit code 0]\n"),
        (bash("kill -0 $(cat pid) && kill $(cat pid)"), "[exit code 0]\n"),
        (bash("mkdir /tmp/sub; rm -rf /app 2>&1; mv /app /tmp 2>&1; ls -d /app"), None),
        by=use,
    )


def test_files(use):
    long = "".join(f"line {number} ü\n" for number in range(1, 20_001))
    check(
        (write("a.txt", TEXT), "Wrote a.txt."),
        (read("/app/a.txt"), TEXT),
        (edit("a.txt", "$HOME 'a'", "\\1 & \n"), "Edited a.txt."),
        (read("./a.txt"), TEXT.replace("$HOME 'a'", "\\1 & \n")),
        (edit("a.txt", "e", "E"), "...occurs 2 times in a.txt, not once; nothing was changed"),
        (edit("a.txt", "nothing like it", ""), "...occurs 0 times in a.txt, not once"),
        (edit("a.txt", "", "x"), "...occurs 0 times in a.txt, not once"),
        (write(f"new/{ODD}", "x\n"), f"Wrote new/{ODD}."),
        (read(f"new/{ODD}"), "x\n"),
        (edit(f"new/{ODD}", "x", ""), None),
        (read(f"new/{ODD}"), "\n"),
        (write("empty", ""), None),
        (read("empty"), "[the file is empty]"),
        (write("long", long), "Wrote long."),
        (bash("for i in $(seq 20000); do echo line $i ü; done | cmp - long && echo same"), "[exit code 0]\nsame\n"),
        (read("long"), "...characters omitted ...]"),
        (read("long", first_line=19_999), "[lines 19,999 to 20,000 of 20,000]\nline 19999 ü\nline 20000 ü\n"),
        (read("long", first_line=3, lines=1), "[lines 3 to 3 of 20,000]\nline 3 ü\n"),
        (read("long", first_line=20_001), "...Error: long has no line 20,001; its last line is 20,000"),
        # Edits run as the agent's user and keep the owner and mode.
        (bash("echo x >mine; chmod 700 mine; ln -s mine link"), None),
        (edit("link", "x", "y"), None),
        (
            bash("cat mine; stat -c '%U %a' a.txt new new/* mine"),
            "[exit code 0]\ny\nworker 644\nworker 755\nworker 644\nworker 700\n",
        ),
        by=use,
    )


def test_unreadable_and_unwritable_files(use, environment):
    environment.exec(
        "echo secret >/root/x; touch /etc/hers; chmod 600 /root/x /etc/hers; mkfifo -m 666 /app/pipe", user="root"
    )
    check(
        (read("none"), "...No such file"),
        (read("/app"), "Error: /app: not a regular file"),
        (read("pipe"), "Error: pipe: not a regular file"),
        (read("/dev/zero"), "Error: /dev/zero: not a regular file"),
        (read("/root/x"), "...Error: /root/x: "),
        (read("/etc/hers"), "...Permission denied"),
        (write("/etc/hers", "x"), "...Permission denied"),
        (write("/etc/new/file", "x"), "...Permission denied"),
        (write("/app", "x"), "...irectory"),
        (write("a\0b", "x"), "...Error: "),
        (write("nul", "a\0b"), "...Error: "),
        (bash("printf 'a\\0b' >binary; printf '\\344' >latin1; head -c 1000001 /dev/zero >big; mkdir d; cd d"), None),
        (read("binary"), "Error: binary is not UTF-8 text; use bash for it"),
        (edit("latin1", "x", "y"), "Error: latin1 is not UTF-8 text; use bash for it"),
        (read("big"), "Error: big: 1000001 bytes is over the limit of 1000000; use bash to read parts of it"),
        by=use,
    )


def test_deleted_working_directory(use, environment):
    environment.exec("mkdir -m 777 /other; chmod 777 /; rm -rf /app/*", user="root", cwd="/")
    check(
        (bash("rm -r /app"), "[exit code 0]\n"),
        (bash("pwd"), "[exit code 0]\n(/app is gone, so this runs in /)\n/\n"),
        (read("x"), "...No such file"),
        (write("/other/x", "x"), "Wrote /other/x."),
        by=use,
    )


def test_agent_solves_a_task(provider, model_server, tmp_path):
    model_server.script = [
        Answer("Let me look around.", [bash("ls -la; cat hello.txt")]),
        Answer(calls=[write("hello.txt", "Hello, Harbor!\n"), read("hello.txt")]),
        Answer("hello.txt is done."),
    ]
    settings = TrialSettings(model="tiny", agent_env={"OPENAI_BASE_URL": f"{model_server.url}/v1"})
    result = run_trial(HELLO, "openai", settings=settings, results=tmp_path / "results", provider=provider)
    assert (result.outcome, result.reward, result.agent, result.agent_exit) == ("passed", 1.0, "openai", 0)
    (transcript,) = tmp_path.glob("results/*/*/host/transcript.jsonl")
    roles = [json.loads(line)["role"] for line in transcript.read_text(encoding="utf-8").splitlines()]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool", "tool", "assistant"]

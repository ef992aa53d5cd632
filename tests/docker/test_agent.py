"""Agents: their environment, what stays hidden from them, how they end, and what remains of them during grading."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from harbor_runs import ONE, PROCESSES, Harbor, alive, read_results

# Runs the instruction of each task as the agent's command line.
LINE_AGENTS = """
from pytest_harbor.agent import CommandAgent

def pytest_harbor_agent(task):
    return CommandAgent(task.instruction.strip())
"""


def env_vars(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


def test_environment_variables(harbor: Harbor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARBOR_TEST_HOST", "from the host")
    monkeypatch.setenv("HARBOR_TEST_PASSED", "passed on")
    monkeypatch.delenv("HARBOR_TEST_ABSENT", raising=False)
    save = "env > /logs/{0}/env.txt; ls -l /task > /logs/{0}/task.txt; cat /task/task.toml > /logs/{0}/toml.txt; pwd"
    harbor.task(
        "given",
        save.format("agent"),
        f"{save.format('verifier')}\n{ONE}",
        environment={
            "env": {
                "FROM_HOST": "${HARBOR_TEST_HOST}!",
                "DEFAULT": "${HARBOR_TEST_ABSENT:-fallback}",
                "PLAIN": "a $b",
                "TASKS": "environment",
            },
            "workdir": "/srv/work",
        },
        agent={"env": {"TASKS": "${HARBOR_TEST_HOST} for agents", "OWN": "overridden"}},
        verifier={"env": {"ONLY_TESTS": "${HARBOR_TEST_HOST}"}},
    )
    harbor.task("missing", environment={"env": {"KEY": "${HARBOR_TEST_ABSENT}"}})
    harbor.task("missing-for-agents", agent={"env": {"KEY": "${HARBOR_TEST_ABSENT}"}})
    harbor.task("missing-for-tests", verifier={"env": {"KEY": "${HARBOR_TEST_ABSENT}"}})
    run = harbor.run(
        "--harbor-model=model-1", "--harbor-agent-env=OWN=own value", "--harbor-agent-env=HARBOR_TEST_PASSED", "-rA"
    )
    assert run.outcomes() == {
        "given": "passed",
        "missing": "error",
        "missing-for-agents": "error",
        "missing-for-tests": "error",
    }, run.text

    agents, verifiers = (env_vars(run.file("given", f"{who}/env.txt")) for who in ("agent", "verifier"))
    shared = {"FROM_HOST": "from the host!", "DEFAULT": "fallback", "PLAIN": "a $b"}
    own = {
        "HARBOR_TASK_NAME": "given",
        "HARBOR_TASK_DIR": "/task",
        "HARBOR_INSTRUCTION_PATH": "/task/instruction.md",
        "AGENT_WORKDIR": "/srv/work",
        "HARBOR_TRIAL_ID": run.trial("given").name,
        "OPENAI_MODEL": "model-1",
        "OWN": "own value",
        "HARBOR_TEST_PASSED": "passed on",
        "TASKS": "from the host for agents",
    }
    assert {**shared, **own}.items() <= agents.items()
    assert "ONLY_TESTS" not in agents
    assert {**shared, "ONLY_TESTS": "from the host"}.items() <= verifiers.items()
    assert verifiers["TASKS"] == "environment"
    assert own.keys() & verifiers.keys() == {"TASKS"}
    assert "instruction.md" in run.file("given", "agent/task.txt")
    assert run.file("given", "agent/toml.txt") == (harbor.dataset / "given/task.toml").read_text()
    assert run["given"]["model"] == "model-1"

    for name, table in (("missing", "environment"), ("missing-for-agents", "agent"), ("missing-for-tests", "verifier")):
        place = f"[{table}].env KEY"
        assert f"{place} needs ${{HARBOR_TEST_ABSENT}}, which is not set on the host" in run[name]["reason"]
        assert "${NAME:-value}" in run[name]["reason"]
    assert run["missing"]["retries"] == run["missing-for-tests"]["retries"] == []


def test_tests_and_solution_are_hidden(harbor: Harbor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARBOR_TEST_ANSWER", "XYZZY")
    search = """
echo "XYZ""ZY control" > /var/tmp/control
grep -rIl "XYZ""ZY" / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr > /logs/agent/files.txt 2>/dev/null
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' > /tmp/processes
grep "XYZ""ZY" /tmp/processes > /logs/agent/processes.txt
ls -d /tests /solution > /logs/agent/folders.txt 2>/dev/null
env CONTROL="XYZ""ZY" sh -c 'tr "\\0" "\\n" < /proc/self/environ' | grep "XYZ""ZY" > /logs/agent/control.txt
"""
    harbor.task(
        "hidden",
        search,
        f"# XYZZY\n{ONE}",
        solve="# XYZZY\n",
        files={"tests/XYZZY.txt": "XYZZY", "notes/XYZZY.txt": "XYZZY"},
        verifier={"env": {"ANSWER": "${HARBOR_TEST_ANSWER}"}},
    )
    run = harbor.run()
    assert run.outcomes() == {"hidden": "passed"}
    assert run.file("hidden", "agent/control.txt") == "CONTROL=XYZZY\n"
    assert run.file("hidden", "agent/files.txt") == "/var/tmp/control\n"
    assert run.file("hidden", "agent/processes.txt") == ""
    assert run.file("hidden", "agent/folders.txt") == ""


def test_user_and_workdir(harbor: Harbor) -> None:
    facts = "echo $(pwd) $(id -u) $IMAGE_SAYS > /logs/{}/facts.txt"
    agent, test = facts.format("agent"), facts.format("verifier") + "\n" + ONE
    dockerfile = "FROM debian:bookworm-slim\nENV IMAGE_SAYS='as built'\nWORKDIR /srv/built\nUSER 1234\n"
    own = {"files": {"environment/Dockerfile": dockerfile}, "image": None}
    harbor.task("image", agent, test, **own)
    harbor.task(
        "configured",
        agent,
        test,
        **own,
        environment={"workdir": "/srv/configured"},
        agent={"user": "nobody"},
        verifier={"user": "root"},
    )
    harbor.task("verifier-only", agent, test, verifier={"user": 4321})
    harbor.task("agent-only", agent, test, agent={"user": 4321})
    harbor.task("unknown-user", agent, test, agent={"user": "no-such-user"})
    run = harbor.run("-n2")
    found = {
        name: (run.file(name, "agent/facts.txt").strip(), run.file(name, "verifier/facts.txt").strip())
        for name in ("image", "configured", "verifier-only", "agent-only")
    }
    assert found == {
        "image": ("/srv/built 1234 as built", "/srv/built 1234 as built"),
        "configured": ("/srv/configured 65534 as built", "/srv/configured 0 as built"),
        "verifier-only": ("/ 0", "/ 4321"),
        "agent-only": ("/ 4321", "/ 0"),
    }
    assert run["unknown-user"]["outcome"] == "error"
    assert "no-such-user" in run["unknown-user"]["reason"]
    # A passed outcome shows that neither user could keep the other from writing.
    assert {run[name]["outcome"] for name in found} == {"passed"}


def test_agent_workdir_option(harbor: Harbor) -> None:
    harbor.task("elsewhere", "pwd > /logs/agent/pwd.txt; echo $AGENT_WORKDIR >> /logs/agent/pwd.txt")
    run = harbor.run("--harbor-agent-workdir=/var/tmp")
    assert run.file("elsewhere", "agent/pwd.txt") == "/var/tmp\n/var/tmp\n"


def test_ways_to_end(harbor: Harbor) -> None:
    solved = "grep -q yes /app.txt && echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt\n"
    background = "setsid sh -c 'while :; do echo still here; sleep 0.2; done # {0}' &\necho yes > /app.txt\n"
    alive = f"{PROCESSES} | grep -q '[s]till here' && {ONE}"
    harbor.task("zero", "echo yes > /app.txt", solved)
    harbor.task("non-zero", "echo yes > /app.txt; exit 3", solved)
    harbor.task("ends-with-127", "echo yes > /app.txt; no-such-command", solved)
    harbor.task("killed", "echo yes > /app.txt; kill -9 $$", solved)
    harbor.task("idle", "true", solved)
    # Processes that an agent leaves running are part of its work, whatever they do with its output.
    harbor.task("daemon", "nohup sh -c 'sleep 300; echo still here' >/dev/null 2>&1 & exit 0", alive)
    harbor.task("holds-output", background, alive)
    harbor.task("tests-hold-output", "echo yes > /app.txt", f"sleep 300 &\n{solved}")
    run = harbor.run("-n2")
    assert {name: (result["outcome"], result["agent_exit"]) for name, result in run.results.items()} == {
        "zero": ("passed", 0),
        "non-zero": ("passed", 3),
        "ends-with-127": ("passed", 127),
        "killed": ("passed", 137),
        "idle": ("failed", 0),
        "daemon": ("passed", 0),
        "holds-output": ("passed", 0),
        "tests-hold-output": ("passed", 0),
    }
    assert max(result["phases"]["agent"] for result in run.results.values()) < 15
    assert max(result["phases"]["verify"] for result in run.results.values()) < 15


def test_commands_that_cannot_start(harbor: Harbor) -> None:
    harbor.pytester.makeconftest(LINE_AGENTS)
    prepared = {
        "environment/Dockerfile": "FROM debian:bookworm-slim\nWORKDIR /opt\nCOPY --chmod=755 bad nobin ./\n"
        "COPY --chmod=644 norun script.sh ./\n",
        "environment/bad": "#!/no/such/interpreter\n",
        "environment/nobin": "#!/bin/sh\nno-such-command\n",
        "environment/norun": "#!/bin/sh\n",
        "environment/script.sh": "exit 126\n",
    }
    lines = {
        "not-found": "no-such-agent --now",
        "no-file": "/opt/absent",
        "not-executable": "/opt/norun",
        "directory": "/opt",
        "interpreter": "/opt/bad -x",
        "script-127": "/opt/nobin",
        "script-126": "sh /opt/script.sh",
        "later-command": "true; no-such-agent",
        "shell-syntax": "if true; then exit 5; fi",
        "assignment": "A=1 B=2 sh -c 'exit $((A + B))'",
    }
    for name, line in lines.items():
        harbor.task(name, f"{line}\n", image=None, files=prepared)
    run = harbor.run("-n2", "-v", agent=())
    assert {name: (result["outcome"], result["agent_exit"]) for name, result in run.results.items()} == {
        "not-found": ("error", None),
        "no-file": ("error", None),
        "not-executable": ("error", None),
        "directory": ("error", None),
        "interpreter": ("error", None),
        "script-127": ("passed", 127),
        "script-126": ("passed", 126),
        "later-command": ("passed", 127),
        "shell-syntax": ("passed", 5),
        "assignment": ("passed", 3),
    }, run.text
    reasons = {name: run[name]["reason"] for name in list(lines)[:5]}
    assert "no-such-agent: command not found" in reasons["not-found"]
    assert "/opt/absent: no such file" in reasons["no-file"]
    assert "/opt/norun: not executable" in reasons["not-executable"]
    assert "/opt: is a directory" in reasons["directory"]
    assert "/opt/bad: its interpreter /no/such/interpreter is missing" in reasons["interpreter"]
    assert all(f"ds/{name} [agent] {reason}" in run.text for name, reason in reasons.items()), run.text
    # A retry cannot help.
    assert all(run[name]["retries"] == [] for name in reasons)
    assert "5 passed, 0 failed, 0 unverified, 5 errors" in run.text


# Processes that escape from the one that started them, in every known way. The command line of each contains BEAT.
ESCAPES = """
beat='while :; do echo 1 > /logs/verifier/reward.txt; sleep 0.02; done # BEAT'
sh -c "$beat" &
setsid sh -c "$beat" &
(setsid nohup sh -c "$beat" </dev/null >/dev/null 2>&1 &)
env -i PATH="$PATH" setsid -f sh -c "$beat"
setpriv --reuid=4321 sh -c "$beat" &
cat > /tmp/BEAT.sh <<'END'
sleep 0.01
setsid sh /tmp/BEAT.sh &
END
setsid sh /tmp/BEAT.sh &
trap '' TERM INT HUP
echo escaped
while :; do sleep 0.1; done # BEAT
"""


def test_no_agent_process_survives_a_timeout(harbor: Harbor) -> None:
    count = (
        f"{PROCESSES} > /logs/verifier/processes.txt\ngrep -c BEAT /logs/verifier/processes.txt > /logs/verifier/alive"
    )
    graded = f"{count}\n[ $(cat /logs/verifier/alive) = 0 ] && {ONE}"
    entrypoint = "#!/bin/sh\nsh -c 'while :; do sleep 0.1; done # SERVICE' &\nexec \"$@\"\n"
    service = {
        "environment/Dockerfile": "FROM debian:bookworm-slim\nCOPY --chmod=755 entry.sh /entry.sh\n"
        'ENTRYPOINT ["/entry.sh"]\n',
        "environment/entry.sh": entrypoint,
    }
    harbor.task("root", ESCAPES, graded, agent={"timeout_sec": 2})
    harbor.task("user", ESCAPES, graded, agent={"timeout_sec": 2, "user": "nobody"})
    harbor.task(
        "service",
        ESCAPES,
        f"{count}\ngrep -q SERVICE /logs/verifier/processes.txt && [ $(cat /logs/verifier/alive) = 0 ] && {ONE}",
        agent={"timeout_sec": 2},
        image=None,
        files=service,
    )
    # This agent ended in time, so the process it left may keep running.
    harbor.task("in-time", "setsid -f sh -c 'while :; do sleep 1; done # BEAT'", f"{count}\n{ONE}")
    run = harbor.run("-n2", "-v")
    for name in ("root", "user", "service"):
        assert run[name]["agent_timed_out"], run.text
        assert run[name]["agent_exit"] is None
        assert run[name]["outcome"] == "passed", run.file(name, "verifier/processes.txt")
        assert "escaped" in run.file(name, "agent/agent.log")
        assert "the agent's 2 s are over" in run.file(name, "agent/agent.log")
    assert int(run.file("in-time", "verifier/alive")) > 0


def test_timeout_options(harbor: Harbor) -> None:
    harbor.task("own", "echo begun; sleep 300", agent={"timeout_sec": 10})
    harbor.task("default", "echo begun; sleep 300")
    run = harbor.run("-n2", "--harbor-timeout-multiplier=0.1", "--harbor-agent-timeout=12")
    assert {name: (result["outcome"], result["agent_note"]) for name, result in run.results.items()} == {
        "own": ("passed", "timed out after 1 s"),
        "default": ("passed", "timed out after 1.2 s"),
    }
    assert max(result["phases"]["agent"] for result in run.results.values()) < 10


def test_oracle(harbor: Harbor) -> None:
    harbor.task(
        "exit-ignored",
        test="cp /app.txt /logs/verifier/; " + ONE,
        solve='echo "$DEBIAN_FRONTEND $OWN $0 $(id -u)" > /app.txt; cat /solution/data.txt >> /app.txt; exit 127\n',
        files={"solution/data.txt": "data\n"},
        solution={"env": {"OWN": "own"}},
    )
    harbor.task("without")
    run = harbor.run("-rs", agent=("--harbor-agent=oracle",))
    assert run.outcomes() == {"exit-ignored": "passed", "without": "skipped"}, run.text
    assert run["exit-ignored"]["agent_exit"] == 127
    assert run.file("exit-ignored", "verifier/app.txt") == "noninteractive own /solution/solve.sh 0\ndata\n"
    assert "the task has no solution/solve.sh for the oracle to run" in run["without"]["reason"]
    assert "the task has no solution/solve.sh for the oracle to run" in run.text
    assert run.code == 0


def test_callables(harbor: Harbor) -> None:
    harbor.pytester.makeconftest("""
        import asyncio, tempfile, pathlib, time

        def sync(task, environment):
            found = environment.exec("echo $HARBOR_TASK_NAME $(id -u) $(pwd) $MORE; exit 4", env={"MORE": "more"})
            assert (found.exit_code, found.output) == (4, "sync 4321 /srv/work more\\n"), found
            environment.exec(["sh", "-c", "echo $0", "a word"], cwd="/tmp", user="root")
            with tempfile.TemporaryDirectory() as folder:
                there = pathlib.Path(folder, "there")
                (there / "sub").mkdir(parents=True)
                (there / "sub/file.txt").write_text("uploaded")
                environment.upload(there, "/up")
                environment.exec("chmod -R a+rX /up; cat /up/sub/file.txt > /tmp/copy.txt", user="root")
                environment.download("/tmp/copy.txt", pathlib.Path(folder, "back.txt"))
                environment.download("/up", pathlib.Path(folder, "folder"))
                assert pathlib.Path(folder, "back.txt").read_text() == "uploaded"
                assert pathlib.Path(folder, "folder/sub/file.txt").read_text() == "uploaded"
                try:
                    environment.download("/no/such", pathlib.Path(folder, "x"))
                except FileNotFoundError:
                    pass
                else:
                    raise AssertionError("/no/such was downloaded")
            return "all good"

        async def gather(task, environment):
            found = await asyncio.gather(*(environment.exec(f"echo {n} > /tmp/{n}; cat /tmp/{n}") for n in range(3)))
            return [one.output for one in found]

        def raises(task, environment):
            environment.exec("echo yes > /answer")
            raise LookupError("no idea")

        def slow(task, environment):
            environment.exec("setsid -f sh -c 'while :; do sleep 0.1; done # BEAT'")
            environment.exec("sleep 300")

        async def slow_async(task, environment):
            await environment.exec("setsid -f sh -c 'while :; do sleep 0.1; done # BEAT'")
            await asyncio.sleep(300)

        def not_found(task, environment):
            assert environment.exec("no-such-agent").exit_code == 127

        def asks(task, environment):
            environment.exec("exit 127")
            assert environment.exec("sleep 60", timeout=0.2).timed_out

        def pytest_harbor_agent(task):
            return globals()[task.name]
        """)
    none = f"! {PROCESSES} | grep -q '[B]EAT' && {ONE}"
    harbor.task("sync", environment={"workdir": "/srv/work"}, agent={"user": 4321})
    harbor.task("gather")
    harbor.task("raises", test=f"[ -e /answer ] && {ONE}")
    harbor.task("slow", test=none, agent={"timeout_sec": 1.5})
    harbor.task("slow_async", test=none, agent={"timeout_sec": 1.5})
    harbor.task("not_found")
    harbor.task("asks")
    run = harbor.run("-n2", "-v", agent=())
    assert {name: (result["outcome"], result["agent_exit"]) for name, result in run.results.items()} == {
        "sync": ("passed", 0),
        "gather": ("passed", 0),
        "raises": ("passed", 1),
        "slow": ("passed", None),
        "slow_async": ("passed", None),
        "not_found": ("passed", 0),
        "asks": ("passed", 0),
    }, run.text
    assert "all good" in run.file("sync", "agent/agent.log")
    assert r"['0\n', '1\n', '2\n']" in run.file("gather", "agent/agent.log")
    assert run["raises"]["agent_note"] == "raised LookupError: no idea"
    assert "LookupError: no idea" in run.file("raises", "agent/agent.log")
    assert run["slow"]["agent_timed_out"]
    assert run["slow_async"]["agent_timed_out"]
    assert {run[name]["agent"] for name in ("sync", "gather")} == {"sync", "gather"}
    assert "no-such-agent: command not found" in run.file("not_found", "agent/agent.log")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_host_agent(harbor: Harbor) -> None:
    at_work = "docker exec $HARBOR_CONTAINER sh -c '{}'"
    harbor.task(
        "works",
        "env > env.txt; pwd > pwd.txt\n" + at_work.format("echo yes > /answer") + "\nexit 6\n",
        f"[ -e /answer ] && {ONE}",
        environment={"env": {"SHARED": "shared"}},
    )
    harbor.task(
        "too-slow",
        "setsid sh -c 'echo $$ > pid.txt; exec sleep 300' &\n"
        + at_work.format('setsid -f sh -c "while :; do sleep 0.1; done # BEAT"; echo left; sleep 300 # BEAT'),
        f"! {PROCESSES} | grep -q '[B]EAT' && {ONE}",
        agent={"timeout_sec": 2},
    )
    # Nothing waits for a process that holds the agent's output open, and none is left on the host.
    harbor.task("leaves", "sleep 300 & echo $! > pid.txt")
    run = harbor.run("-n2", agent=("--harbor-agent-where=host", "--harbor-agent-command=sh instruction.md"))
    assert {name: (result["outcome"], result["agent_exit"]) for name, result in run.results.items()} == {
        "works": ("passed", 6),
        "too-slow": ("passed", None),
        "leaves": ("passed", 0),
    }, run.text
    assert "left" in run.file("too-slow", "agent/agent.log")
    assert run["too-slow"]["agent_timed_out"]
    found = env_vars(run.file("works", "host/env.txt"))
    expected = {"HARBOR_TASK_NAME": "works", "SHARED": "shared", "HARBOR_TRIAL_ID": run.trial("works").name}
    assert expected.items() <= found.items()
    assert Path(run.file("works", "host/pwd.txt").strip()) == run.trial("works") / "host"
    for name in ("too-slow", "leaves"):
        assert not alive(int(run.file(name, "host/pid.txt"))), name


def test_host_agent_not_found(harbor: Harbor) -> None:
    harbor.task("none")
    run = harbor.run("-v", agent=("--harbor-agent-where=host", "--harbor-agent-command=no-such-agent -x"))
    assert (run.code, run.results) == (4, {})
    assert "no-such-agent: command not found on the host" in run.text
    # One that a hook changes is only known when it starts.
    (harbor.path / "conftest.py").write_text("def pytest_harbor_agent_env(variables): variables['PATH'] = '/nowhere'\n")
    run = harbor.run("-v", agent=("--harbor-agent-where=host", "--harbor-agent-command=env"))
    assert run["none"]["outcome"] == "error"
    assert "env: command not found on the host" in run["none"]["reason"]


def test_attempts_threshold_and_record_only(harbor: Harbor) -> None:
    harbor.task("half", test="echo 0.5 > /logs/verifier/reward.txt\n")
    harbor.task("none", test="echo 0 > /logs/verifier/reward.txt\n")
    run = harbor.run("-n2", "--harbor-threshold=0.5", "--harbor-attempts=2", "--harbor-agent-name=mine")
    lines: list[dict[str, Any]] = read_results(run.directory)
    assert sorted((line["task"], line["attempt"], line["outcome"], line["agent"]) for line in lines) == [
        ("ds/half", 1, "passed", "mine"),
        ("ds/half", 2, "passed", "mine"),
        ("ds/none", 1, "failed", "mine"),
        ("ds/none", 2, "failed", "mine"),
    ]
    assert len({line["directory"] for line in lines}) == 4
    assert run.code == 1
    recorded = harbor.run("--harbor-record-only", "-v")
    assert recorded.code == 0
    assert recorded.outcomes() == {"half": "failed", "none": "failed"}
    assert "SCORED reward 0.50" in recorded.text
    assert "0 passed, 2 failed" in recorded.text

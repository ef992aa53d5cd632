"""Grading: all forms of test.sh, and every kind of reward file."""

from __future__ import annotations

import json

from harbor_runs import INSTRUCTED, ONE, Harbor

TXT = "/logs/verifier/reward.txt"
JSON = "/logs/verifier/reward.json"


def test_forms_of_test_sh(harbor: Harbor) -> None:
    other = "[ $(cat /tests/data.txt) = data ] && [ -x /tests/sub/tool ] && /tests/sub/tool && "
    helped = f"#!/bin/bash\nset -e\nsh /tests/helper.sh\n. /tests/lib.sh\n{ONE}".replace("\n", "\r\n")
    helpers = {
        "tests/helper.sh": "\ufeff#!/bin/sh\r\nset -e\r\n",
        "tests/lib.sh": "set -e\r\n",
        "tests/data.txt": "a\r\n",
    }
    harbor.task("crlf", test=helped, files=helpers)
    harbor.task("no-shebang", test=ONE)
    harbor.task("sh", test=f"#!/bin/sh\n{ONE}")
    harbor.task("exit-code", test=f"#!/bin/bash\n{ONE}exit 9\n")
    folder = harbor.task(
        "files", test=other + ONE, files={"tests/data.txt": "data\n", "tests/sub/tool": "#!/bin/sh\ntrue\n"}
    )
    (folder / "tests/sub/tool").chmod(0o700)
    (folder / "tests/data.txt").chmod(0o600)
    (folder / "tests/link.txt").symlink_to("data.txt")
    harbor.task("as-user", test=other + ONE, files={"tests/data.txt": "data\n"}, verifier={"user": "nobody"})
    tool = harbor.dataset / "as-user/tests/sub/tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\ntrue\n")
    tool.chmod(0o700)
    harbor.task("interpreter", test=f"#!/no/such/interpreter\n{ONE}")
    run = harbor.run("-n2", "-v")
    assert run.outcomes() == {
        "crlf": "passed",
        "no-shebang": "passed",
        "sh": "passed",
        "exit-code": "passed",
        "files": "passed",
        "as-user": "passed",
        "interpreter": "unverified",
    }, run.text
    assert run["exit-code"]["verifier_exit"] == 9
    for name in ("test.sh", "helper.sh", "lib.sh"):
        assert f"tests/{name} has CRLF line endings; it ran without them" in run["crlf"]["warnings"]
    assert "/tests/test.sh: cannot execute" in run.file("interpreter", "verifier/test-stdout.txt")


def test_timeout_and_output(harbor: Harbor) -> None:
    harbor.task("slow", test="echo begun\nsleep 300\n", verifier={"timeout_sec": 1})
    harbor.task("slow-after-reward", test=f"{ONE}sleep 300\n", verifier={"timeout_sec": 1})
    harbor.task("loud", test=f"echo the beginning\nyes 0123456789abcdef | head -c 200M\necho the end\n{ONE}")
    harbor.task(
        "loud-agent", "echo the beginning\nyes 0123456789abcdef | head -c 30M\necho the end; exit 3\n", "echo no\n"
    )
    run = harbor.run("-n2", "-v")
    assert run.outcomes() == {
        "slow": "unverified",
        "slow-after-reward": "passed",
        "loud": "passed",
        "loud-agent": "unverified",
    }
    assert "test.sh took longer than 1 s" in run["slow"]["reason"]
    assert "[verifier].timeout_sec" in run["slow"]["reason"]
    assert run["slow"]["verifier_timed_out"]
    assert any("took longer than 1 s" in note for note in run["slow-after-reward"]["warnings"])
    assert run.file("slow", "verifier/test-stdout.txt").startswith("begun")
    for name, path in (("loud", "verifier/test-stdout.txt"), ("loud-agent", "agent/agent.log")):
        text = run.file(name, path)
        assert len(text) < 20 * 2**20
        assert text.startswith("the beginning\n")
        assert text.endswith("the end\n")
        assert "bytes omitted" in text
    # A failure's report shows only the end of such a log.
    assert "the end" in run.text
    assert len(run.text) < 50_000


def write(path: str, content: str) -> str:
    return f"printf '%s' '{content}' > {path}\n"


# Script of test.sh, outcome, reward, and a part of the reason or a warning.
REWARDS: dict[str, tuple[str, str, float, str]] = {
    "one": (write(TXT, " 1.0 \n\n") + write(JSON, '{"reward": 1, "speed": 2}'), "passed", 1, ""),
    "above": (write(TXT, "7"), "passed", 7, "outside 0..1"),
    "nothing": ("true\n", "unverified", 0, "wrote neither reward.txt nor reward.json"),
    "dies": ("exit 3\n", "unverified", 0, "test.sh exited with 3 and wrote neither reward.txt nor reward.json"),
    "dies-empty": (f": > {TXT}\nexit 3\n", "unverified", 0, "test.sh exited with 3: reward.txt is empty"),
    "empty": (f": > {TXT}\n", "unverified", 0, "reward.txt is empty"),
    "nan": (write(TXT, "nan"), "unverified", 0, "reward.txt holds 'nan'"),
    "inf": (write(TXT, "inf"), "unverified", 0, "reward.txt holds 'inf'"),
    "bool": (write(JSON, '{"reward": true}'), "unverified", 0, '"reward" in reward.json is true'),
    "string": (write(JSON, '{"reward": "1"}'), "unverified", 0, "the string '1'"),
    "list": (write(JSON, "[1]"), "unverified", 0, "a list"),
    "broken": (write(JSON, '{"reward": 1'), "unverified", 0, "not valid JSON"),
    "no-key": (write(JSON, '{"score": 1}'), "unverified", 0, 'no "reward" key (found: score); set --harbor-reward-key'),
    "bare": (write(JSON, "1"), "passed", 1, ""),
    "metrics": (write(JSON, '{"reward": 1, "speed": 2.5, "name": "x"}'), "passed", 1, 'ignored metric "name"'),
    "huge": (f"head -c 10M /dev/zero | tr '\\0' 1 > {TXT}\n", "unverified", 0, "too large"),
    "binary": (f"head -c 100 /dev/urandom > {TXT}; printf '\\377\\376' >> {TXT}\n", "unverified", 0, "not UTF-8"),
    "directory": (f"mkdir {TXT}\n", "unverified", 0, "is a directory"),
    "link": (f"echo 1 > /good.txt; ln -s /good.txt {TXT}\n", "unverified", 0, "not followed"),
    "host-link": (f"ln -s /etc/passwd {TXT}; ln -s / /logs/verifier/root\n", "unverified", 0, "not followed"),
    "pipe": (f"mkfifo {TXT}\n", "unverified", 0, "reward.txt"),
    "disagree": (write(TXT, "1") + write(JSON, '{"reward": 0}'), "passed", 1, "reward.txt is used"),
    "disk-full": (f"ulimit -f 0; trap '' XFSZ; echo 1 > {TXT}\n", "unverified", 0, "reward.txt is empty"),
}


def test_reward_files(harbor: Harbor) -> None:
    # All cases in one run, as a run for each would take too long.
    for name, (script, *_) in REWARDS.items():
        harbor.task(name, test=script)
    run = harbor.run("-n4", agent=("--harbor-agent=nop",))
    assert {name: (result["outcome"], result["reward"]) for name, result in run.results.items()} == {
        name: (outcome, reward) for name, (_, outcome, reward, _) in REWARDS.items()
    }
    messages = {name: " | ".join([result["reason"], *result["warnings"]]) for name, result in run.results.items()}
    assert {name: text for name, text in messages.items() if REWARDS[name][3] not in text} == {}
    silent = {name for name, (*_, words) in REWARDS.items() if not words}
    assert {name: messages[name] for name in silent if messages[name]} == {}
    assert run["one"]["metrics"] == {"speed": 2}
    assert run["metrics"]["metrics"] == {"speed": 2.5}
    assert run["pipe"]["phases"]["verify"] < 15
    counts = {word: sum(1 for _, outcome, *_ in REWARDS.values() if outcome == word) for word in ("passed", "failed")}
    assert f"{counts['passed']} passed, {counts['failed']} failed" in run.text


def test_reward_options(harbor: Harbor) -> None:
    harbor.task("nothing", test="true\n")
    harbor.task("both", test=write(TXT, "1") + write(JSON, '{"reward": 0.25, "score": 0.75}'))
    run = harbor.run("-v", "--harbor-missing-reward=error", "--harbor-reward-precedence=json", agent=INSTRUCTED)
    assert {name: (result["outcome"], result["reward"]) for name, result in run.results.items()} == {
        "nothing": ("unverified", None),
        "both": ("failed", 0.25),
    }
    assert "1 failed, 1 error" in run.text
    assert "0 passed, 1 failed, 1 unverified, 0 errors" in run.text
    with_key = harbor.run("-v", "--harbor-reward-key=score", "--harbor-threshold=0.7", "-k", "both")
    assert with_key.rewards() == {"both": 0.75}
    assert with_key.code == 0


def test_inner_tests_and_files(harbor: Harbor) -> None:
    ctrf = {
        "results": {
            "tool": {"name": "pytest"},
            "summary": {"tests": 2, "passed": 1, "failed": 1},
            "tests": [
                {"name": "test_good", "status": "passed", "duration": 1},
                {"name": "test_bad", "status": "failed", "duration": 1, "message": "assert 1 == 2"},
            ],
        }
    }
    harbor.task(
        "all",
        "echo agent was here; echo note > /logs/agent/note.txt; echo kept > /logs/artifacts/kept.txt\n"
        "mkdir -p /out/sub /logs/artifacts/sub; echo deep > /out/sub/deep.txt; echo one > /one.txt",
        "echo tests were here\ncp /tests/ctrf.json /logs/verifier/\necho 0.5 > /logs/verifier/reward.txt\n",
        files={"tests/ctrf.json": json.dumps(ctrf)},
        artifacts=["/out", {"source": "/one.txt", "destination": "renamed/1.txt"}, "/no/such"],
        verifier={"collect": [{"command": "echo collected > /logs/artifacts/collected.txt"}, {"command": "exit 4"}]},
    )
    run = harbor.run("-v")
    trial = run.trial("all")
    assert trial.parent == run.directory
    expected = {
        "agent/agent.log": "agent was here\n",
        "agent/note.txt": "note\n",
        "verifier/test-stdout.txt": "tests were here\n",
        "verifier/reward.txt": "0.5\n",
        "verifier/ctrf.json": json.dumps(ctrf),
        "artifacts/kept.txt": "kept\n",
        "artifacts/collected.txt": "collected\n",
        "artifacts/out/sub/deep.txt": "deep\n",
        "artifacts/renamed/1.txt": "one\n",
    }
    assert {path: (trial / path).read_text() for path in expected if (trial / path).is_file()} == expected
    manifest = json.loads(run.file("all", "artifacts/manifest.json"))
    assert [(entry["source"], entry["status"]) for entry in manifest] == [
        ("/out", "ok"),
        ("/one.txt", "ok"),
        ("/no/such", "failed"),
    ]
    warnings = " | ".join(run["all"]["warnings"])
    assert "/no/such" in warnings
    assert "collect hook 'exit 4': exit code 4" in warnings
    tests = run["all"]["tests"]
    assert (tests["passed"], tests["failed"]) == (1, 1)
    assert [failure["name"] for failure in tests["failures"]] == ["test_bad"]
    for expected in (
        "tests: 1 of 2 failed",
        "test_bad",
        "assert 1 == 2",
        "agent was here",
        str(trial.relative_to(harbor.path)),
        "FAILED",
    ):
        assert expected in run.text

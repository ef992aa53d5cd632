"""Agents that attack their verifier, on purpose or not: they earn no reward, and the run continues."""

from __future__ import annotations

from harbor_runs import ONE, Harbor

ZERO = "echo 0 > /logs/verifier/reward.txt\n"


def test_planted_rewards_and_links(harbor: Harbor) -> None:
    planted = {
        "files": "echo 1 > /logs/verifier/reward.txt; echo '{\"reward\": 1}' > /logs/verifier/reward.json",
        "modes": "echo 1 > /logs/verifier/reward.txt; chmod 000 /logs/verifier /logs/verifier/reward.txt /logs",
        "tests-link": "mkdir /fake; printf '#!/bin/sh\\necho 1 > /logs/verifier/reward.txt' > /fake/test.sh; "
        "chmod 755 /fake/test.sh; ln -s /fake /tests",
        "tests-folder": "mkdir -p /tests/test.sh; touch /tests/conftest.py",
        "tests-script-link": "mkdir /tests; echo keep > /precious; ln -s /precious /tests/test.sh",
        "logs-link": "mkdir -p /fake/verifier; echo 1 > /fake/verifier/reward.txt; rm -rf /logs; ln -s /fake /logs",
        "logs-gone": "rm -rf /logs",
        "logs-file": "rm -rf /logs; echo 1 > /logs",
        "bash": "echo 'echo 1 > /logs/verifier/reward.txt; exit' > /tmp/evil; echo '. /tmp/evil' > /root/.bashrc; "
        "echo '. /tmp/evil' > /etc/profile; echo '. /tmp/evil' > /etc/bash.bashrc",
    }
    for name, script in planted.items():
        # An honest test.sh prints what it finds of the traps, and writes a reward of 0.
        harbor.task(
            name,
            script,
            "ls -A /tests /logs/verifier; cat /precious\n[ -e /tests/conftest.py ] && exit\n" + ZERO,
        )
    # The same traps with a test.sh that writes no reward: none of them may supply one.
    harbor.task("none-written", planted["files"], "true\n")
    link = "mkdir /fake; echo 1 > /fake/reward.txt; rm -rf /logs/verifier; ln -s /fake /logs/verifier"
    harbor.task("none-written-link", link, "true\n")
    run = harbor.run("-n4", "-v")
    expected = dict.fromkeys(planted, ("failed", 0))
    assert {name: (result["outcome"], result["reward"]) for name, result in run.results.items()} == {
        **expected,
        "none-written": ("unverified", 0),
        "none-written-link": ("unverified", 0),
    }, run.text
    assert "keep" in run.file("tests-script-link", "verifier/test-stdout.txt")


def test_leftover_daemon_cannot_write_the_reward(harbor: Harbor) -> None:
    daemon = """
setsid sh -c 'while :; do
  echo 1 > /logs/verifier/reward.txt; echo 1 > /logs/verifier/reward.json; mv /logs/verifier /logs/v2; touch /tests/x
  echo tried > /logs/artifacts/tried; done' >/dev/null 2>&1 &
while ! [ -s /logs/verifier/reward.txt ]; do :; done
"""
    # The tests end after the daemon had its chance.
    again = "rm -f /logs/artifacts/tried; while ! [ -s /logs/artifacts/tried ]; do :; done\n"
    harbor.task("none", daemon, again, agent={"user": "nobody"}, verifier={"user": "root"})
    harbor.task("zero", daemon, again + ZERO + again, agent={"user": "nobody"}, verifier={"user": "root"})
    run = harbor.run("-n2")
    assert {name: (result["outcome"], result["reward"]) for name, result in run.results.items()} == {
        "none": ("unverified", 0),
        "zero": ("failed", 0),
    }, run.text
    assert not (run.trial("zero") / "verifier/reward.json").exists()


def test_agents_that_break_their_container(harbor: Harbor) -> None:
    solved = f"[ -e /answer ] && {ONE}"
    broken = {
        "kill-all": "touch /answer; kill -9 -1",
        "kill-init": "touch /answer; kill 1; sleep 300",
        "no-shell": "touch /answer; rm -f /bin/sh /bin/dash /bin/bash",
        "no-programs": "touch /answer; rm -rf /bin/* /usr/bin/* /sbin/* /usr/sbin/* 2>/dev/null",
        # dash exits if it cannot fork, and leaves a full process table.
        "processes": "touch /answer; exec sh -c 'while :; do sleep 1000 & done' 2>/dev/null",
    }
    for name, script in broken.items():
        harbor.task(name, script, solved)
    harbor.task("full-until-timeout", broken["processes"] + "\n", solved, agent={"timeout_sec": 3})
    harbor.task("zz-normal", "touch /answer", solved)
    run = harbor.run("-n2", "-v")
    outcomes = run.outcomes()
    assert outcomes.pop("no-shell") == "unverified", run.text
    assert outcomes.pop("no-programs") == "unverified"
    assert outcomes == dict.fromkeys(outcomes, "passed"), run.text
    assert all(result["retries"] == [] for result in run.results.values())
    assert "test.sh could not be run" in run["no-shell"]["reason"]
    assert any("restarted" in note for note in [run["kill-init"]["agent_note"], *run["kill-init"]["warnings"]])

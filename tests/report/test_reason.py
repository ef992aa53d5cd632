"""Why a trial ended as it did, in a few words."""

from __future__ import annotations

import pytest

from pytest_harbor.report.reason import reason
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG


@pytest.fixture
def why(tmp_path):
    def why(tests: str = "", agent: str = "", **fields) -> str:
        for name, text in ((TEST_LOG, tests), (AGENT_LOG, agent)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        given = {"run": "r", "task": "tb2/a", "dataset": "tb2", "task_path": "/a", "agent": "bot", "attempt": 1}
        given |= {"outcome": "failed", "reward": 0.0, "directory": str(tmp_path), "agent_exit": 0}
        if "counts" in fields:
            fields["tests"] = InnerTests(*fields.pop("counts"), [InnerTest("t.py::test_a", ""), InnerTest("b", "")])
        return reason(TrialResult(**{**given, **fields}))

    return why


TIMEOUT = {"agent_timed_out": True, "agent_exit": None, "agent_note": "timed out after 60 s"}


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"counts": (0, 5, 0, 0)}, "5 of 5 tests failed"),
        ({"counts": (3, 2, 0, 0)}, "2 of 5 tests failed: test_a, b"),
        ({**TIMEOUT, "counts": (0, 5, 0, 0)}, "timed out after 60 s; 5 of 5 tests failed"),
        ({"agent_exit": 1, "counts": (0, 5, 0, 0)}, "5 of 5 tests failed; agent exited with 1"),
        ({"agent_exit": 1, "agent_note": "raised KeyError: x"}, "agent raised KeyError: x; reward 0, needs 1"),
        ({"agent_exit": None, "agent_note": "the container is gone"}, "the container is gone; reward 0, needs 1"),
        ({"agent_exit": 127, "agent": "bash: pip: command not found\n"}, "pip: command not found; reward 0, needs 1"),
        ({"agent_exit": 127, "agent": "sh: 3: pip: not found\n"}, "pip: command not found; reward 0, needs 1"),
        ({"reward": 0.5}, "reward 0.5, needs 1"),
        ({"reward": 0.999999, "tests": "100 rows\n"}, "reward 0.999999, needs 1"),
        ({"tests": "row 7\nAssertionError: 3 rows\nsee above\n---\n"}, "AssertionError: 3 rows"),
        ({"tests": "first\nthe last line\n}\n"}, "the last line"),
        ({"tests": "the file of the task is missing\n", "reward": -1.0}, "reward -1, needs 1"),
        ({"budget": "--harbor-max-turns=3 is spent"}, "--harbor-max-turns=3 is spent; reward 0, needs 1"),
        ({"tests": "expected 2, found: \n"}, "expected 2, found"),
        (
            {"agent_exit": 1, "tests": "/tests/test.sh: line 6: /app/o.csv: No such file or directory\n"},
            "/app/o.csv: No such file or directory; agent exited with 1",
        ),
    ],
)
def test_failed(why, fields, expected):
    assert why(**fields) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("pip: command not found in PATH=/usr/bin:/bin", "pip: command not found"),
        ("no Docker Engine answers; start it. Log: /x/y.txt", "no Docker Engine answers"),
        ("it failed, last output:\n/setup: line 1: pip: command not found. Log: /x", "pip: command not found"),
        ("the setup failed: exit code 1, last output:\nreading\nE: no package x\nbye", "E: no package x"),
        ("it broke\nin two lines", "it broke in two lines"),
        ("the trial's first model call failed: 404 (No m) from http://x/v1; is", "404 (No m) from http://x/v1"),
        ("the last model call failed: 503 (busy) from http://x/v1", "503 (busy) from http://x/v1"),
        ("the model server h:1 failed: Error code: 401 - no; check OPENAI_API_KEY", "401 - no"),
        (
            "the model server h:1 failed: Connection error. (refused); check",
            "model call failed: Connection error. (refused)",
        ),
    ],
)
def test_error(why, text, expected):
    assert why(outcome="error", reward=None, reason=text) == expected


BUILD_LOG = """#6 [stage-0 2/3] RUN apt-get install -y nosuch
#6 0.176 Reading package lists...
#6 0.236 E: Unable to locate package nosuch
#6 ERROR: executor failed running [/bin/sh -c apt-get install -y nosuch]: exit code: 100
------
 > [stage-0 2/3] RUN apt-get install -y nosuch:
0.236 E: Unable to locate package nosuch
------
ERROR: failed to solve: executor failed running [/bin/sh -c apt-get install -y nosuch]: exit code: 100
"""


def test_error_of_a_build(why, tmp_path):
    log = tmp_path / "log-1.txt"
    log.write_text(BUILD_LOG)
    text = f"build failed: exit code: 100. Log: {log}"
    assert why(outcome="error", reason=text) == "build failed: E: Unable to locate package nosuch"
    log.unlink()
    assert why(outcome="error", reason=text) == "build failed: exit code: 100"


def test_file_of_the_task(why):
    text = "/data/tb2/a/task.toml: [agent] timeout_sec: must be a number"
    assert (
        why(outcome="error", reason=text, task_path="/data/tb2/a") == "task.toml: [agent] timeout_sec: must be a number"
    )


def test_unverified_and_skipped(why):
    assert why(outcome="unverified", reason="test.sh wrote no reward; have it write one") == "test.sh wrote no reward"
    assert why(outcome="skipped", reason="needs compose; not supported") == "needs compose; not supported"


def test_passed(why):
    assert why(outcome="passed", reward=1.0) == ""
    assert why(outcome="passed", reward=1.0, **TIMEOUT) == "agent timed out after 60 s"
    assert why(outcome="passed", budget="--harbor-max-turns=3 is spent (3)") == (
        "--harbor-max-turns=3 is spent; graded as it stood"
    )


def test_hostile_text(why):
    text = why(tests="\x1b[2Jfailed\x07\n::error::x\u202e failed\r\n" * 100, agent_exit=1, agent_note="a\nb\x1b[1m")
    assert text.isprintable()
    assert "\n" not in text
    assert len(text) <= 300


def test_result_from_another_machine(why):
    assert why(directory="/nonexistent") == "reward 0, needs 1"

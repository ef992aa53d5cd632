"""The reports of trials that did not pass."""

from __future__ import annotations

import os

import pytest

from pytest_harbor.errors import error_message
from pytest_harbor.report.failure import agent_end, describe_error, describe_failure, headline
from pytest_harbor.trial import TrialResult
from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.result import Retry
from pytest_harbor.trial.verifier import AGENT_LOG, TEST_LOG


@pytest.fixture
def result(tmp_path):
    def make(**fields) -> TrialResult:
        given = {"run": "r", "task": "tb2/a", "dataset": "tb2", "task_path": "/a", "agent": "nop", "attempt": 1}
        given |= {"outcome": "failed", "reward": 0.5, "phase": "verify", "directory": str(tmp_path), "agent_exit": 0}
        return TrialResult(**{**given, **fields})

    return make


@pytest.fixture
def log(tmp_path):
    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogateescape"))

    return write


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({}, "agent nop exited with 0"),
        ({"agent_exit": 3}, "agent nop exited with 3"),
        ({"agent_exit": 1, "agent_note": "raised ValueError: x"}, "agent nop exited with 1, raised ValueError: x"),
        ({"agent_exit": None}, "agent nop"),
        ({"agent_exit": None, "agent_note": "it went away"}, "agent nop: it went away"),
        (
            {"agent_exit": None, "agent_timed_out": True, "agent_note": "timed out after 5 s"},
            "agent nop timed out after 5 s",
        ),
    ],
)
def test_end_of_the_agent(result, fields, expected):
    assert agent_end(result(**fields)) == expected


def test_headline_has_reward_threshold_and_end_of_agent(result):
    assert headline(result()) == "reward 0.5, needs 1 (agent nop exited with 0)"
    assert headline(result(reward=0.0, threshold=0.75)) == "reward 0, needs 0.75 (agent nop exited with 0)"


def test_headline_does_not_round_up_to_the_threshold(result):
    text = headline(result(reward=0.99999999))
    assert "reward 1, needs 1" not in text


def test_headline_of_unverified(result):
    text = headline(result(outcome="unverified", reward=0.0, reason="no reward file"))
    assert text == "no reward file (unverified; agent nop exited with 0)"


def test_headline_is_one_line(result):
    for outcome in ("error", "unverified", "failed"):
        text = headline(result(outcome=outcome, reason="one\ntwo", agent_note="three\nfour\r\x1b[2J"))
        assert "\n" not in text
        assert "\x1b" not in text


def test_failure_shows_failing_inner_tests(result, log):
    log(TEST_LOG, "never shown because there are inner tests\n")
    tests = InnerTests(3, 2, 1, 1, [InnerTest("test_a", "assert 1 == 2\nsecond line"), InnerTest("test_b", "")])
    text = describe_failure(result(tests=tests))
    assert text.startswith("tb2/a [verify] 2 of 7 tests failed: test_a, test_b; reward 0.5, needs 1")
    assert "2 of 7 failed" in text
    assert "  test_a\n    assert 1 == 2\n    second line\n  test_b\n" in text
    assert "never shown" not in text


def test_long_inner_test_message_is_cut(result):
    message = "\n".join(f"line {n}" for n in range(100))
    text = describe_failure(result(tests=InnerTests(0, 1, 0, 0, [InnerTest("t", message)])))
    assert "line 0" in text
    assert "line 99" not in text


def test_failure_without_inner_tests_shows_test_output(result, log, tmp_path):
    log(TEST_LOG, "".join(f"row {n}.\n" for n in range(1000)))
    log(AGENT_LOG, "from the agent\n")
    text = describe_failure(result())
    assert "row 999." in text
    assert "row 500." not in text
    assert "from the agent" in text
    assert f"Logs: {tmp_path}" in text


def test_failure_without_failing_inner_test_shows_test_output(result, log):
    log(TEST_LOG, "crashed at the end\n")
    assert "crashed at the end" in describe_failure(result(tests=InnerTests(3, 0, 0, 0, [])))


def test_failure_without_logs_has_no_empty_sections(result):
    text = describe_failure(result())
    assert "---" not in text


def test_reports_are_printable(result, log):
    nasty = "a\x1b[2Jb\x07c\x00d\udcffe\x9bf\u2028g\rh\n"
    log(TEST_LOG, nasty)
    log(AGENT_LOG, nasty)
    fields = {"reason": nasty, "agent_note": nasty, "warnings": [nasty], "retries": [Retry("start", nasty, "/x")]}
    tests = InnerTests(0, 1, 0, 0, [InnerTest(nasty, nasty)])
    for text in (
        describe_failure(result(**fields)),
        describe_failure(result(**fields, tests=tests)),
        describe_failure(result(**fields, outcome="unverified")),
        describe_error(result(**fields, outcome="error")),
    ):
        assert all(c.isprintable() or c in "\n\t" for c in text), text


def test_warnings_become_notes(result):
    assert "note: the task needs 64 CPUs" in describe_failure(result(warnings=["the task needs 64 CPUs"]))


def test_error_shows_reason_log_and_earlier_attempts(result, log, tmp_path):
    log("build.txt", "step 1\nstep 2 failed\n")
    retries = [Retry("start", "it did not start", "/earlier")]
    text = describe_error(result(outcome="error", reason=f"it broke. Log: {tmp_path}/build.txt", retries=retries))
    assert "it broke" in text
    assert "step 2 failed" in text
    assert "an earlier attempt also failed in [start]; its files are in /earlier" in text


def test_diff_is_shown_once_and_the_fix_on_its_own_line(result, tmp_path):
    difference = "-old\n+new\n"
    (tmp_path / "call-1.diff").write_text(difference)
    reason = error_message(f"not recorded\n{difference}", "record it again", tmp_path / "call-1.diff")
    text = describe_error(result(outcome="error", reason=reason))
    assert f"not recorded\n{difference}record it again. Log: {tmp_path}/call-1.diff\n" in text
    assert text.count("+new") == 1


def test_error_with_missing_log(result):
    text = describe_error(result(outcome="error", reason="it broke. Log: /nonexistent/log"))
    assert "it broke. Log: /nonexistent/log" in text


def test_missing_directory_is_not_named(result):
    assert "Logs:" not in describe_error(result(outcome="error", reason="x", directory="/nonexistent"))


def test_spent_budget_is_reported(result):
    spent = result(budget="--harbor-max-turns=10 is spent")
    assert headline(spent) == "--harbor-max-turns=10 is spent; reward 0.5, needs 1 (agent nop exited with 0)"
    assert "note: --harbor-max-turns=10 is spent; graded as it stood\n" in describe_failure(spent)
    ended = describe_error(result(outcome="error", reason="x", budget=spent.budget))
    assert "note: --harbor-max-turns=10 is spent\n" in ended, "nothing was graded"


def test_json_lines_are_not_shown(result, log, tmp_path):
    log("proxy/calls.jsonl", '{"number": 1}\n')
    text = describe_error(result(outcome="error", reason=f"it broke. Log: {tmp_path}/proxy/calls.jsonl"))
    assert "number" not in text


def test_log_replaced_by_link_or_pipe_is_not_read(result, log, tmp_path):
    log("secret/of-the-host.txt", "of the host\n")
    (tmp_path / TEST_LOG).parent.symlink_to("secret")
    (tmp_path / TEST_LOG).parent.joinpath("test-stdout.txt").symlink_to("of-the-host.txt")
    (tmp_path / "agent").mkdir()
    os.mkfifo(tmp_path / AGENT_LOG)
    failed = describe_failure(result())
    ended = [
        describe_error(result(outcome="error", reason=f"x. Log: {tmp_path / name}")) for name in (TEST_LOG, AGENT_LOG)
    ]
    for text in (failed, *ended):
        assert "of the host" not in text
        assert "---" not in text


def test_error_with_invalid_log_path(result):
    for name in ("", "\0", "/", "/dev/zero", "relative"):
        assert "it broke" in describe_error(result(outcome="error", reason=f"it broke. Log: {name}"))

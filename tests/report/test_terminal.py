"""The table at the end of a run, and the totals below it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_harbor.report.terminal import MAX_ROWS, TrialTable, count_outcomes, summary
from pytest_harbor.report.usage_text import compact, money
from pytest_harbor.results import Run
from pytest_harbor.trial import Retry, TrialResult, Usage


class Terminal:
    """A fake of pytest's terminal reporter."""

    def __init__(self, verbose: int = 0) -> None:
        self.config = SimpleNamespace(option=SimpleNamespace(verbose=verbose))
        self.sections: list[str] = []
        self.lines: list[str] = []

    def section(self, title: str, *_, **__) -> None:
        self.sections.append(title)

    def write_line(self, line: str, **_) -> None:
        self.lines.append(line)


def result(task="tb2/a", outcome="passed", reward=1.0, attempt=1, **fields) -> TrialResult:
    given = {"run": "r", "dataset": "tb2", "task_path": "", "agent": "nop", "node_id": f"{task}[{attempt}]"}
    return TrialResult(task=task, outcome=outcome, reward=reward, attempt=attempt, **{**given, **fields})


def printed(results, tmp_path, verbose=0, stops=()) -> Terminal:
    table = TrialTable()
    for each in results:
        table.add(each)
    for node_id, seconds in stops:
        table.add_stop(node_id, seconds)
    terminal = Terminal(verbose)
    table.write(terminal, Run(tmp_path, "run1"))
    return terminal


ALL = [
    result("tb2/a", "passed", 1.0),
    result("tb2/b", "failed", 0.5),
    result("tb2/c", "unverified", 0.0),
    result("tb2/d", "error", None),
    result("tb2/e", "skipped", None),
]


def test_empty_run_prints_nothing(tmp_path):
    assert printed([], tmp_path).lines == []


def test_count_outcomes():
    assert count_outcomes(ALL) == {"passed": 1, "failed": 1, "unverified": 1, "error": 1, "skipped": 1}
    assert summary(ALL, 2.04)[0] == "5 trials in 2.0 s: 1 passed, 1 failed, 1 unverified, 1 error, 1 skipped"


def test_errors_and_skips_do_not_count_in_rate_and_mean():
    assert summary(ALL, 2.04)[1] == "mean reward 0.500, pass rate 33.3% (1 of 3 graded)"
    many = [result(f"tb2/{n}", "error", None) for n in range(100)]
    assert summary([*ALL, *many], 2.04)[1] == "mean reward 0.500, pass rate 33.3% (1 of 3 graded)"


def test_reward_of_an_error_does_not_count():
    assert "mean reward 1.000, pass rate 100.0% (1 of 1 graded)" in summary(
        [result(), result("tb2/b", "error", 0.0)], 2.04
    )


def test_only_errors_have_no_rate():
    (line,) = summary([result(outcome="error", reward=None)], 2.04)
    assert line == "1 trial in 2.0 s: 0 passed, 0 failed, 0 unverified, 1 error"


def test_unverified_without_a_reward_counts_in_the_rate_only():
    lines = summary([result(), result("tb2/b", "unverified", None)], 2.04)
    assert lines[1] == "mean reward 1.000, pass rate 50.0% (1 of 2 graded)"


def test_rate_is_not_rounded_to_all_or_nothing():
    many = [result(f"tb2/{n}") for n in range(2999)]
    assert "100.0%" not in summary([*many, result("tb2/x", "failed", 0.0)], 2.04)[1]


def test_row_per_task_with_means_over_attempts(tmp_path):
    results = [
        result("tb2/b", "passed", 1.0, 1, phases={"build": 1.0, "agent": 2.0}),
        result("tb2/b", "failed", 0.0, 2, phases={"agent": 4.0, "verify": 1.0}),
        result("tb2/a", "error", None),
    ]
    lines = printed(results, tmp_path).lines
    assert lines[0].split() == [
        "task",
        "agent",
        "attempts",
        "reward",
        "outcome",
        "build",
        "s",
        "agent",
        "s",
        "verify",
        "s",
    ]
    assert lines[1].split() == ["tb2/a", "nop", "1", "-", "error", "-", "-", "-"]
    assert lines[2].split() == ["tb2/b", "nop", "2", "0.50", "1", "passed,", "1", "failed", "1.00", "3.00", "1.00"]


def test_row_has_the_number_of_attempts(tmp_path):
    lines = printed([result(attempt=n) for n in (1, 2, 3)], tmp_path).lines
    assert lines[1].split() == ["tb2/a", "nop", "3", "1.00", "3", "passed"]


def test_row_per_agent_and_dataset(tmp_path):
    results = [
        result("x/a", agent="one"),
        result("x/a", agent="two"),
        result("y/a", agent="one"),
    ]
    lines = printed(results, tmp_path).lines
    assert len(lines) == 1 + 3 + 2 + 2 + 1
    assert lines[-3:-1] == [
        "one: mean reward 1.000, pass rate 100.0% (2 of 2 graded)",
        "two: mean reward 1.000, pass rate 100.0% (1 of 1 graded)",
    ]


def test_trial_added_twice_counts_once(tmp_path):
    lines = printed([result(outcome="error", reward=None), result()], tmp_path).lines
    assert lines[-3].partition(": ")[2] == "1 passed, 0 failed, 0 unverified, 0 errors"


def test_stop_phase_is_added_later(tmp_path):
    lines = printed([result()], tmp_path, stops=[("tb2/a[1]", 0.25), ("unknown", 9.0)]).lines
    assert lines[0].split()[-2:] == ["stop", "s"]
    assert lines[1].split()[-1] == "0.25"


def test_notes_appear_once_with_their_tasks(tmp_path):
    results = [result(f"tb2/{n}", warnings=["old\x1b[2J key"]) for n in range(5)]
    results += [result("tb2/0", attempt=2, warnings=["old\x1b[2J key", "other"])]
    lines = [line for line in printed(results, tmp_path).lines if line.startswith("note: ")]
    assert lines == ["note: tb2/0, tb2/1, tb2/2 and 2 more: old key", "note: tb2/0: other"]


def test_last_line_is_the_path_of_the_results(tmp_path):
    assert printed([result()], tmp_path).lines[-1] == f"results: {tmp_path}/run1/results.jsonl"


@pytest.mark.parametrize("verbose", [0, 1])
def test_long_table_is_cut_unless_verbose_with_failures_first(tmp_path, verbose):
    results = [result(f"tb2/{n:04}") for n in range(500)] + [result("tb2/zz", "failed", 0.0)]
    lines = printed(results, tmp_path, verbose).lines
    if verbose:
        assert len(lines) == 501 + 1 + 3
    else:
        assert len(lines) == MAX_ROWS + 1 + 1 + 3
        assert lines[1].startswith("tb2/zz")
        assert lines[MAX_ROWS + 1] == f"... and {501 - MAX_ROWS} more tasks; use -v to list all"
    assert lines[-3].partition(": ")[2].startswith("500 passed, 1 failed")


def test_hostile_names_do_not_break_the_table(tmp_path):
    lines = printed([result("tb2/a\nb\x1b[2J", agent="x\ny\x1b[2J")], tmp_path).lines
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)


# Model usage.


def used(**fields) -> Usage:
    given = {"requests": 3, "input_tokens": 12_000, "cached_tokens": 8_000, "output_tokens": 345, "cost": 0.42}
    return Usage(**{**given, "reasoning_tokens": 100, **fields})


def test_usage_columns_and_totals(tmp_path):
    results = [
        result("tb2/a", phases={"agent": 2.0}, usage=used()),
        result("tb2/b", attempt=1, usage=used(requests=4, cost=1.0, retries=1)),
        result("tb2/b", attempt=2, usage=used(requests=5, cost=2.5)),
        result("tb2/c", agent="oracle"),
    ]
    lines = printed(results, tmp_path).lines
    assert lines[0].split()[4:] == ["outcome", "calls", "tokens", "cost", "agent", "s"]
    assert lines[1].split()[-4:] == ["3", "12.3k", "$0.42", "2.00"]
    assert lines[2].split()[-4:] == ["4.5", "12.3k", "$1.75", "-"]
    assert lines[3].split()[-4:] == ["-", "-", "-", "-"]
    assert lines[-2] == (
        "models: 12 calls (1 retry), 36.0k input tokens (24.0k cached), 1.0k output tokens (300 reasoning), cost $3.92"
    )


def test_estimated_unpriced_and_replayed_usage_is_explained(tmp_path):
    results = [
        result("tb2/a", usage=used(estimated=2, unpriced=["gpt\x1b[2J\n-x", "m2"], cost=None, replayed=3)),
        result("tb2/b", usage=used(estimated=1, retries=2)),
    ]
    lines = printed(results, tmp_path).lines
    assert lines[1].split()[-3:] == ["3", "~12.3k", "?"]
    assert lines[2].split()[-3:] == ["3", "~12.3k", "~$0.42"]
    assert lines[-5].startswith("models: 6 calls (2 retries), ")
    assert lines[-5].endswith("cost ?")
    assert lines[-4:-1] == [
        "~: token counts of 3 of 8 calls are estimated because the responses do not report them",
        "?: the cost is unknown because there is no price for gpt -x, m2; add one with --harbor-prices=FILE",
        "3 of 8 calls replayed from cassettes; their cost is that of the recording",
    ]


def test_usage_before_retries_is_separate(tmp_path):
    retries = [
        Retry("agent", "the server was down", "/x", used(cost=0.1)),
        Retry("agent", "again", "/y", used(cost=0.2)),
    ]
    lines = printed([result("tb2/a", usage=used(), retries=retries)], tmp_path).lines
    assert lines[-3].endswith("cost $0.42")
    assert lines[-2] == "not included: 24.7k tokens, cost $0.30, before retries after infrastructure errors"
    assert printed([result("tb2/a", retries=retries[:1])], tmp_path).lines[-2].startswith("not included: 12.3k tokens")


def test_retries_without_usage_are_not_mentioned(tmp_path):
    retries = [Retry("agent", "the server was down", "/x", Usage())]
    assert "not included" not in printed([result("tb2/a", usage=used(), retries=retries)], tmp_path).lines[-2]


def test_note_names_agents_unless_it_concerns_all(tmp_path):
    results = [
        result("tb2/a", agent="x", warnings=["all", "one"]),
        result("tb2/a", agent="y", warnings=["all"]),
        result("tb2/b", agent="y", warnings=["one"]),
        result("tb2/b", agent="x"),
    ]
    notes = [line for line in printed(results, tmp_path).lines if line.startswith("note: ")]
    assert notes == ["note: tb2/a: all", "note: tb2/a[x], tb2/b[y]: one"]


def test_spent_budgets_are_the_first_notes(tmp_path):
    spent = "--harbor-max-tokens=300 is spent"
    results = [
        result(f"tb2/{n:02}", warnings=[f"warning {n}"], budget=f"{spent} ({300 + n} tokens)" if n > 10 else "")
        for n in range(16)
    ]
    notes = [line for line in printed(results, tmp_path).lines if line.startswith("note: ")]
    assert notes[0] == f"note: tb2/11, tb2/12, tb2/13 and 2 more: {spent}; graded as it stood"


@pytest.mark.parametrize(
    "number, text",
    [(0, "0"), (999, "999"), (999.6, "1.0k"), (12_345, "12.3k"), (999_949, "999.9k"), (999_950, "1.0M"), (3e9, "3.0G")],
)
def test_compact(number, text):
    assert compact(number) == text


@pytest.mark.parametrize(
    "cost, text",
    [
        (None, "?"),
        (0, "$0.00"),
        (1e-9, "<$0.0001"),
        (0.00012, "$0.00012"),
        (0.0414, "$0.041"),
        (0.42, "$0.42"),
        (9.999, "$10.00"),
        (1234.5, "$1,234.50"),
    ],
)
def test_money(cost, text):
    assert money(cost) == text
    assert money(cost, estimated=True) == (text if cost is None else f"~{text}")

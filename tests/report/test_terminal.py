"""The table at the end of a run, and the totals below it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor._util import columns
from pytest_harbor.report import table
from pytest_harbor.report.table import count_outcomes
from pytest_harbor.report.terminal import MAX_ROWS, TrialTable, agent_rates, totals
from pytest_harbor.report.usage_text import compact, money
from pytest_harbor.results import Run
from pytest_harbor.trial import Retry, TrialResult, Usage


class Terminal:
    """A fake of pytest's terminal reporter."""

    def __init__(self, verbose: int = 0, width: int = 200, color: bool = False) -> None:
        self.config = SimpleNamespace(option=SimpleNamespace(verbose=verbose))
        self._tw = SimpleNamespace(fullwidth=width, markup=self.markup)
        self.color = color
        self.sections: list[str] = []
        self.lines: list[str] = []

    def markup(self, text: str, **markup: bool) -> str:
        return f"[{'+'.join(markup)}]{text}" if self.color else text

    def write_sep(self, sep: str, title: str) -> None:
        self.sections.append(title)

    def write_line(self, line: str, **_) -> None:
        self.lines.append(line)


def result(task="tb2/a", outcome="passed", reward=1.0, attempt=1, **fields) -> TrialResult:
    given = {"run": "r", "dataset": "tb2", "task_path": "", "agent": "nop", "node_id": f"{task}[{attempt}]"}
    return TrialResult(task=task, outcome=outcome, reward=reward, attempt=attempt, **{**given, **fields})


def printed(results, tmp_path, verbose=0, stops=(), **terminal_options) -> Terminal:
    trials = TrialTable()
    for each in results:
        trials.add(each)
    for node_id, seconds in stops:
        trials.add_stop(node_id, seconds)
    terminal = Terminal(verbose, **terminal_options)
    run = Run(tmp_path, "run1")
    run.directory.mkdir(exist_ok=True)
    run.results_file.touch()
    trials.write(terminal, run)
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
    assert totals(ALL)[0] == "5 trials: 1 passed, 1 failed, 1 unverified, 1 error, 1 skipped"


def test_errors_and_skips_do_not_count_in_rate_and_mean():
    assert totals(ALL)[1] == "mean reward 0.500, pass rate 33.3% (1 of 3 passed)"
    many = [result(f"tb2/{n}", "error", None) for n in range(100)]
    assert totals([*ALL, *many])[1] == "mean reward 0.500, pass rate 33.3% (1 of 3 passed)"


def test_reward_of_an_error_does_not_count():
    assert "mean reward 1.000, pass rate 100.0% (1 of 1 passed)" in totals([result(), result("tb2/b", "error", 0.0)])


def test_only_errors_have_no_rate():
    line, note = totals([result(outcome="error", reward=None)])
    assert note == "no trial was graded"
    assert line == "1 trial: 0 passed, 0 failed, 0 unverified, 1 error"


def test_unverified_without_a_reward_counts_in_the_rate_only():
    lines = totals([result(), result("tb2/b", "unverified", None)])
    assert lines[1] == "mean reward 1.000, pass rate 50.0% (1 of 2 passed)"


def test_trials_that_the_budget_kept_from_running():
    spent = "--harbor-session-budget of $5.00 is spent ($5.1 used by this run)"
    skipped = [result(f"tb2/{name}", "skipped", None, reason=spent) for name in "bc"]
    assert totals([result(), *skipped, result("tb2/d", "skipped", None, reason="not supported")]) == [
        "4 trials: 1 passed, 0 failed, 0 unverified, 0 errors, 3 skipped",
        "mean reward 1.000, pass rate 100.0% (1 of 1 passed, 2 not run)",
        f"2 of 4 trials did not run: {spent}",
    ]
    other = result(agent="oracle")
    assert dict(agent_rates([other, result(), *skipped])) == {
        "nop": "mean reward 1.000, pass rate 100.0% (1 of 1 passed, 2 not run)",
        "oracle": "mean reward 1.000, pass rate 100.0% (1 of 1 passed)",
    }


def test_confirmations_enter_no_rate():
    confirmed = [result(confirmation=number) for number in (1, 2)]
    reruns = [result(outcome="failed", reward=0.0, rerun=number) for number in (0, 1)]
    assert totals([*reruns, *confirmed]) == [
        "2 trials: 0 passed, 2 failed, 0 unverified, 0 errors (2 confirmations not included)",
        "mean reward 0.000, pass rate 0.0% (0 of 2 passed)",
    ]
    assert agent_rates([*reruns, *(replace(each, agent="oracle") for each in confirmed)]) == []


def test_rate_is_not_rounded_to_all_or_nothing():
    many = [result(f"tb2/{n}") for n in range(2999)]
    assert "100.0%" not in totals([*many, result("tb2/x", "failed", 0.0)])[1]


def test_row_per_task_with_means_over_attempts(tmp_path):
    results = [
        result("tb2/b", "passed", 1.0, 1, phases={"build": 1.0, "agent": 2.0}),
        result("tb2/b", "failed", 0.0, 2, phases={"agent": 4.0, "verify": 1.0}),
        result("tb2/c"),
        result("tb2/a", "error", None, reason="it broke"),
    ]
    lines = printed(results, tmp_path).lines
    assert lines[:4] == [
        "task   agent  attempts  reward  outcome             seconds",
        "tb2/a  nop           1       -  error                     -  it broke",
        "tb2/b  nop           2    0.50  1 passed, 1 failed      4.0  reward 0, needs 1",
        "tb2/c  nop           1    1.00  passed                    -",
    ]


def test_phases_with_v(tmp_path):
    results = [result("tb2/b", phases={"build": 1.0, "agent": 2.0}), result("tb2/c", phases={"agent": 61.25})]
    assert printed(results, tmp_path, verbose=1, width=60).lines[:3] == [
        "task   agent  reward  outcome  seconds  build s  agent s",
        "tb2/b  nop      1.00  passed       3.0      1.0      2.0",
        "tb2/c  nop      1.00  passed      61.2        -     61.2",
    ]
    assert printed(results, tmp_path, verbose=1, width=50).lines[:3] == [
        "task   agent  reward  outcome  seconds",
        "tb2/b  nop      1.00  passed       3.0",
        "    build 1.0, agent 2.0 s",
    ]


def test_reasons_are_below_their_rows_in_a_narrow_terminal(tmp_path):
    results = [
        result("tb2/a", "passed", agent_timed_out=True, agent_note="timed out after 2 s"),
        result("tb2/b", "skipped", None, reason="needs docker-compose; compose files are not supported"),
        result("tb2/c", "failed", 0.0, agent_timed_out=True, agent_note="timed out after 60 s"),
    ]
    assert printed(results, tmp_path, width=60).lines[:7] == [
        "task   agent  reward  outcome  seconds",
        "tb2/c  nop      0.00  failed         -",
        "    timed out after 60 s; reward 0, needs 1",
        "tb2/b  nop         -  skipped        -",
        "    needs docker-compose; compose files are not supported",
        "tb2/a  nop      1.00  passed         -",
        "    agent timed out after 2 s",
    ]
    assert printed(results, tmp_path, width=100).lines[1].endswith("-  timed out after 60 s; reward 0, needs 1")


def test_outcomes_have_colors(tmp_path):
    lines = printed(ALL, tmp_path, color=True).lines
    for line, color in zip(lines[1:6], ("red", "red", "red+bold", "yellow", "green"), strict=True):
        assert f"[{color}]" in line


def test_reasons_of_attempts_are_counted(tmp_path):
    results = [result(outcome="failed", reward=0.0, attempt=n) for n in (1, 2)]
    results += [result(outcome="error", reward=None, reason="it broke", attempt=3)]
    assert printed(results, tmp_path).lines[1].endswith("reward 0, needs 1 (2 times); it broke")


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=4), st.integers(40, 130), st.booleans())
def test_table_is_never_wider_than_the_terminal(names, width, verbose):
    phases = {"build": 1.0, "start": 2.0, "agent": 3600.0, "verify": 1.0}
    results = [
        result(task, "error", None, agent=agent, reason=reason, phases=phases, usage=used(), attempt=attempt)
        for attempt, (task, agent, reason) in enumerate(names, 1)
    ]
    rows = table.rows_of(results)
    lines = table.lines(rows, width, lambda text, outcome: text, phases=verbose)
    assert all(columns.width(line) <= width for line in lines)
    assert all(line.isprintable() and "\n" not in line for line in lines)


def test_long_names_keep_their_ends(tmp_path):
    names = [f"terminal-bench-2/{'very-' * 10}long-{n}" for n in (1, 2)]
    first, second = printed([result(name) for name in names], tmp_path, width=80).lines[1:3]
    assert first != second
    assert first.startswith("terminal-bench-2/")
    assert "long-1  nop" in first


def test_wide_characters_keep_columns_aligned(tmp_path):
    lines = printed([result("tb2/\u65e5\u672c"), result("tb2/abcdef")], tmp_path).lines
    assert columns.width(lines[1].partition("nop")[0]) == columns.width(lines[2].partition("nop")[0])


def test_row_per_agent_and_dataset(tmp_path):
    results = [
        result("x/a", agent="one"),
        result("x/a", agent="two"),
        result("y/a", agent="one"),
    ]
    lines = printed(results, tmp_path).lines
    assert len(lines) == 1 + 3 + 2 + 2 + 1
    assert lines[-3:-1] == [
        "one: mean reward 1.000, pass rate 100.0% (2 of 2 passed)",
        "two: mean reward 1.000, pass rate 100.0% (1 of 1 passed)",
    ]


def test_trial_added_twice_counts_once(tmp_path):
    lines = printed([result(outcome="error", reward=None), result()], tmp_path).lines
    assert lines[-3].partition(": ")[2] == "1 passed, 0 failed, 0 unverified, 0 errors"


def test_stop_phase_is_added_later(tmp_path):
    lines = printed([result()], tmp_path, stops=[("tb2/a[1]", 0.25), ("unknown", 9.0)]).lines
    assert lines[1].split()[-1] == "0.2"


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
    assert lines[0].split()[4:] == ["outcome", "seconds", "calls", "tokens", "cost"]
    assert lines[1].split()[-4:] == ["2.0", "3", "12.3k", "$0.42"]
    assert lines[2].split()[-4:] == ["-", "4.5", "12.3k", "$1.75"]
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

"""What the page tells of models: usage and cost, budgets that were spent, and each trial's calls."""

from __future__ import annotations

import html
import json
import math
import os
import re

import pytest
from html_runs import call, result_of, used, write_calls

from pytest_harbor.gate import Baseline, GateSpec, judge, samples_of
from pytest_harbor.report.html import render
from pytest_harbor.report.html.calls import CALLS, ROWS, Share, calls_table

BUDGET = "--harbor-max-turns=3 is spent"
SHARE = Share.of(1)


def page_of(*results, **more) -> str:
    return "".join(render(results, **more))


def part(page: str, begin: str, end: str) -> str:
    start = page.index(begin)
    return page[start : page.index(end, start)]


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def rows_of(table: str) -> list[list[str]]:
    """Return the cells of the rows of a table, without its head."""
    body = table[table.index("<tbody>") :]
    return [
        [text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in body.split("</tr>")[:-1]
    ]


@pytest.fixture
def trial(tmp_path):
    def make(*calls, **fields):
        write_calls(tmp_path, *calls)
        return result_of(directory=str(tmp_path), usage=used(), **fields)

    return make


def test_a_page_of_trials_without_usage_says_nothing_of_models():
    text = text_of(part(page_of(result_of()), "<main", "<script>"))
    for word in ("token", "models", "cost", "budget"):
        assert word not in text


def test_totals_grid_and_trial_have_usage_and_cost():
    page = page_of(result_of(usage=used(retries=1)), result_of(attempt=2, usage=used(cost=0.06)), result_of("tb2/b"))
    assert (
        "models: 6 calls (1 retry), 24.0k input tokens (16.0k cached), 1.0k output tokens (200 reasoning), cost $0.10"
    ) in text_of(part(page, 'id="totals"', "</section>"))
    grid = part(page, '<table class="grid">', "</table>")
    assert re.findall(r"[^>]* tokens, [^<]*", grid) == ["12.5k tokens, $0.050"]
    facts = text_of(part(page, 'id="trial-1"', "</article>"))
    for expected in (
        "calls of models3 in 4.5 s, 1 tried again",
        "input tokens12,000, 8,000 of them cached",
        "output tokens500, 100 of them reasoning",
        "cost$0.040",
        "modelsgpt-x 3",
    ):
        assert expected in facts


def test_what_is_estimated_or_has_no_price_is_marked_and_told():
    page = page_of(result_of(usage=used(estimated=2, replayed=3, cost=None, unpriced=["<b>odd</b>"])))
    assert "~12.5k tokens, cost unknown" in page
    assert "unknown for want of a price of &lt;b&gt;odd&lt;/b&gt;; give it with --harbor-prices=FILE" in page
    assert "tokens of 2 of 3 calls are estimated" in page
    assert "3 of 3 calls replayed from cassettes: cost of the recording" in page


def test_a_budget_that_was_spent_is_marked_everywhere():
    page = page_of(result_of(budget=BUDGET), result_of("tb2/b", "failed"))
    grid = part(page, '<table class="grid">', "</table>")
    assert grid.count("budget spent</span>") == 1
    assert 'aria-label="tb2/a, attempt 1: passed, reward 1.00, budget spent"' in grid
    assert BUDGET in part(page, 'id="trial-1"', "</article>")
    assert "budget" not in part(page, 'id="trial-2"', "</article>")
    assert re.findall(r'data-kind="([^"]*)"', page) == ["budget"]
    assert '<option value="budget">budget spent</option>' in page


def test_the_verdict_tells_cost_and_tokens_against_the_baseline():
    before, after = [result_of(usage=used())], [result_of(usage=used(cost=0.03))]
    samples = samples_of(after)
    verdict = judge(samples, Baseline(samples_of(before)), GateSpec())
    text = text_of(part(page_of(*after, verdict=verdict), 'id="verdict"', "</section>"))
    assert "claude: mean cost $0.030 a trial, -25% against the baseline; mean tokens 12.5k a trial, as in the" in text


# Calls.


def test_a_row_a_call(trial):
    calls = [
        call(1, request={"messages": ["needle"]}, response={"x": 1}),
        call(2, status=429, source="proxy", usage=None, cost=None, error="the budget\nis spent", at="never"),
        call(3, retry=True, usage={"input_tokens": 1, "cached_tokens": 0, "output_tokens": 2, "estimated": True}),
        call(4, source="cassette", cost=None),
    ]
    page = page_of(trial(*calls))
    heads = ["call", "after", "path", "model", "status", "time", "input", "cached", "output", "cost", "answered by"]
    section = part(page, 'id="trial-1"', "</article>")
    assert re.findall(r'<th scope="col">([^<]*)', section) == heads
    path = "POST /v1/chat/completions"
    assert rows_of(section) == [
        ["1", "2.5 s", path, "gpt-x", "200", "1.5 s", "4,000", "2,500", "150", "$0.012", "upstream"],
        ["2", "", path, "gpt-x", "429 the budget is spent", "1.5 s", "", "", "", "", "proxy"],
        ["3", "2.5 s", path, "gpt-x", "200", "1.5 s", "~1", "~0", "~2", "~$0.012", "upstream (retry)"],
        ["4", "2.5 s", path, "gpt-x", "200", "1.5 s", "4,000", "2,500", "150", "?", "cassette"],
    ]
    assert "needle" not in section
    assert "left out" not in section


def test_without_calls_there_is_no_table(tmp_path, trial):
    assert calls_table(trial(), SHARE) is None
    assert calls_table(result_of(), SHARE) is None
    assert calls_table(result_of(directory=str(tmp_path / "gone")), SHARE) is None


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "1",
        "null",
        '"x"',
        "",
        '{"number": 1e999',
        "[" * 100_000,
        b"\xff\xfe",
        b"\0",
        '{"number": ' + "9" * 5000,
    ],
)
def test_a_line_that_is_no_call_costs_only_itself(trial, line):
    table = calls_table(trial(call(1), line, call(2)), SHARE)
    assert [row[0] for row in rows_of(table)] == ["1", "2"]


@pytest.mark.parametrize("value", [None, True, -1, 1e300, 10**400, math.nan, math.inf, [], {}, "x"], ids=range(10))
def test_no_value_of_a_call_is_trusted(trial, value):
    odd = dict.fromkeys(call(), value)
    odd["usage"] = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "estimated"), value)
    for each in (odd, dict.fromkeys(call(), value)):
        (row,) = rows_of(calls_table(trial(each), SHARE))
        assert len(row) == 11
        assert all(len(cell) < 300 for cell in row)


def test_of_many_calls_the_last_are_shown_and_the_others_counted(trial):
    table = calls_table(trial(*map(call, range(1, 501))), SHARE)
    assert "the last 200; 300 more are left out" in table
    assert [row[0] for row in rows_of(table)] == [str(number) for number in range(301, 501)]


def test_a_long_file_is_read_from_its_end(trial, tmp_path):
    bodies = {"request": {"messages": ["x" * 20_000]}, "response": None}
    result = trial(*(call(number, **bodies) for number in range(1, 101)))
    table = calls_table(result, Share(250_000, 200))
    shown = rows_of(table)
    assert shown[-1][0] == "100"
    assert 5 < len(shown) < 15
    assert f"the last {len(shown)}; {100 - len(shown)} more are left out" in table
    assert calls_table(result, Share(10_000, 200)) is None, "not even the last call fits"
    assert len(rows_of(calls_table(result, SHARE))) == 100


def test_a_word_in_an_error_is_not_taken_for_the_request(trial):
    error = 'no field, "request": it is missing'
    ((*_, status, _, _, _, _, cost, _),) = rows_of(calls_table(trial(call(error=error, request={})), SHARE))
    assert status == f"200 {error}"
    assert cost == "$0.012"
    compact = json.dumps(call(request={"request": 1}), separators=(",", ":"))
    assert len(rows_of(calls_table(trial(compact), SHARE))) == 1


def test_calls_are_in_the_order_of_their_numbers(trial):
    table = calls_table(trial(call(2), call(3), call(1)), SHARE)
    assert [row[0] for row in rows_of(table)] == ["1", "2", "3"]


def test_neither_link_nor_pipe_is_read(tmp_path):
    secret = write_calls(tmp_path / "secret", call(model="of-the-host"))
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "proxy").symlink_to(secret / "proxy")
    assert calls_table(result_of(directory=str(trial)), SHARE) is None
    (trial / "proxy").unlink()
    (trial / "proxy").mkdir()
    (trial / CALLS).symlink_to(secret / CALLS)
    assert calls_table(result_of(directory=str(trial)), SHARE) is None
    (trial / CALLS).unlink()
    os.mkfifo(trial / CALLS)
    assert calls_table(result_of(directory=str(trial)), SHARE) is None


def test_a_large_run_shows_fewer_calls_of_each_trial(trial):
    result = trial(*map(call, range(1, 201)))
    page = page_of(*[result] * 500)
    assert page.count(">upstream<") == ROWS
    assert len(page) < 20 << 20

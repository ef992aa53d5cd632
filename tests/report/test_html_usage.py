"""Model usage on the HTML page: tokens and cost, spent budgets, and the calls of each trial."""

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
from pytest_harbor.report.html.calls import CALLS, MAX_ROWS, Share, calls_table

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


def test_no_usage_no_mention_of_models():
    text = text_of(part(page_of(result_of()), "<main", "<script>"))
    for word in ("token", "models", "cost", "budget"):
        assert word not in text


def test_usage_in_totals_grid_and_trial():
    page = page_of(result_of(usage=used(retries=1)), result_of(attempt=2, usage=used(cost=0.06)), result_of("tb2/b"))
    assert (
        "models: 6 calls (1 retry), 24.0k input tokens (16.0k cached), 1.0k output tokens (200 reasoning), cost $0.10"
    ) in text_of(part(page, 'id="agents"', "</section>"))
    grid = part(page, '<table class="grid', "</table>")
    assert re.findall(r"[^>]* tokens, [^<]*", grid) == ["12.5k tokens, $0.050"]
    facts = text_of(part(page, 'id="trial-1"', "</tbody>"))
    for expected in (
        "model calls3 in 4.5 s, 1 retried",
        "input tokens12,000 (8,000 cached)",
        "output tokens500 (100 reasoning)",
        "cost$0.040",
        "modelsgpt-x 3",
    ):
        assert expected in facts


def test_estimated_and_unpriced_usage_is_explained():
    page = page_of(result_of(usage=used(estimated=2, replayed=3, cost=None, unpriced=["<b>odd</b>"])))
    assert "~12.5k</td>" in page
    assert "unknown because there is no price for &lt;b&gt;odd&lt;/b&gt;; add one with --harbor-prices=FILE" in page
    assert "token counts of 2 of 3 calls are estimated" in page
    assert "3 of 3 calls replayed from cassettes; their cost is that of the recording" in page


def test_spent_budget_is_marked():
    page = page_of(result_of(budget=BUDGET), result_of("tb2/b"), result_of("tb2/b", attempt=2))
    grid = part(page, '<table class="grid', "</table>")
    assert grid.count("budget spent</span>") == 1
    assert 'aria-label="tb2/a, attempt 1: passed, reward 1.00, budget spent"' in grid
    assert BUDGET in part(page, 'id="trial-1"', "</tbody>")
    assert "budget" not in part(page, 'id="trial-2"', "</tbody>")
    assert re.findall(r'data-kind="([^"]*)"', page) == ["budget"]
    assert '<option value="budget">budget spent</option>' in page


def test_verdict_shows_the_change_of_usage():
    before, after = [result_of(usage=used())], [result_of(usage=used(cost=0.03))]
    samples = samples_of(after)
    verdict = judge(samples, Baseline(samples_of(before)), GateSpec())
    text = text_of(part(page_of(*after, verdict=verdict), 'id="verdict"', "</section>"))
    assert "claude: mean cost $0.030 per trial, -25% vs. the baseline; mean tokens 12.5k per trial, same as the" in text


# Calls.


def test_row_per_call(trial):
    calls = [
        call(1, request={"messages": ["needle"]}, response={"x": 1}),
        call(2, status=429, source="proxy", usage=None, cost=None, error="the budget\nis spent", at="never"),
        call(3, retry=True, usage={"input_tokens": 1, "cached_tokens": 0, "output_tokens": 2, "estimated": True}),
        call(4, source="cassette", cost=None),
    ]
    page = page_of(trial(*calls))
    heads = ["call", "after", "path", "model", "status", "time", "input", "cached", "output", "cost", "source"]
    section = part(page, 'id="trial-1"', "</tbody>")
    assert re.findall(r'<th scope="col">([^<]*)', section) == heads
    path = "POST /v1/chat/completions"
    assert rows_of(section) == [
        ["1", "2.5 s", path, "gpt-x", "200", "1.5 s", "4,000", "2,500", "150", "$0.012", "upstream"],
        ["2", "", path, "gpt-x", "429 the budget is spent", "1.5 s", "", "", "", "", "proxy"],
        ["3", "2.5 s", path, "gpt-x", "200", "1.5 s", "~1", "~0", "~2", "~$0.012", "upstream (retry)"],
        ["4", "2.5 s", path, "gpt-x", "200", "1.5 s", "4,000", "2,500", "150", "?", "cassette"],
    ]
    assert "needle" not in section
    assert "omitted" not in section


def test_no_calls_no_table(tmp_path, trial):
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
def test_invalid_line_costs_only_itself(trial, line):
    table = calls_table(trial(call(1), line, call(2)), SHARE)
    assert [row[0] for row in rows_of(table)] == ["1", "2"]


@pytest.mark.parametrize("value", [None, True, -1, 1e300, 10**400, math.nan, math.inf, [], {}, "x"], ids=range(10))
def test_values_of_a_call_are_not_trusted(trial, value):
    odd = dict.fromkeys(call(), value)
    odd["usage"] = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "estimated"), value)
    for each in (odd, dict.fromkeys(call(), value)):
        (row,) = rows_of(calls_table(trial(each), SHARE))
        assert len(row) == 11
        assert all(len(cell) < 300 for cell in row)


def test_last_calls_are_shown_and_the_others_counted(trial):
    table = calls_table(trial(*map(call, range(1, 501))), SHARE)
    assert "last 200 calls; 300 omitted" in table
    assert [row[0] for row in rows_of(table)] == [str(number) for number in range(301, 501)]


def test_long_file_is_read_from_its_end(trial, tmp_path):
    bodies = {"request": {"messages": ["x" * 20_000]}, "response": None}
    result = trial(*(call(number, **bodies) for number in range(1, 101)))
    table = calls_table(result, Share(250_000, 200))
    shown = rows_of(table)
    assert shown[-1][0] == "100"
    assert 5 < len(shown) < 15
    assert f"last {len(shown)} calls; {100 - len(shown)} omitted" in table
    assert calls_table(result, Share(10_000, 200)) is None, "not even the last call fits"
    assert len(rows_of(calls_table(result, SHARE))) == 100


def test_request_in_an_error_message_is_not_the_request(trial):
    error = 'no field, "request": it is missing'
    ((*_, status, _, _, _, _, cost, _),) = rows_of(calls_table(trial(call(error=error, request={})), SHARE))
    assert status == f"200 {error}"
    assert cost == "$0.012"
    compact = json.dumps(call(request={"request": 1}), separators=(",", ":"))
    assert len(rows_of(calls_table(trial(compact), SHARE))) == 1


def test_calls_are_sorted_by_number(trial):
    table = calls_table(trial(call(2), call(3), call(1)), SHARE)
    assert [row[0] for row in rows_of(table)] == ["1", "2", "3"]


def test_links_and_pipes_are_not_read(tmp_path):
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


def test_large_run_shows_fewer_calls_per_trial(trial):
    result = trial(*map(call, range(1, 201)))
    page = page_of(*[result] * 500)
    assert page.count(">upstream<") == MAX_ROWS
    assert len(page) < 20 << 20

"""Earlier runs on the HTML page."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from html_runs import full_result
from stored_runs import run_id, store, trials

from pytest_harbor.report.history import AgentRun, page_history
from pytest_harbor.report.html import render, write
from pytest_harbor.report.html.history_section import history_section
from pytest_harbor.results import RESULTS, read_results


def history_of(directory: Path) -> list[list[AgentRun]]:
    results = [result for result, _ in read_results(directory / RESULTS) if result]
    return page_history(results, directory)


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def section_of(directory: Path) -> str:
    return str(history_section(history_of(directory), directory))


def test_chart_of_reward_cost_and_time(tmp_path):
    for day, reward, cost in ((1, 1.0, 0.02), (2, 0.25, 0.06), (3, 0.5, 0.04)):
        last = store(tmp_path, day, trials({"tb2/a": [reward], "tb2/b": [reward]}, cost=cost))
    section = section_of(last)
    labels = re.findall(r'role="img" aria-label="([^"]*)"', section)
    assert labels == [
        "Mean reward in 3 runs: first 1.00, lowest 0.25, highest 1.00, now 0.50",
        "Cost per trial in 3 runs: first $0.020, lowest $0.020, highest $0.060, now $0.040",
        "Time per trial in 3 runs: first 3.0 s, lowest 3.0 s, highest 3.0 s, now 3.0 s",
    ]
    assert section.count('class="segment"') == 3 * 2
    assert section.count("<circle") == 3 * 3
    heights = [float(y) for y in re.findall(r'<circle cx="[^"]*" cy="([^"]*)"', section.partition("Cost per trial")[0])]
    assert heights[0] < heights[1], "higher rewards are further up"


def test_rows_of_the_runs_and_links_to_their_pages(tmp_path):
    for day in (1, 2, 3):
        last = store(tmp_path, day, trials({"tb2/a": [1.0], "tb2/b": [0.0]}))
    (tmp_path / run_id(1) / "report.html").write_text("")
    section = section_of(last)
    assert "bot: 2 earlier runs" in section
    rows = re.findall(r'<th scope="row">.*?</tr>', section.partition("<details>")[2])
    assert [text_of(row).split()[0] for row in rows] == [run_id(3), run_id(2), run_id(1)]
    assert all("2 of 2 50.0% 0.50 3.0 s" in text_of(row) for row in rows)
    assert re.findall(r'href="([^"]*)"', section) == [f"../{run_id(1)}/report.html"]
    assert "href" not in str(history_section(history_of(last), None))


def test_rewards_are_those_of_shared_tasks(tmp_path):
    store(tmp_path, 1, trials({"tb2/a": [1.0], "tb2/b": [0.0], "tb2/old": [0.0], "tb2/older": [0.0]}))
    store(tmp_path, 2, [*trials({"tb2/a": [1.0]}), *trials({"tb2/b": [1.0]}, task_digest="changed")])
    last = store(tmp_path, 3, trials({"tb2/a": [1.0], "tb2/b": [0.0]}))
    (runs,) = history_of(last)
    assert [(list(each.tasks), each.mean) for each in runs] == [
        (["tb2/a", "tb2/b"], 0.5),
        (["tb2/a"], 1.0),
        (["tb2/a", "tb2/b"], 0.5),
    ]
    assert "1 of 2 100.0% 1.00" in text_of(section_of(last))


@pytest.mark.parametrize(
    "other",
    [
        {"agent": "another"},
        {"task_digest": "changed"},
        {"provider": "namespace"},
        {"dataset": "other"},
        {"threshold": 0.5},
    ],
)
def test_runs_of_something_else_are_not_shown(tmp_path, other):
    store(tmp_path, 1, trials({"tb2/a": [1.0]}, **other))
    last = store(tmp_path, 2, trials({"tb2/a": [0.0]}))
    assert history_of(last) == []
    assert history_section([], last) is None


def test_run_that_shares_few_tasks_is_not_shown(tmp_path):
    store(tmp_path, 1, trials({"tb2/a": [1.0]}))
    last = store(tmp_path, 2, trials({f"tb2/{name}": [0.0] for name in "abc"}))
    assert history_of(last) == []


def test_each_agent_and_dataset_has_a_row(tmp_path):
    for day in (1, 2):
        results = [*trials({"tb2/a": [1.0]}), *trials({"tb2/a": [0.0]}, agent="other"), *trials({"ds/a": [1.0]})]
        last = store(tmp_path, day, results)
    text = text_of(section_of(last))
    for name in ("bot, ds: 1 earlier run", "bot, tb2: 1 earlier run", "other, tb2: 1 earlier run"):
        assert name in text


def test_tasks_that_changed_in_this_run_are_named(tmp_path):
    store(tmp_path, 1, trials({"tb2/a": [1.0], "tb2/b": [0.0], "tb2/c": [1.0]}))
    store(tmp_path, 2, trials({"tb2/a": [1.0], "tb2/b": [0.0], "tb2/c": [0.0]}))
    last = store(tmp_path, 3, trials({"tb2/a": [0.0], "tb2/b": [1.0], "tb2/c": [0.0]}))
    expected = "bot, in this run: 1 task began to fail: tb2/a; 1 task fixed: tb2/b"
    assert expected in text_of(section_of(last))


def test_runs_that_cannot_be_read_are_skipped(tmp_path):
    store(tmp_path, 1, trials({"tb2/a": [1.0]}))
    (store(tmp_path, 2, trials({"tb2/a": [1.0]})) / RESULTS).write_text("{")
    store(tmp_path, 3, trials({"tb2/a": [1.0]}), planned=["tb2/b"])
    last = store(tmp_path, 4, trials({"tb2/a": [1.0]}))
    assert [each.run for each in history_of(last)[0]] == [run_id(1), run_id(4)]


def test_unknown_values_leave_gaps(tmp_path):
    for day, fields in enumerate([{"cost": 0.02}, {"phases": {}}, {"cost": 0.04}], 1):
        last = store(tmp_path, day, trials({"tb2/a": [1.0]}, **fields))
    section = section_of(last)
    assert "Cost per trial in 3 runs: first $0.020, lowest $0.020, highest $0.040, now $0.040" in section
    store(tmp_path, 5, trials({"tb2/a": [1.0]}, phases={}))
    last = store(tmp_path, 6, trials({"tb2/a": [0.0]}, phases={}))
    assert "Time per trial" in section_of(last)


def test_negative_and_large_rewards(tmp_path):
    for day, reward in enumerate((-3.0, 250.0, 0.0), 1):
        last = store(tmp_path, day, trials({"tb2/a": [reward]}))
    section = section_of(last)
    assert "first -3.00, lowest -3.00, highest 250.00, now 0.00" in section
    assert all(0 <= float(y) <= 48 for y in re.findall(r' c?y[12]?="([^"]*)"', section))


def test_a_thousand_runs_are_not_all_read(tmp_path):
    """The newest thirty are shown, and reading them takes a small part of a second."""
    results = {f"tb2/{number}": [1.0, 0.0] for number in range(20)}
    first = store(tmp_path, 1, trials(results))
    lines = (first / RESULTS).read_text()
    for number in range(1000):
        directory = tmp_path / f"2027-01-01T{number // 60:02}-{number % 60:02}-00Z-{number:04x}"
        directory.mkdir()
        (directory / RESULTS).write_text(lines)
    last = store(tmp_path / "x", 2, trials(results)).rename(tmp_path / "2028-01-01T00-00-00Z-0000")
    began = time.process_time()
    (runs,) = history_of(last)
    # Seconds of this process alone; a busy machine needs a quarter of one.
    assert time.process_time() - began < 3
    assert len(runs) == 31
    assert runs[-2].directory.name.endswith("-03e7")


def test_large_earlier_runs_are_read_up_to_a_limit(tmp_path, monkeypatch):
    for day in range(1, 8):
        last = store(tmp_path, day, trials({"tb2/a": [1.0]}))
    monkeypatch.setattr("pytest_harbor.report.history.MAX_BYTES", 0)
    monkeypatch.setattr("pytest_harbor.report.history.MAX_TIMES", 3)
    assert len(history_of(last)[0]) == 4


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '" onload="x', "x" * 5_000, "\ud800\x00\x1b[2J"])
def test_hostile_names_are_text(tmp_path, text):
    def elements(name: str, root: Path) -> list[str]:
        for day in (1, 2):
            result = full_result(name, task=name, agent=name, reward=float(day % 2), outcome="passed")
            last = store(root, day, [result])
        results = [result for result, _ in read_results(last / RESULTS) if result]
        page = "".join(render(results, histories=page_history(results, last)))
        assert 'id="history"' in page
        return re.findall(r"<[a-z]+", page)

    assert elements(text, tmp_path / "one") == elements("tame", tmp_path / "two")


def test_page_has_the_section_and_leads_to_it(tmp_path):
    for day in (1, 2):
        last = store(tmp_path, day, trials({"tb2/a": [1.0]}))
    results = [result for result, _ in read_results(last / RESULTS) if result]
    write(last / "report.html", results, histories=page_history(results, last))
    page = (last / "report.html").read_text()
    assert '<a href="#history">History</a>' in page
    assert page.index('id="trials"') < page.index('id="history"'), "failures come first"
    assert 'id="history"' not in "".join(render(results))

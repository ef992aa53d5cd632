"""`pytest-harbor history`: what agents achieved from run to run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from stored_runs import run_id, store, trials

from pytest_harbor.cli import main
from pytest_harbor.results import RESULTS


@pytest.fixture
def history(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)

    def history(*words: object) -> tuple[int, str, str]:
        try:
            status = main(["history", *map(str, words)])
        except SystemExit as error:
            status = int(error.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return history


def test_table_and_changes_oldest_first(history, tmp_path):
    store(tmp_path, 3, trials({"tb2/a": [0.0] * 3, "tb2/b": [1.0] * 3}, model="m", cost=0.04))
    store(tmp_path, 1, trials({"tb2/a": [1.0] * 3, "tb2/b": [0.0] * 3}, model="m", cost=0.02))
    store(tmp_path, 2, trials({"tb2/a": [1.0] * 3, "tb2/b": [0.0, 0.25, None]}, model="m", cost=0.03))
    status, out, err = history(tmp_path)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "tb2 with bot, model m",
        "run                        tasks  passed  reward  errors    cost  seconds",
        f"{run_id(1)}      2   50.0%   0.500       -  $0.020      3.0",
        f"{run_id(2)}      2   60.0%   0.650       1  $0.030      3.0",
        f"{run_id(3)}      2   50.0%   0.500       -  $0.040      3.0",
        "began to fail (1):",
        f"  {run_id(3)}  tb2/a  3/3 -> 0/3",
        "fixed (1):",
        f"  {run_id(3)}  tb2/b  0/2 -> 3/3",
    ]


def test_datasets_and_agents_have_tables_of_their_own(history, tmp_path):
    store(tmp_path, 1, [*trials({"tb2/a": [1.0]}), *trials({"tb2/a": [0.0]}, agent="other"), *trials({"ds/a": [0.5]})])
    store(tmp_path, 2, trials({"tb2/a": [1.0]}))
    _, out, _ = history(tmp_path)
    assert out.splitlines() == [
        "ds with bot",
        "run                        tasks  passed  reward  seconds",
        f"{run_id(1)}      1    0.0%   0.500      3.0",
        "",
        "tb2 with bot",
        "run                        tasks  passed  reward  seconds",
        f"{run_id(1)}      1  100.0%   1.000      3.0",
        f"{run_id(2)}      1  100.0%   1.000      3.0",
        "",
        "tb2 with other",
        "run                        tasks  passed  reward  seconds",
        f"{run_id(1)}      1    0.0%   0.000      3.0",
    ]
    _, out, _ = history(tmp_path, "--agent", "other")
    assert out.startswith("tb2 with other\n")
    assert "bot" not in out


@pytest.mark.parametrize("field, value", [("task_digest", "new"), ("provider", "namespace"), ("threshold", 0.5)])
def test_only_comparable_tasks_have_changes(history, tmp_path, field, value):
    store(tmp_path, 1, trials({"tb2/a": [1.0]}))
    store(tmp_path, 2, trials({"tb2/a": [0.0]}, **{field: value}))
    assert "began to fail" not in history(tmp_path)[1]
    store(tmp_path, 3, trials({"tb2/a": [0.0]}))
    assert f"began to fail (1):\n  {run_id(3)}  tb2/a  1/1 -> 0/1" in history(tmp_path)[1], "since the first run"


def test_tasks_without_a_digest_are_not_comparable(history, tmp_path):
    for day, reward in ((1, 1.0), (2, 0.0)):
        store(tmp_path, day, trials({"tb2/a": [reward]}, task_digest=""))
    assert "began to fail" not in history(tmp_path)[1]


def test_flaky_tasks_neither_fail_nor_pass(history, tmp_path):
    for day, rewards in enumerate([[1, 1, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]], 1):
        store(tmp_path, day, trials({"tb2/a": list(map(float, rewards))}))
    _, out, _ = history(tmp_path)
    assert out.partition("began")[2].splitlines()[1:] == [f"  {run_id(5)}  tb2/a  3/3 -> 0/3"]


def test_broken_and_unfinished_runs_are_reported_and_skipped(history, tmp_path):
    store(tmp_path, 1, trials({"tb2/a": [1.0]}))
    store(tmp_path, 2, trials({"tb2/a": [1.0]}), planned=["tb2/b"])
    (tmp_path / run_id(3)).mkdir()
    corrupt = store(tmp_path, 4, trials({"tb2/a": [0.0]}))
    with (corrupt / RESULTS).open("a") as file:
        file.write("{\n")
    status, out, err = history(tmp_path)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[2:4]] == [run_id(1), run_id(4)]
    lines = err.splitlines()
    assert lines[0] == f"skipped: {tmp_path / run_id(2)}: it did not finish: 1 task without a result (tb2/b)"
    assert lines[1] == f"skipped: {tmp_path / run_id(3)}: it has no results.jsonl"
    assert lines[2].startswith(f"not read: {corrupt / RESULTS}, line 2: ")


def test_nothing_finished_is_not_a_success(history, tmp_path):
    store(tmp_path, 2, trials({"tb2/a": [1.0]}), planned=["tb2/b"])
    status, out, err = history(tmp_path)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == "pytest-harbor: there is no finished run"


def test_mistakes_are_usage_errors(history, tmp_path):
    store(tmp_path, 1, trials({"tb2/a": [1.0]}))
    status, _, err = history(tmp_path, "--agent", "bto")
    assert (status, err) == (2, "pytest-harbor: --agent: no run has agent bto; there are bot\n")
    status, _, err = history(tmp_path / "no")
    assert status == 2
    assert "no: it does not exist; give the directory of a run" in err


def test_models_shards_and_different_tasks_are_shown(history, tmp_path):
    store(tmp_path, 1, trials({"tb2/a": [1.0]}, model="sonnet"), shard="1/2")
    store(tmp_path, 2, trials({"tb2/b": [1.0]}, model="opus"))
    _, out, _ = history(tmp_path)
    assert out.splitlines() == [
        "tb2 with bot",
        "run                        shard  model   tasks  passed  reward  seconds",
        f"{run_id(1)}  1/2    sonnet      1  100.0%   1.000      3.0",
        f"{run_id(2)}  -      opus        1  100.0%   1.000      3.0",
        "the runs have different tasks; each reward is a mean over the run's own tasks",
    ]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_lines_fit_the_terminal(history, tmp_path, monkeypatch, columns):
    names = [f"tb2/a-task-with-a-very-long-name-{n}" * 2 for n in range(3)]
    for day in range(1, 6):
        fields = {"model": f"a-model-with-a-very-long-name-{day}", "cost": 1234.5}
        store(tmp_path, day, trials({name: [float(day % 2), None] for name in names}, **fields), shard="1/12")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = history(tmp_path)[1].splitlines()
    assert max(map(len, lines)) <= columns
    assert [line for line in lines if "1/1 -> 0/1" in line]


def test_latest_changes_unless_all_are_asked_for(history, tmp_path):
    for day in range(1, 29):
        store(tmp_path, day, trials({f"tb2/{n}": [float(day % 2)] for n in range(3)}))
    _, out, _ = history(tmp_path)
    lines = out.partition("began to fail (42):\n")[2].partition("fixed")[0].splitlines()
    assert lines[0] == "  22 earlier ones; use -v to list all"
    assert len(lines) == 21
    assert lines[-1].startswith(f"  {run_id(28)}")
    assert "earlier ones" not in history(tmp_path, "-v")[1]


def test_json(history, tmp_path):
    for day, reward in ((1, 1.0), (2, 0.0)):
        store(tmp_path, day, trials({"tb2/a": [reward]}, cost=0.5, model="m"))
    status, out, _ = history(tmp_path, "--json")
    assert status == 0
    (group,) = json.loads(out)
    assert (group["dataset"], group["agent"]) == ("tb2", "bot")
    assert group["runs"][0] == {
        "run": run_id(1),
        "directory": str(tmp_path / run_id(1)),
        "started_at": "2026-11-01T08:00:00.000+00:00",
        "shard": "",
        "models": ["m"],
        "tasks": 1,
        "trials": 1,
        "passed": 1,
        "pass_rate": 1.0,
        "mean_reward": 1.0,
        "errors": 0,
        "mean_cost": 0.5,
        "mean_seconds": 3.0,
    }
    assert group["changes"] == [
        {
            "task": "tb2/a",
            "run": run_id(2),
            "change": "began to fail",
            "last_run": run_id(1),
            "before": {"passed": 1, "trials": 1},
            "after": {"passed": 0, "trials": 1},
        }
    ]


def test_color_is_of_outcomes(history, tmp_path, monkeypatch):
    for day, reward in ((1, 1.0), (2, 0.0)):
        store(tmp_path, day, trials({"tb2/a": [reward], "tb2/b": [1.0 - reward], "tb2/c": [None]}))
    assert "\x1b" not in history(tmp_path)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = history(tmp_path)
    assert "\x1b[31mbegan to fail (1):\x1b[0m\n" in out
    assert "\x1b[32mfixed (1):\x1b[0m\n" in out
    assert "\x1b[31;1m     1\x1b[0m" in out, "errors"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in history(tmp_path)[1]


def test_hostile_names_stay_text(history, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    name = "::error::x\x1b[2J\n"
    for day, reward in ((1, 1.0), (2, 0.0)):
        store(tmp_path, day, trials({f"{name}/a": [reward]}, agent=name, model=name))
    _, out, _ = history(tmp_path)
    assert "\x1b" not in out
    assert [line for line in out.splitlines() if line.lstrip().startswith("::")] == []


def test_reader_that_stops_reading_is_no_error(tmp_path):
    for day in range(1, 20):
        store(tmp_path, day, trials({f"tb2/{n}": [float(day % 2)] for n in range(300)}))
    words = [sys.executable, "-m", "pytest_harbor.cli", "history", str(tmp_path), "-v"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""

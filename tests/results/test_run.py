"""The directory of a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_harbor._util.process import process_token
from pytest_harbor._util.run_id import new_run_id
from pytest_harbor.results import Run, read_results
from pytest_harbor.trial import TrialResult, Usage
from pytest_harbor.trial.ctrf import InnerTest, InnerTests
from pytest_harbor.trial.result import Retry


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "harbor-results", "run1")
    run.create_root()
    run.directory.mkdir()
    return run


def result_of(run: Run, task: str = "tb2/a", **fields) -> TrialResult:
    given = {"run": run.id, "task": task, "dataset": "tb2", "task_path": f"/{task}", "agent": "nop", "attempt": 1}
    directory = str(run.directory / f"{task.rpartition('/')[2]}__1")
    return TrialResult(**{**given, "directory": directory, **fields})


def changed(**fields) -> bytes:
    """Return a line with a value that is never written."""
    whole = TrialResult(run="r", task="t", dataset="", task_path="", agent="", attempt=1).to_json()
    return json.dumps({**whole, **fields}).encode()


def test_run_ids_are_unique_and_sort_by_time():
    ids = [new_run_id() for _ in range(50)]
    assert len(set(ids)) > 45
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-[0-9a-f]{4}", i) for i in ids)


def test_run_without_trials_has_no_directory(tmp_path):
    run = Run(tmp_path / "deep" / "results", "run1")
    run.create_root()
    assert not run.directory.exists()
    assert run.results() == []
    assert run.lost() == []
    assert run.busy_processes() == []
    run.append(result_of(run))
    assert len(run.results()) == 1


def test_results_are_ignored_by_git(run):
    ignore = run.root / ".gitignore"
    ignored = ignore.read_text()
    assert "*" in ignored.splitlines()
    ignore.write_text("mine")
    Run(run.root, "run2").create_root()
    assert ignore.read_text() == "mine"


def test_result_round_trip(run):
    result = result_of(
        run,
        outcome="failed",
        reward=0.25,
        metrics={"speed": 1.5},
        phases={"build": 0.1},
        reason="zeile\nzwei ü \ud800".encode("utf-8", "replace").decode(),
        tests=InnerTests(1, 2, 3, 4, [InnerTest("name", "message")]),
        retries=[Retry("start", "message", "/directory"), Retry("agent", "message", "/directory", Usage(requests=2))],
        warnings=["one"],
        image={"ref": "x"},
        agent_exit=3,
    )
    run.append(result)
    assert run.results() == [result]
    assert run.results_file.read_bytes().count(b"\n") == 1


def test_line_has_the_documented_keys(run):
    run.append(result_of(run, outcome="passed", reward=1.0))
    line = json.loads(run.results_file.read_text())
    assert line["schema_version"] == 1
    assert {"task", "agent", "attempt", "outcome", "reward", "metrics", "phases"} <= set(line)


def test_lone_surrogates_are_kept(run):
    """File names and output that are not UTF-8 contain lone surrogates."""
    run.append(result_of(run, reason="bad \udcff byte"))
    assert [result.reason for result in run.results()] == ["bad \udcff byte"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_not_written(run, value):
    with pytest.raises(ValueError):
        run.append(result_of(run, metrics={"x": value}))
    assert run.results() == []


APPEND = """
import sys
from pathlib import Path
from pytest_harbor.results import Run
from pytest_harbor.trial import TrialResult
root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
run = Run(root, "run1")
print("ready", flush=True)
sys.stdin.readline()
for n in range(count):
    run.append(TrialResult(run="run1", task=f"{name}/{n}", dataset=name, task_path="", agent="nop", attempt=1, reason="x" * 5000))
"""  # noqa: E501


def test_several_processes_append(run):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, str(run.root), f"w{number}", "100"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    tasks = [result.task for result in run.results()]
    assert len(tasks) == len(set(tasks)) == 300
    for number in range(3):
        own = [task for task in tasks if task.startswith(f"w{number}/")]
        assert own == [f"w{number}/{n}" for n in range(100)], "each process's order is kept"


def test_incomplete_line_does_not_swallow_the_next(run):
    run.append(result_of(run, "tb2/a"))
    with run.results_file.open("ab") as file:
        file.write(b'{"schema_version": 1, "run": "half')
    run.append(result_of(run, "tb2/b"))
    run.append(result_of(run, "tb2/c"))
    assert [result.task for result in run.results()] == ["tb2/a", "tb2/b", "tb2/c"]
    assert len(run.results_file.read_bytes().splitlines()) == 4


@pytest.mark.parametrize(
    "line, reason",
    [
        (b"{", "Expecting"),
        (b"\xff\xfe", ""),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "schema version None"),
        (b'{"schema_version": 2}', "schema version 2"),
        (b'{"schema_version": "1"}', "schema version '1'"),
        (b'{"schema_version": 0}', "schema version 0"),
        (b'{"schema_version": true}', "schema version True"),
        (b'{"schema_version": 1}', "not a trial result"),
        (
            b'{"schema_version": 1, "run": "r", "task": "t", "dataset": "", "task_path": "", "agent": "", "attempt": 1, "tests": 3}',  # noqa: E501
            "not a trial result",
        ),
        (
            b'{"schema_version": 1, "run": "r", "task": "t", "dataset": "", "task_path": "", "agent": "", "attempt": 1, "retries": [1]}',  # noqa: E501
            "not a trial result",
        ),
        (changed(outcome="<b>"), "outcome is '<b>'"),
        (changed(reward=float("nan")), "reward is nan"),
        (changed(reward="1"), "reward is '1'"),
        (changed(task=1), "task is 1"),
        (changed(attempt="1"), "attempt is '1'"),
        (changed(phases={"agent": None}), "phases is {'agent': None}"),
        (changed(metrics=[]), "metrics is []"),
        (changed(image={"id": 1}), "image is {'id': 1}"),
        (changed(warnings=[1]), "warnings is [1]"),
        (b"[" * 100_000, ""),
        (b"\0\0\0\0", ""),
    ],
)
def test_corrupt_line_costs_only_itself(run, line, reason):
    run.append(result_of(run, "tb2/a"))
    with run.results_file.open("ab") as file:
        file.write(line + b"\n")
    run.append(result_of(run, "tb2/b"))
    read = list(read_results(run.results_file))
    assert [result.task if result else None for result, _ in read] == ["tb2/a", None, "tb2/b"]
    problem = read[1][1]
    assert f"{run.results_file}, line 2: " in problem
    assert reason in problem
    assert [result.task for result in run.results()] == ["tb2/a", "tb2/b"]


def test_unknown_keys_are_ignored(run):
    run.results_file.write_text(json.dumps({**result_of(run).to_json(), "of_the_future": 1}) + "\n\n")
    (result,) = run.results()
    assert result == result_of(run)


NAMES = ["hello", "a" * 250, "日" * 83, "with space", "..", "new\nline", "\x1b[2J", "trailing.", "-dash", "ü" * 120]


@pytest.mark.parametrize("name", NAMES)
def test_trial_directories_of_unusual_names(run, name):
    directory = run.trial_directory(name, "key")
    assert directory.parent == run.directory
    directory.mkdir()
    # The longest name beside it: a retry of the same trial.
    directory.with_name(f"{directory.name}.retry10").mkdir()
    assert directory.name.isprintable()
    assert re.search(r"__[0-9a-f]{7}$", directory.name)


def test_trial_directories_differ_by_key():
    run = Run(Path("/x"), "run1")
    assert run.trial_directory("a", "k1") != run.trial_directory("a", "k2")
    assert run.trial_directory("a", "k1") == run.trial_directory("a", "k1")
    assert run.trial_directory("a", "k1").name != Run(Path("/x"), "run2").trial_directory("a", "k1").name
    assert run.trial_directory("\udcff", "\udcff").name


def test_trial_of_a_dead_process_is_lost_unless_written(run):
    code = (
        "import sys; from pathlib import Path; from pytest_harbor.results import Run; from pytest_harbor.trial import TrialResult\n"  # noqa: E501
        "run = Run(Path(sys.argv[1]), 'run1')\n"
        "for name in ('lost', 'written', 'finished', 'retried'):\n"
        "    r = TrialResult(run='run1', task=f'tb2/{name}', dataset='tb2', task_path='', agent='nop', attempt=1,\n"
        "                    directory=str(run.directory / name))\n"
        "    run.note(r, name if name in ('finished', 'retried') else 'running')\n"
        "    if name == 'written': run.append(r)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(run.root)], check=True)
    run.note(result_of(run, "tb2/alive"), "running")
    (run.directory / "broken").mkdir()
    (run.directory / "broken" / "trial.json").write_text("{")
    assert [result.task for result in run.lost()] == ["tb2/lost"]
    assert run.busy_processes() == []


def test_trial_of_another_machine_is_not_lost(run):
    result = result_of(run)
    run.note(result, "running")
    note = Path(result.directory) / "trial.json"
    data = json.loads(note.read_text())
    note.write_text(json.dumps({**data, "machine": "elsewhere", "owner": "1.never"}))
    assert run.lost() == []
    note.write_text(json.dumps({**data, "owner": "1.never"}))
    assert [lost.task for lost in run.lost()] == ["tb2/a"]


def test_busy_processes(run):
    code = (
        "import sys; from pathlib import Path; from pytest_harbor.results import Run; from pytest_harbor.trial import TrialResult\n"  # noqa: E501
        "run = Run(Path(sys.argv[1]), 'run1')\n"
        "run.note(TrialResult(run='run1', task='tb2/a', dataset='', task_path='', agent='', attempt=1,\n"
        "                     directory=str(run.directory / 'a')), 'running')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        worker.stdout.readline()
        run.note(result_of(run, "tb2/own"), "running")
        assert run.busy_processes() == [worker.pid]
        assert run.lost() == []
        worker.stdin.close()
    assert run.busy_processes() == []
    assert os.getpid() not in run.busy_processes()
    assert [result.task for result in run.lost()] == ["tb2/a"]


def test_trial_json_is_replaced(run):
    result = result_of(run)
    run.note(result, "running")
    result.outcome = "passed"
    run.note(result, "finished")
    directory = Path(result.directory)
    assert [path.name for path in directory.iterdir()] == ["trial.json"]
    data = json.loads((directory / "trial.json").read_text())
    assert (data["state"], data["outcome"], data["owner"]) == ("finished", "passed", process_token())

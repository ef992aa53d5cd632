"""--harbor-shard: the selected tests, the run record and the exit status."""

from __future__ import annotations

import json

import pytest

from pytest_harbor.gate import Baseline, Sample
from pytest_harbor.results import RunRecord

pytestmark = pytest.mark.slow

SKIPPED = '[environment]\nos = "windows"\n'

ALL = "--harbor-dataset=tb2"


@pytest.fixture
def tasks(project):
    for name in "abcdefg":
        project.task(f"tb2/{name}", SKIPPED)


def names(ids: list[str]) -> list[str]:
    return sorted(node_id.rpartition("::")[2] for node_id in ids)


def baseline(project, **seconds: float) -> str:
    samples = {(f"tb2/{name}", "x"): Sample((1.0,), 1, seconds=time) for name, time in seconds.items()}
    Baseline(samples).write(project.path / "baseline.json")
    return "--harbor-baseline=baseline.json"


def records(project) -> list[RunRecord]:
    return [RunRecord.read(file.parent) for file in sorted(project.path.glob("harbor-results/*/run.json"))]


@pytest.mark.parametrize("workers", [False, True])
def test_every_task_is_in_exactly_one_shard(project, tasks, workers):
    found = []
    for number in (1, 2, 3):
        options = ["-v", "-n", "2"] if workers else ["-v"]
        outcome = project.run(ALL, "--harbor-agent=nop", f"--harbor-shard={number}/3", *options, subprocess=workers)
        assert outcome.ret == 0
        assert outcome.counts["skipped"] in (2, 3)
        outcome.has(f"harbor: shard {number}/3, {outcome.counts['skipped']} of 7 tasks, divided by number")
        found += names([word for line in outcome.out.splitlines() for word in line.split() if "task.toml::" in word])
    assert sorted(set(found)) == list("abcdefg")
    kept = records(project)
    assert {record.shard for record in kept} == {"1/3", "2/3", "3/3"}
    assert all(record.selection == tuple(f"tb2/{name}" for name in "abcdefg") for record in kept)
    assert sorted(task for record in kept for task in record.tasks) == sorted(kept[0].selection)


def test_attempts_of_a_task_share_a_shard(project, tasks):
    ids = project.ids(ALL, "--harbor-shard=1/3", "--harbor-attempts=2")
    assert len(ids) == 2 * len({node_id.partition("[")[0] for node_id in ids})


def test_other_options_select_first(project, tasks):
    found = [
        name
        for number in (1, 2)
        for name in names(
            project.ids(ALL, "--harbor-task=[abc]", "--harbor-exclude-task=b", f"--harbor-shard={number}/2")
        )
    ]
    assert sorted(found) == ["a", "c"]


def test_durations_from_the_baseline(project, tasks):
    durations = baseline(project, a=100, b=1, c=1, d=1, e=1, f=1, g=1)
    assert names(project.ids(ALL, durations, "--harbor-shard=1/2")) == ["a"]
    assert names(project.ids(ALL, durations, "--harbor-shard=2/2")) == list("bcdefg")
    outcome = project.run(ALL, durations, "--harbor-shard=1/2", "--harbor-agent=nop")
    outcome.has("shard 1/2, 1 of 7 tasks, divided by durations in the baseline")


def test_empty_shard_passes_and_is_recorded(project, tasks):
    found = []
    for number in range(1, 9):
        outcome = project.run(ALL, "--harbor-agent=nop", f"--harbor-shard={number}/8")
        assert outcome.ret == 0, str(outcome)
        found.append(outcome.counts.get("skipped", 0))
    assert sorted(found) == [0, 1, 1, 1, 1, 1, 1, 1]
    assert sorted(len(record.tasks) for record in records(project)) == sorted(found)


def test_excluded_tasks_are_recorded(project, tasks):
    assert project.run(ALL, "--harbor-agent=nop", "--harbor-shard=1/1", "-k", "f or g").ret == 0
    (record,) = records(project)
    assert record.left_out == ("tb2/a", "tb2/b", "tb2/c", "tb2/d", "tb2/e")


def test_keyword_deselects_the_whole_shard(project, tasks):
    for number in (1, 2):
        assert project.run(ALL, "--harbor-agent=nop", f"--harbor-shard={number}/2", "-k", "g").ret == 0
    kept = records(project)
    assert sorted(len(record.tasks) - len(record.left_out) for record in kept) == [0, 1]


def test_no_tests_without_a_shard(project, tasks):
    assert project.run(ALL, "--harbor-agent=nop", "-k", "nothing").ret == 5
    assert records(project) == []


def test_run_record_without_shards(project, tasks):
    project.run(ALL, "--harbor-agent=nop", "--harbor-attempts=2", "--harbor-agent-env=SECRET=hunter2")
    (record,) = records(project)
    assert (record.shard, record.tasks, record.left_out) == ("", record.selection, ())
    assert record.options["attempts"] == 2
    assert "hunter2" not in json.dumps(record.options)
    assert record.run == project.results()[0]["run"]


def test_collect_only_writes_nothing(project, tasks):
    project.ids(ALL, "--harbor-shard=1/2")
    assert not (project.path / "harbor-results").exists()
    assert project.run(ALL, "--harbor-shard=1/2", "--setup-plan", "--harbor-agent=nop").ret == 0
    assert records(project) == []


USERS = """
import pytest

@pytest.mark.harbor
def test_all(harbor_task): pass

@pytest.mark.harbor(dataset="tb2")
def test_dataset(harbor_task): pass

@pytest.mark.harbor(dataset="tb2", task="a")
def test_one(harbor_task): pass

@pytest.mark.harbor(dataset="./other")
def test_path(harbor_task): pass

def test_plain(): pass
"""


def test_user_tests_are_split_with_their_tasks(project, tasks):
    for name in ("x", "y", "z"):
        project.task(f"other/{name}")
    project.file("test_mine.py", USERS)
    found = [set(names(project.ids(ALL, "test_mine.py", f"--harbor-shard={n}/3"))) for n in (1, 2, 3)]
    parameters = [{name for name in each if "[" in name and not name.endswith("[none]")} for each in found]
    assert not parameters[0] & parameters[1] | parameters[1] & parameters[2] | parameters[0] & parameters[2]
    whole = set(names(project.ids(ALL, "test_mine.py"))) - {"test_plain"}
    assert set().union(*parameters) == whole
    assert len(whole) == 7 + 7 + 1 + 3
    assert all("test_plain" in each for each in found)
    for each in parameters:
        mine = {name for name in each if name.startswith("test_all")}
        assert {name.replace("_all", "_dataset") for name in mine} == {n for n in each if n.startswith("test_dataset")}


def test_user_test_without_a_task_in_the_shard(project, tasks):
    project.file("test_mine.py", USERS)
    project.task("other/x")
    outcomes = [project.run("test_mine.py", ALL, f"--harbor-shard={n}/7", "-rs", "-k", "test_one") for n in range(1, 8)]
    assert sum("none of its tasks is in shard" in outcome.out for outcome in outcomes) == 6
    assert all(outcome.ret == 0 for outcome in outcomes)


def test_marks_with_paths_need_no_dataset(project):
    for name in "abcdef":
        project.task(f"other/{name}")
    project.file("test_mine.py", 'import pytest\n@pytest.mark.harbor("./other")\ndef test_it(harbor_task): pass\n')
    found = [names(project.ids("test_mine.py", f"--harbor-shard={n}/2")) for n in (1, 2)]
    assert sorted(found[0] + found[1]) == [f"test_it[{name}]" for name in "abcdef"]
    project.run("test_mine.py", "--harbor-shard=1/2")
    (record,) = records(project)
    assert record.selection == tuple(f"other/{name}" for name in "abcdef")
    assert len(record.tasks) == len(found[0])


def test_shard_has_no_verdict(project):
    for name in "ab":
        project.task(f"tb2/{name}")
    outcome = project.run(ALL, "--harbor-agent=nop", "--harbor-shard=1/2", "--harbor-gate=each")
    assert outcome.ret == 0, str(outcome)
    outcome.has("no verdict on shard 1/2 alone", "pytest-harbor gate RUN... --baseline FILE")
    outcome.lacks("verdict: ")


def test_only_shard_has_a_verdict(project):
    project.task("tb2/a")
    outcome = project.run(ALL, "--harbor-agent=nop", "--harbor-shard=1/1", "--harbor-gate=each")
    assert outcome.ret == 11
    outcome.has("verdict: ")


def test_failure_of_another_test_in_an_empty_shard(project, tasks):
    project.file("test_mine.py", "def test_plain(): assert 0\n")
    assert project.run("test_mine.py", ALL, "--harbor-shard=1/2", "--harbor-gate=each", "--harbor-agent=nop").ret == 1

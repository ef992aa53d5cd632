"""A converted folder as a dataset, and its taskset.json as a selection."""

from __future__ import annotations

import json
import shutil

import pytest

from pytest_harbor import Dataset, Task
from pytest_harbor.hud.convert import convert
from pytest_harbor.task import DatasetError

RAISES = "raise SystemError('the host must never import this')\n"


@pytest.fixture
def converted(project):
    """A project with tb2, converted to `out`: three tasks in two environments."""
    for name, content in {"alpha": "1", "beta": "2", "gamma": "2"}.items():
        project.task(
            f"tb2/{name}",
            '[metadata]\ndifficulty = "easy"\n',
            files={
                "environment/Dockerfile": "FROM debian\n",
                "environment/x": content,
                # Files that pytest must not import or collect as tasks.
                "environment/conftest.py": RAISES,
                "environment/test_it.py": RAISES,
                "environment/inner/task.toml": "",
                "tests/conftest.py": RAISES,
                "tests/test_outputs.py": RAISES,
            },
        )
    convert(project.path / "tb2", project.path / "out")
    return project


IDS = [
    "out/hud-harbor-tb2-g1/tasks/beta/task.toml::beta",
    "out/hud-harbor-tb2-g1/tasks/gamma/task.toml::gamma",
    "out/hud-harbor-tb2-g2/tasks/alpha/task.toml::alpha",
]


def test_only_tasks_are_collected(converted):
    assert converted.ids("--harbor-dataset=out") == IDS
    assert converted.ids("--harbor-dataset=out", "out") == IDS
    assert converted.ids("--harbor-dataset=out", "-m", "difficulty_easy", "-k", "beta or alpha") == [IDS[0], IDS[2]]


def test_node_id_as_argument(converted):
    for node_id in IDS:
        assert converted.ids(node_id) == [node_id]
        assert converted.ids("--harbor-dataset=out", node_id) == [node_id]
    assert converted.ids("-n2", IDS[0], subprocess=True) == IDS[:1]


def test_path_of_a_part(converted):
    environment = "out/hud-harbor-tb2-g1"
    for path in (environment, f"{environment}/tasks"):
        assert converted.ids(f"--harbor-dataset={path}") == IDS[:2], path
    assert converted.ids(f"--harbor-dataset={environment}/tasks/gamma") == [IDS[1]]
    assert converted.ids(f"--harbor-dataset={environment}", environment) == IDS[:2]


def test_pytest_writes_nothing_into_an_environment(converted):
    before = sorted(converted.path.joinpath("out").rglob("*"))
    converted.run(IDS[0], "--harbor-agent=nop", "-p", "cacheprovider")
    converted.run("out/hud-harbor-tb2-g1", "--harbor-dataset=out", "--harbor-agent=nop")
    assert sorted(converted.path.joinpath("out").rglob("*")) == before


def test_conftest_above_the_folder(converted):
    converted.file("out/conftest.py", "def pytest_harbor_task(task):\n    return task.name != 'beta'\n")
    assert converted.ids("--harbor-dataset=out") == IDS[1:]
    assert converted.ids("--harbor-taskset=out/taskset.json") == IDS[1:]


def test_task_ids_are_those_of_the_source(converted):
    dataset = Dataset(converted.path / "out")
    assert [task.id for task in dataset] == ["tb2/beta", "tb2/gamma", "tb2/alpha"]
    assert dataset.name == "tb2"
    assert Task.load(converted.path / "out/hud-harbor-tb2-g2/tasks/alpha").id == "tb2/alpha"
    assert converted.ids("--harbor-dataset=out", "--harbor-task=tb2/alpha") == IDS[2:]


def test_source_and_converted_tasks_in_one_run(converted):
    outcome = converted.run("--collect-only", "--harbor-dataset=tb2", "--harbor-dataset=out")
    outcome.has(f"datasets {converted.path.name}/tb2 (3 tasks), out/tb2 (3 tasks)")


def test_dataset_name_without_a_taskset(converted):
    shutil.move(converted.path / "out/hud-harbor-tb2-g1", converted.path / "alone")
    assert [task.id for task in Dataset(converted.path / "alone")] == ["alone/beta", "alone/gamma"]


def test_broken_taskset(converted):
    converted.file("out/taskset.json", "[{")
    outcome = converted.run("--harbor-dataset=out")
    assert outcome.ret == 4
    outcome.has("--harbor-dataset: ", "out/taskset.json is not JSON")


def test_paths_of_a_converted_task(converted):
    task = Dataset(converted.path / "out")["alpha"]
    environment = converted.path / "out/hud-harbor-tb2-g2"
    assert (task.environment_dir, task.dockerfile) == (environment, environment / "Dockerfile.hud")
    assert task.tests_dir == environment / "tasks/alpha/tests"
    assert not task.has_solution


def test_converted_and_source_are_compared_by_a_gate(project):
    project.rewards(a=1.0, b=1.0)
    convert(project.path / "tb2", project.path / "out")
    run = ("--harbor-agent=nop", "--harbor-attempts=5")
    for first, second in (("tb2", "out"), ("out", "tb2")):
        saved = f"{first}.json"
        assert project.run(*run, f"--harbor-dataset={first}", f"--harbor-save-baseline={saved}").ret == 0
        outcome = project.run(*run, f"--harbor-dataset={second}", f"--harbor-baseline={saved}")
        assert outcome.ret == 0
        outcome.has("verdict: pass", "over 2 tasks")
        outcome.lacks("not compared")


def test_converted_task_without_dockerfile(project):
    project.task("tb2/alpha")
    convert(project.path / "tb2", project.path / "out")
    assert Dataset(project.path / "out")["alpha"].dockerfile is None


def test_task_with_its_own_environment_is_not_converted(project):
    project.task("x/tasks/alpha", files={"environment/Dockerfile": "FROM x\n"})
    project.file("x/Dockerfile.hud", "FROM x\n")
    (task,) = Dataset(project.path / "x")
    assert (task.converted, task.id) == (None, "tasks/alpha")


# --harbor-taskset


def rows(converted) -> list[dict]:
    return json.loads((converted.path / "out/taskset.json").read_text(encoding="utf-8"))


def test_taskset_selects_in_its_order(converted):
    beta, _gamma, alpha = rows(converted)
    converted.file("out/small.json", json.dumps([alpha, beta]))
    assert converted.ids("--harbor-taskset=out/small.json") == [IDS[2], IDS[0]]
    assert converted.ids("--harbor-taskset=out/small.json", "-n2", subprocess=True) == [IDS[2], IDS[0]]
    assert converted.ids("--harbor-taskset=out/small.json", "--harbor-task=beta") == [IDS[0]]
    assert converted.ids("--harbor-taskset=out/small.json", "-k", "alpha") == [IDS[2]]
    assert converted.ids("--harbor-taskset=out/small.json", "--harbor-attempts=2") == [
        *(IDS[2] + number for number in ("", "[2]")),
        *(IDS[0] + number for number in ("", "[2]")),
    ]
    assert [task.name for task in Dataset(converted.path / "out/small.json")] == ["alpha", "beta"]


def test_other_tests_keep_their_order(converted):
    _beta, gamma, alpha = rows(converted)
    converted.file("out/small.json", json.dumps([alpha, gamma]))
    converted.file("test_mine.py", "def test_one(): pass\n")
    ids = converted.ids("--harbor-taskset=out/small.json", "test_mine.py", "out")
    assert ids == ["test_mine.py::test_one", IDS[2], IDS[1]]


def test_taskset_in_the_ini_file(converted):
    converted.path.joinpath("sub").mkdir()
    converted.ini("harbor_taskset = out/taskset.json")
    assert converted.ids() == IDS
    assert converted.ids("--harbor-dataset=tb2", "--harbor-task=alpha") == ["tb2/alpha/task.toml::alpha"]


def test_dataset_and_taskset_are_mutually_exclusive(converted):
    outcome = converted.run("--harbor-taskset=out/taskset.json", "--harbor-dataset=tb2")
    assert outcome.ret == 4
    outcome.has("--harbor-dataset and --harbor-taskset exclude each other; give one of them")


def _row(**changes) -> dict:
    name = "hud-harbor-tb2-g1"
    return {"env": {"name": name}, "scenario": f"{name}:run-task", "args": {"task_id": "beta"}, **changes}


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not JSON"),
        ("{}", "does not contain a list; a taskset is a list"),
        ("[]", "has no rows"),
        ([1], "row 1: it is not an object; a row is {"),
        ([_row(), _row(env={})], "row 2: env.name is not a string"),
        ([_row(scenario="x:run-task")], "row 1: scenario 'x:run-task' is not hud-harbor-tb2-g1:run-task"),
        ([_row(args={"task_id": 1})], "row 1: args.task_id is not a string"),
        ([_row(args={"task_id": "../b"})], "row 1: env.name or args.task_id is not a valid folder name"),
        (
            [_row(args={"task_id": "betaa"})],
            "row 1: environment 'hud-harbor-tb2-g1' has no task 'betaa'; it has 'beta'",
        ),
        ([_row(args={})], "row 1: environment 'hud-harbor-tb2-g1' has no task ''; it has 'beta', 'gamma'"),
        (
            [_row(env={"name": "other"}, scenario="other:run-task")],
            "row 1: there is no environment 'other' next to it",
        ),
        ([_row(), _row()], "row 2 names the same task as row 1; remove one, and use --harbor-attempts"),
    ],
)
def test_invalid_taskset(converted, content, message):
    converted.file("out/x.json", content if isinstance(content, str) else json.dumps(content))
    outcome = converted.run("--harbor-taskset=out/x.json")
    assert outcome.ret == 4
    outcome.has("--harbor-taskset: ", "x.json", message)
    outcome.shows_no_bug()
    with pytest.raises(DatasetError):
        Dataset(converted.path / "out/x.json")


def test_missing_or_moved_taskset(converted):
    outcome = converted.run("--harbor-taskset=nowhere.json")
    assert outcome.ret == 4
    outcome.has("nowhere.json does not exist; give the taskset.json of a converted folder")
    outcome = converted.run("--harbor-dataset=out/taskset.json")
    assert outcome.ret == 4
    outcome.has("give a taskset with --harbor-taskset")


def test_row_of_the_only_task(converted):
    name = "hud-harbor-tb2-g2"
    converted.file("out/x.json", json.dumps([{"env": {"name": name}, "scenario": f"{name}:run-task"}]))
    assert converted.ids("--harbor-taskset=out/x.json") == [IDS[2]]

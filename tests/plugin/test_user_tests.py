"""User tests: parametrized over the tasks that their `harbor` mark selects."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_harbor.gate import Baseline

BODY = "import pytest\n\n\n{mark}\ndef test_it(harbor_task):\n    print('TASK', harbor_task.id)\n"


def with_mark(project, mark: str, where: str = "test_mine.py"):
    return project.file(where, BODY.format(mark=mark))


@pytest.fixture
def tasks(project):
    for where in ("tb2/a", "tb2/ab", "other/a"):
        project.task(f"data/{where}")


ALL = "--harbor-dataset=data"


@pytest.mark.parametrize(
    "mark, ids",
    [
        ("@pytest.mark.harbor", ["other/a", "tb2/a", "tb2/ab"]),
        ("@pytest.mark.harbor()", ["other/a", "tb2/a", "tb2/ab"]),
        ("", ["other/a", "tb2/a", "tb2/ab"]),
        ("@pytest.mark.harbor(dataset='tb2')", ["a", "ab"]),
        ("@pytest.mark.harbor('tb2')", ["a", "ab"]),
        ("@pytest.mark.harbor('tb2', 'a')", ["a"]),
        ("@pytest.mark.harbor('tb2', task='a*')", ["a", "ab"]),
        ("@pytest.mark.harbor(task='a')", ["other/a", "tb2/a"]),
        ("@pytest.mark.harbor(task='tb2/*')", ["a", "ab"]),
        ("@pytest.mark.harbor(task='?b')", ["ab"]),
        ("@pytest.mark.harbor(dataset='data/tb2')", ["a", "ab"]),
        ("@pytest.mark.harbor(dataset='./data/tb2/ab')", ["ab"]),
    ],
)
def test_selected_tasks(project, tasks, mark, ids):
    with_mark(project, mark)
    assert project.ids(ALL, "test_mine.py") == [f"test_mine.py::test_it[{name}]" for name in ids]


def test_node_id_as_argument(project, tasks):
    with_mark(project, "@pytest.mark.harbor")
    for node_id in project.ids(ALL, "test_mine.py"):
        assert project.ids(ALL, node_id) == [node_id]


def test_dataset_path_needs_no_option(project, tasks):
    with_mark(project, "@pytest.mark.harbor(dataset='../data/tb2')", "tests/test_mine.py")
    assert project.ids("tests") == ["tests/test_mine.py::test_it[a]", "tests/test_mine.py::test_it[ab]"]
    outcome = project.run("tests", "-s")
    assert outcome.counts == {"passed": 2}
    outcome.has("TASK tb2/a", "TASK tb2/ab")


def test_absolute_path(project, tasks):
    with_mark(project, f"@pytest.mark.harbor(dataset={str(project.path / 'data' / 'tb2')!r})")
    assert len(project.ids("test_mine.py")) == 2


def test_attempts(project, tasks):
    with_mark(project, "@pytest.mark.harbor(dataset='tb2', task='a')")
    ids = project.ids(ALL, "test_mine.py", "--harbor-attempts=3")
    assert len(ids) == len(set(ids)) == 3
    assert ids[0] == "test_mine.py::test_it[a]"
    assert ids[1] == "test_mine.py::test_it[a-2]"


def test_options_select_tasks(project, tasks):
    with_mark(project, "@pytest.mark.harbor")
    assert project.ids(ALL, "test_mine.py", "--harbor-task=ab") == ["test_mine.py::test_it[ab]"]


def test_marks_of_the_task_apply_to_the_test(project):
    project.task("tb2/a", '[metadata]\ndifficulty = "easy"\n')
    project.task("tb2/b")
    with_mark(project, "@pytest.mark.harbor")
    for expression, names in {"difficulty_easy": ["a"], "harbor": ["a", "b"], "not difficulty_easy": ["b"]}.items():
        ids = project.ids("--harbor-dataset=tb2", "test_mine.py", "-m", expression, "--strict-markers")
        assert ids == [f"test_mine.py::test_it[{name}]" for name in names]


def test_other_parameters(project, tasks):
    with_mark(project, "@pytest.mark.harbor('tb2')\n@pytest.mark.parametrize('n', [1, 2])")
    text = (project.path / "test_mine.py").read_text().replace("(harbor_task)", "(harbor_task, n)")
    (project.path / "test_mine.py").write_text(text)
    assert len(project.ids(ALL, "test_mine.py")) == 4


def test_task_requested_by_a_fixture(project, tasks):
    project.file(
        "test_mine.py",
        "import pytest\n\n@pytest.fixture\ndef mine(harbor_task):\n    return harbor_task.name\n\n"
        "@pytest.mark.harbor('tb2')\ndef test_it(mine):\n    assert mine in ('a', 'ab')\n",
    )
    assert project.run(ALL, "test_mine.py").counts == {"passed": 2}


def test_classes_and_module_marks(project, tasks):
    project.file(
        "test_mine.py",
        "import pytest\npytestmark = pytest.mark.harbor('tb2')\n\nclass TestIt:\n    def test_one(self, harbor_task): pass\n",  # noqa: E501
    )
    assert len(project.ids(ALL, "test_mine.py")) == 2


@pytest.mark.parametrize(
    "mark, messages",
    [
        ("harbor(dataset='nowhere')", ["test_mine.py", "test_it", "nowhere", "does not exist"]),
        ("harbor(datset='tb2')", ["dataset and task", "datset"]),
        ("harbor('tb2', 'a', 'b')", ["dataset and task"]),
        ("harbor(dataset=3)", ["dataset", "3"]),
        ("harbor(task=['a', 'b'])", ["task", "['a', 'b']"]),
        ("harbor('tb2', dataset='tb2')", ["dataset", "twice"]),
        ("harbor(dataset='tb2', task='nosuch')", ["test_mine.py", "test_it", "nosuch"]),
    ],
)
def test_invalid_arguments_of_the_mark(project, tasks, mark, messages):
    with_mark(project, f"@pytest.mark.{mark}")
    outcome = project.run(ALL, "test_mine.py")
    assert outcome.ret in (2, 4), str(outcome)
    outcome.has(*messages)
    outcome.shows_no_bug()


def test_mark_without_a_dataset(project):
    with_mark(project, "@pytest.mark.harbor")
    outcome = project.run("test_mine.py")
    assert outcome.ret in (2, 4), str(outcome)
    outcome.has("--harbor-dataset")
    outcome.shows_no_bug()


def test_fixture_without_mark_and_dataset(project):
    with_mark(project, "")
    outcome = project.run("test_mine.py")
    assert outcome.counts == {"errors": 1}
    outcome.has(
        "test_mine.py::test_it requests harbor_task, but there are no tasks; give --harbor-dataset",
        "@pytest.mark.harbor",
    )
    outcome.shows_no_bug()


def test_error_in_one_file_does_not_affect_others(project, tasks):
    with_mark(project, "@pytest.mark.harbor(dataset='nowhere')")
    project.file("test_other.py", "def test_other(): pass\n")
    outcome = project.run(".", "--continue-on-collection-errors")
    assert outcome.counts == {"passed": 1, "errors": 1}


def test_broken_and_unsupported_tasks(project):
    project.task("tb2/broken", "= =")
    project.task("tb2/good")
    project.task("tb2/odd", '[environment]\nos = "windows"\n')
    with_mark(project, "@pytest.mark.harbor('tb2')")
    outcome = project.run("test_mine.py", "-rs")
    assert outcome.counts == {"errors": 1, "passed": 1, "skipped": 1}
    outcome.has("task.toml: line 1, column 1", "windows environments are not supported")
    outcome.shows_no_bug()


def test_trial_needs_an_agent(project, tasks):
    project.file(
        "test_mine.py",
        "import pytest\n\n@pytest.mark.harbor('data/tb2')\ndef test_it(harbor_trial):\n    assert harbor_trial.reward == 1\n",  # noqa: E501
    )
    outcome = project.run("test_mine.py")
    assert outcome.ret != 0
    outcome.has("no agent was chosen")
    outcome.shows_no_bug()


def test_trial_without_an_engine(project, tasks):
    project.file(
        "test_mine.py",
        "import pytest\n\n@pytest.mark.harbor('data/tb2', 'a')\ndef test_it(harbor_trial):\n    assert harbor_trial.reward == 1\n",  # noqa: E501
    )
    outcome = project.run("test_mine.py", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1}
    outcome.has(
        "tb2/a [build] looking for image python:3.11-slim: the Docker Engine does not answer",
        "0 passed, 0 failed, 0 unverified, 1 error",
    )
    outcome.shows_no_bug()
    (result,) = project.results()
    assert (result["task"], result["outcome"]) == ("tb2/a", "error")


def test_test_without_a_trial_has_no_result(project, tasks):
    """A result would count in summaries and gates, although nothing ran."""
    with_mark(project, "@pytest.mark.harbor('tb2')")
    project.run(ALL, "test_mine.py", "--harbor-agent=nop")
    assert not list(project.path.glob("harbor-results/*/results.jsonl")) or project.results() == []


def test_mark_on_a_test_without_task_fixtures(project):
    project.file("test_mine.py", "import pytest\n\n@pytest.mark.harbor\ndef test_it(): pass\n")
    assert project.run("test_mine.py", "--strict-markers").counts == {"passed": 1}


def test_wrong_mark_is_found(project, tasks):
    project.file(
        "test_mine.py", "import pytest\n\n@pytest.mark.harbor('data/tb2', tasks='a')\ndef test_it(harbor_trial): pass\n"
    )
    outcome = project.run("test_mine.py", "--harbor-agent=nop")
    assert outcome.ret == 2
    assert re.search(
        r"test_mine.py:[34]: the mark harbor of test_it takes the arguments dataset and task,", outcome.out
    )


def test_run_is_described_if_only_tests_of_the_user_have_tasks(project):
    project.rewards(a=1.0)
    project.file("test_mine.py", "def test_it(harbor_trial): pass\n")
    project.ini("harbor_dataset = tb2")
    outcome = project.run("test_mine.py", "--harbor-agent=nop")
    assert outcome.counts == {"passed": 1}
    outcome.has("harbor: agent nop, threshold 1\nharbor: environment fake")


def test_usage(project):
    project.rewards(cheap=1.0, dear=1.0, blind=1.0)
    project.usage(cheap={"requests": 3, "output_tokens": 400}, dear={"requests": 3, "output_tokens": 60_000})
    project.file(
        "test_mine.py",
        "import pytest\n\n@pytest.mark.harbor('tb2')\ndef test_it(harbor_trial):\n"
        "    assert harbor_trial.usage.output_tokens < 50_000\n",
    )
    outcome = project.run("test_mine.py", "--harbor-agent=nop")
    assert outcome.counts == {"passed": 1, "failed": 2}
    outcome.has(
        "assert 60000 < 50000",
        "NoUsage: the model usage of agent nop was not metered; run with --harbor-proxy=live (or record, replay, auto)",
    )
    outcome.lacks("INTERNALERROR", "pytest_harbor/", "AttributeError")


@pytest.mark.slow
def test_in_workers(project, tasks):
    with_mark(project, "@pytest.mark.harbor('../data/tb2')", "tests/test_mine.py")
    outcome = project.run("tests", "-n", "2", "-v", subprocess=True)
    assert outcome.counts == {"passed": 2}
    outcome.has("tests/test_mine.py::test_it[ab]")


USES_AN_ENVIRONMENT = """
import pytest

@pytest.mark.harbor('tb2')
def test_image(harbor_environment):
    assert harbor_environment.exec("true").exit_code == 0

@pytest.mark.harbor('tb2')
def test_task(harbor_task):
    assert harbor_task.instruction

@pytest.mark.harbor('tb2')
def test_unused(harbor_task, request):
    request.getfixturevalue("harbor_trial")
"""


@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_trials_that_never_ran_are_not_reported(project, workers):
    project.rewards(a=1.0)
    project.file("test_mine.py", USES_AN_ENVIRONMENT)
    words = ["-n", "2"] if workers else []
    outcome = project.run("test_mine.py", "--harbor-agent=nop", "--junitxml=out.xml", *words, subprocess=workers)
    assert outcome.counts == {"passed": 3}
    outcome.lacks("= harbor =", "error", "results.jsonl")
    assert not list(project.path.glob("harbor-results/*/results.jsonl"))
    assert "harbor_" not in (project.path / "out.xml").read_text()


def test_environment_that_does_not_start(project, tasks):
    project.file("test_mine.py", USES_AN_ENVIRONMENT.replace("'tb2'", "'data/tb2', 'a'"))
    outcome = project.run("test_mine.py", "-k", "image")
    assert outcome.counts == {"errors": 1, "deselected": 2}
    outcome.has("tb2/a [build] looking for image ", "test_image[a] - looking for image ")
    outcome.lacks("= harbor =")
    outcome.shows_no_bug()
    assert not list(project.path.glob("harbor-results/*/results.jsonl"))


def test_trial_requested_by_name(project):
    project.rewards(a=0.5)
    text = "\n    assert request.getfixturevalue('harbor_trial').reward == 0.5\n"
    project.file(
        "test_mine.py", f"import pytest\n\n@pytest.mark.harbor('tb2')\ndef test_it(harbor_environment, request):{text}"
    )
    outcome = project.run("test_mine.py", "--harbor-agent=nop", "-v")
    assert outcome.counts == {"passed": 1}
    outcome.has("PASSED reward 0.50")
    assert [result["outcome"] for result in project.results()] == ["failed"]


@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_failing_test_shows_its_trial(project, workers):
    project.rewards(a=1.0)
    project.file(
        "test_mine.py",
        "import pytest\n\n@pytest.mark.harbor('tb2')\ndef test_it(harbor_trial):\n    assert harbor_trial.reward > 1\n",
    )
    words = ["-n", "1"] if workers else []
    outcome = project.run("test_mine.py", "--harbor-agent=nop", *words, subprocess=workers)
    assert outcome.counts == {"failed": 1}
    (result,) = project.results()
    directory = Path(result["directory"])
    outcome.has(
        f"where 1.0 = <Trial tb2/a passed, reward 1, {directory}>.reward",
        "- trial tb2/a -",
        "tb2/a: passed; reward 1, needs 1 (agent nop exited with 0)",
        f"Logs: {directory.relative_to(project.path)}",
    )
    outcome.lacks("pytest_harbor/")


def test_own_frames_are_not_in_the_traceback(project):
    project.rewards(a=1.0)
    project.file(
        "test_mine.py",
        "import pytest\nfrom pytest_harbor import Dataset\n\n"
        "@pytest.mark.harbor('tb2')\ndef test_it(harbor_task):\n    Dataset('nowhere')\n",
    )
    outcome = project.run("test_mine.py")
    assert outcome.counts == {"failed": 1}
    outcome.has(">       Dataset('nowhere')\nE ")
    outcome.lacks("pytest_harbor/")
    project.run("test_mine.py", "--full-trace").has("pytest_harbor/task/")


TWO = """
import pytest
pytestmark = pytest.mark.harbor(dataset="tb2")
def test_b(harbor_trial): pass
def test_a(harbor_trial): pass
"""


def test_other_tests_of_a_task_are_not_attempts(project):
    project.rewards(a=1.0)
    project.file("test_mine.py", TWO)
    run = ("--harbor-agent=nop", "--harbor-attempts=2", "--harbor-save-baseline=base.json")
    outcome = project.run("test_mine.py", *run)
    assert outcome.counts == {"passed": 4}
    outcome.has(
        "nop: pass@1 100.0%, pass@2 100.0%",
        "note: each test that takes harbor_trial runs its own trial; gates, baselines and pass@k do not count those of "
        "test_mine.py::test_b\n",
    )
    assert Baseline.read(project.path / "base.json").samples["tb2/a", "nop"].rewards == (1.0, 1.0)
    outcome = project.run("test_mine.py", "tb2", *run)
    outcome.has("do not count those of test_mine.py::test_a, test_mine.py::test_b\n")
    assert Baseline.read(project.path / "base.json").samples["tb2/a", "nop"].rewards == (1.0, 1.0)
    project.run("test_mine.py", *run, "-k", "test_a").lacks("do not count those of")

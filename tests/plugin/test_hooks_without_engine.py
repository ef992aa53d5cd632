"""Hooks that work without an engine: selecting, changing and classifying tasks."""

from __future__ import annotations

import pytest

SKIPPED = '[environment]\nos = "windows"\n'


def hook(project, text: str, where: str = "conftest.py"):
    return project.file(where, text)


def test_task_hook_returning_false_excludes_the_task(project):
    project.task("tb2/a", '[metadata]\ntags = ["slow"]\n')
    project.task("tb2/b")
    hook(project, "def pytest_harbor_task(task): return False if 'slow' in task.tags else None\n")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/b/task.toml::b"]


@pytest.mark.parametrize("answer", ["None", "task", "True"])
def test_task_hook_keeps_the_task(project, answer):
    project.task("tb2/a")
    hook(project, f"def pytest_harbor_task(task): return {answer}\n")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/a/task.toml::a"]


def test_task_hook_replaces_the_task(project):
    project.task("tb2/a")
    hook(
        project,
        "def pytest_harbor_task(task):\n"
        "    return task.with_changes(instruction=task.instruction + 'Be brief.', config=task.config.model_copy(\n"
        "        update={'metadata': {'difficulty': 'changed'}}))\n",
    )
    project.file(
        "test_mine.py", "def test_it(harbor_task): assert harbor_task.instruction == 'Say hello.\\nBe brief.'\n"
    )
    assert project.run("--harbor-dataset=tb2", "test_mine.py").counts == {"passed": 1}
    assert project.ids("--harbor-dataset=tb2", "-m", "difficulty_changed") == ["tb2/a/task.toml::a"]


def test_task_hook_changes_whether_a_task_is_supported(project):
    project.task("tb2/a", SKIPPED)
    hook(
        project,
        "def pytest_harbor_task(task):\n"
        "    environment = task.config.environment.model_copy(update={'os': 'linux'})\n"
        "    return task.with_changes(config=task.config.model_copy(update={'environment': environment}))\n",
    )
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1}
    outcome.has("the Docker Engine does not answer")


def test_task_hook_applies_to_user_tests(project):
    project.task("tb2/a")
    project.task("tb2/b")
    hook(project, "def pytest_harbor_task(task): return False if task.name == 'a' else None\n")
    project.file("test_mine.py", "def test_it(harbor_task): pass\n")
    assert project.ids("--harbor-dataset=tb2", "test_mine.py") == ["test_mine.py::test_it[b]"]


def test_task_hook_applies_only_below_its_conftest(project):
    project.task("first/a")
    project.task("second/a")
    hook(project, "def pytest_harbor_task(task): return False\n", "first/conftest.py")
    assert project.ids("--harbor-dataset=first", "--harbor-dataset=second") == ["second/a/task.toml::a"]


def test_task_hook_is_called_once_per_task(project):
    for name in "abc":
        project.task(f"tb2/{name}")
    hook(project, "def pytest_harbor_task(task):\n    with open('asked', 'a') as file: print(task.id, file=file)\n")
    project.ids("--harbor-dataset=tb2", "--harbor-attempts=2")
    assert (project.path / "asked").read_text().split() == ["tb2/a", "tb2/b", "tb2/c"]


def test_task_hook_gets_the_config(project):
    project.task("tb2/a")
    hook(project, "def pytest_harbor_task(task, config): return config.option.verbose < 1\n")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/a/task.toml::a"]
    outcome = project.run("--harbor-dataset=tb2", "--collect-only", "-v")
    outcome.has("no tests collected")


def test_exception_in_the_task_hook(project):
    project.task("tb2/a")
    project.task("tb2/b")
    hook(project, "def pytest_harbor_task(task):\n    if task.name == 'a': raise ValueError('my mistake')\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.ret in (1, 2)
    outcome.has("tb2/a [setup] the hook pytest_harbor_task raised ValueError: my mistake", "tb2/b [build]")
    outcome.shows_no_bug()
    (file,) = project.path.glob("harbor-results/*/a__*/exception.txt")
    assert "conftest.py" in file.read_text()


@pytest.mark.parametrize("answer", ["'nop'", "0", "[]"])
def test_task_hook_returns_an_invalid_value(project, answer):
    project.task("tb2/a")
    hook(project, f"def pytest_harbor_task(task): return {answer}\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1}
    outcome.has("pytest_harbor_task", "a Task, False or None")
    outcome.shows_no_bug()


def test_task_hook_with_a_broken_task(project):
    project.task("tb2/broken", "= =")
    project.task("tb2/good", SKIPPED)
    hook(project, "def pytest_harbor_task(task): return False if task.name == 'broken' else None\n")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/good/task.toml::good"]
    hook(project, "def pytest_harbor_task(task): return None if task.tags else None\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1, "skipped": 1}
    outcome.has("task.toml: line 1, column 1")


def test_finished_hook_is_called_after_results_are_written(project):
    project.task("tb2/a")
    project.task("tb2/b", SKIPPED)
    hook(
        project,
        "from pathlib import Path\n"
        "def pytest_harbor_trial_finished(task, result):\n"
        "    lines = len((Path(result.directory).parent / 'results.jsonl').read_text().splitlines())\n"
        "    with open('calls', 'a') as file: print(task.id, result.outcome, lines, file=file)\n",
    )
    project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert (project.path / "calls").read_text() == "tb2/a error 1\ntb2/b skipped 2\n"


def test_exception_in_the_finished_hook(project):
    project.task("tb2/a")
    hook(project, "def pytest_harbor_trial_finished(result): raise ValueError('my mistake')\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1}
    outcome.has("the Docker Engine does not answer", "my mistake", "pytest_harbor_trial_finished")


def test_error_class_hook(project):
    project.task("tb2/a")
    hook(project, "def pytest_harbor_error_class(error, phase): return 'failed' if phase == 'build' else None\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.ret == 1
    (result,) = project.results()
    assert (result["outcome"], result["reward"]) == ("failed", 0.0)
    outcome.has("0 passed, 1 failed, 0 unverified, 0 errors")


def test_error_class_hook_returns_an_invalid_value(project):
    project.task("tb2/a")
    hook(project, "def pytest_harbor_error_class(error, phase): return 'flaky'\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    assert outcome.counts == {"errors": 1}
    outcome.has("flaky", "pytest_harbor_error_class", "unverified")
    outcome.shows_no_bug()

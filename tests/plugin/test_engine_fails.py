"""The engine fails during a run: each trial is an error with a fix, and everything else runs."""

from __future__ import annotations

import pytest

FACT = "the Docker Engine does not answer (the connection was closed)"
FIX = "start Docker, or select a running engine with DOCKER_HOST or `docker context use`"


def test_error_has_fact_and_fix(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "-v")
    assert outcome.ret == 1
    assert outcome.counts == {"errors": 1}
    outcome.has("tb2/a/task.toml::a ERROR", f"tb2/a [build] looking for image python:3.11-slim: {FACT}", FIX)
    outcome.shows_no_bug()


def test_header(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    header = outcome.out.partition("tb2/a/task.toml")[0]
    for text in (
        "harbor: ",
        "tb2",
        "1 task",
        "agent nop",
        "environment docker (Engine 20.10, 2 CPUs)",
        "results harbor-results/20",
    ):
        assert text in header


def test_error_is_not_a_failure_or_part_of_the_pass_rate(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop")
    outcome.has(": 0 passed, 0 failed, 0 unverified, 1 error")
    outcome.lacks("pass rate", "mean reward", "FAILED")


def test_record_only_and_threshold_zero_do_not_hide_the_error(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-record-only", "--harbor-threshold=0")
    assert outcome.ret == 1
    assert outcome.counts == {"errors": 1}


def test_results_contain_every_error(project):
    project.task("tb2/a")
    project.task("tb2/b")
    project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-attempts=2")
    results = project.results()
    assert [(r["task"], r["attempt"]) for r in results] == [("tb2/a", 1), ("tb2/a", 2), ("tb2/b", 1), ("tb2/b", 2)]
    for result in results:
        assert result["schema_version"] == 1
        assert (result["outcome"], result["reward"], result["phase"], result["agent"]) == (
            "error",
            None,
            "build",
            "nop",
        )
        assert FACT in result["reason"]
        assert result["retries"] == []
        assert result["finished_at"] >= result["started_at"]
    assert len({result["directory"] for result in results}) == 4


def test_other_tests_of_the_run_pass(project):
    project.task("tb2/a")
    project.file("test_unit.py", "def test_one(): pass\ndef test_two(): assert 0\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", ".")
    assert outcome.counts == {"errors": 1, "passed": 1, "failed": 1}


@pytest.mark.slow
def test_other_tests_of_the_run_pass_in_workers(project):
    project.task("tb2/a")
    project.task("tb2/b")
    project.file("test_unit.py", "def test_one(): pass\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", ".", "-n", "2", subprocess=True)
    assert outcome.counts == {"errors": 2, "passed": 1}
    outcome.has(": 0 passed, 0 failed, 0 unverified, 2 errors", FACT)
    outcome.shows_no_bug()
    assert [result["task"] for result in sorted(project.results(), key=lambda r: r["task"])] == ["tb2/a", "tb2/b"]


def test_collecting_does_not_contact_an_engine(project, monkeypatch):
    from pytest_harbor.environment.docker import DockerProvider

    def refuse(*_):
        raise AssertionError("the engine was asked")

    monkeypatch.setattr(DockerProvider, "_connect", refuse)
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--collect-only")
    assert outcome.ret == 0
    outcome.has("tb2 (1 task)")
    outcome.lacks("environment", "Engine")


def test_warnings_as_errors(project):
    project.task("tb2/a")
    project.ini("filterwarnings = error")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", subprocess=True)
    assert outcome.counts == {"errors": 1}
    outcome.shows_no_bug()


@pytest.mark.parametrize("where", ["/proc/nowhere", "file"])
def test_results_directory_that_cannot_be_created(project, where):
    project.file("file", "")
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", f"--harbor-results={where}")
    assert outcome.ret == 4
    outcome.has("--harbor-results: ", "cannot be written")
    outcome.shows_no_bug()


def test_results_directory_is_ignored_by_git_and_shown(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--harbor-results=out")
    (file,) = project.path.glob("out/*/results.jsonl")
    outcome.has(f"results: {file.relative_to(project.path)}", f"harbor: results out/{file.parent.name}")
    assert "\n*\n" in (project.path / "out" / ".gitignore").read_text()


def test_traceback_is_only_in_the_trial_directory(project):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--tb=long", "-vv", "--showlocals")
    outcome.shows_no_bug()
    (result,) = project.results()
    (file,) = project.path.glob("harbor-results/*/a__*/exception.txt")
    assert str(file.parent) == result["directory"]
    assert "Traceback" in file.read_text()
    outcome.has(f"Logs: {file.parent.relative_to(project.path)}")


@pytest.mark.parametrize("style", ["short", "line", "native", "no", "auto"])
def test_traceback_styles(project, style):
    project.task("tb2/a")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", f"--tb={style}")
    assert outcome.counts == {"errors": 1}
    outcome.shows_no_bug()


def test_pdb(project):
    project.task("tb2/a")
    project.file("conftest.py", "import pdb\npdb.Pdb.interaction = lambda *a, **k: print('PDB ENTERED')\n")
    outcome = project.run("--harbor-dataset=tb2", "--harbor-agent=nop", "--pdb", subprocess=True)
    assert outcome.counts == {"errors": 1}
    outcome.lacks("INTERNALERROR", "is still running")
